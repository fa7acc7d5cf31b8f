// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

func (a *app) topics() *cobra.Command {
	return cli.Group("topics", "List, show, change, purge and delete topics", "  ronctl mailbox topics list", a.topicsList(), a.topicsShow(), a.topicsSet(), a.topicsPurge(), a.topicsDelete())
}

// all lists the topics whose name begins with prefix.
func (a *app) all(c *cobra.Command, prefix string) (all []mailbox.Status, err error) {
	ctx, cl, err := a.dial(c)
	if err != nil {
		return nil, err
	}
	err = pages(0, func(cursor string, n int) (int, string, error) {
		page, next, err := mailbox.Topics(ctx, cl, prefix, cursor, n)
		all = append(all, page...)
		return len(page), next, err
	})
	return all, err
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) topicsList() *cobra.Command {
	return &cobra.Command{
		Use: "list [PREFIX]", Short: "List topics by name", Args: cli.MaxArgs(1), Example: "  ronctl mailbox topics list\n  ronctl mailbox topics list orders. --json",
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.all(c, first(args))
			if err != nil {
				return err
			}
			return writeList(a, "topics", all, func(w io.Writer, s *mailbox.Status) {
				fmt.Fprintf(w, "%s\t%d ready\t%d in flight\t%d dead\n", s.Topic, s.Depth.Ready, s.Depth.InFlight, s.Depth.Dead)
			})
		},
	}
}

func (a *app) stats() *cobra.Command {
	return &cobra.Command{
		Use: "stats [PREFIX]", Short: "Show what topics hold and what became of what came in", Args: cli.MaxArgs(1), Example: "  ronctl mailbox stats\n  watch ronctl mailbox stats jobs",
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.all(c, first(args))
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"topics": append([]mailbox.Status{}, all...)}, func(w io.Writer) {
				fmt.Fprintln(w, "TOPIC\tREADY\tDELAYED\tIN FLIGHT\tDEAD\tOLDEST\tSENT\tACKED\tBYTES")
				for _, s := range all {
					oldest := "-"
					if s.OldestUnacked > 0 {
						oldest = time.Duration(s.OldestUnacked).Round(time.Second).String()
					}
					d := s.Depth
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%d\n", s.Topic, d.Ready, d.Delayed, d.InFlight, d.Dead, oldest, s.Counts["sent"], s.Counts["acked"], d.Bytes)
				}
			})
		},
	}
}

// printTopic prints one in full.
func (a *app) printTopic(s mailbox.Status) error {
	return a.Print(s, func(w io.Writer) {
		d, c := s.Depth, s.Config
		fmt.Fprintf(w, "topic\t%s\nready\t%d\ndelayed\t%d\nin flight\t%d\ndead\t%d\nbytes\t%d\nwaiting receivers\t%d\n", s.Topic, d.Ready, d.Delayed, d.InFlight, d.Dead, d.Bytes, s.Waiting)
		fmt.Fprintf(w, "oldest unacked\t%v\n", s.OldestUnacked)
		fmt.Fprintf(w, "retention\t%v\ndlq retention\t%v\nreplay window\t%v\nvisibility\t%v\n", c.Retention, c.DLQRetention, c.ReplayWindow, c.Visibility)
		fmt.Fprintf(w, "max attempts\t%d\nmax depth\t%d\nmax bytes\t%d\nmax in flight\t%d\nmax keys\t%d\n", c.MaxAttempts, c.MaxDepth, c.MaxBytes, c.MaxInFlight, c.MaxKeys)
		if c.MaxAge != 0 {
			fmt.Fprintf(w, "max age\t%v\n", c.MaxAge)
		}
		if c.DLQ != "" {
			fmt.Fprintf(w, "dlq\t%s\n", c.DLQ)
		}
		fmt.Fprintf(w, "ordered\t%v\nkeep expired\t%v\n", c.Ordered != nil && *c.Ordered, c.ExpiredToDead != nil && *c.ExpiredToDead)
	})
}

func (a *app) topicsShow() *cobra.Command {
	return a.topicCommand("show TOPIC", "Show a topic's config and what it holds", "  ronctl mailbox topics show jobs", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			s, err := t.Status(ctx)
			if err != nil {
				return err
			}
			return a.printTopic(s)
		})
}

// configFlags are those of a topic's config.
type configFlags struct {
	times  map[string]*time.Duration
	counts map[string]*int64
	dlq    string
	bools  map[string]*bool
}

func (f *configFlags) add(fl *pflag.FlagSet) {
	f.times, f.counts, f.bools = map[string]*time.Duration{}, map[string]*int64{}, map[string]*bool{}
	for _, d := range [][2]string{{"retention", "how long a message waits at most"}, {"dlq-retention", "how long a dead letter is kept"},
		{"replay-window", "how long a repeated idempotency key is recognised"}, {"visibility", "how long a received message is hidden, where the receiver does not say"},
		{"max-age", "how old the oldest message without an ack may be while the topic takes more"}} {
		f.times[d[0]] = fl.Duration(d[0], 0, d[1])
	}
	for _, d := range [][2]string{{"max-attempts", "deliveries after which a message becomes a dead letter"}, {"max-depth", "messages that it holds"}, {"max-bytes", "bytes that it holds"},
		{"max-in-flight", "messages received and not settled"}, {"max-keys", "idempotency keys remembered"}} {
		f.counts[d[0]] = fl.Int64(d[0], 0, d[1])
	}
	fl.StringVar(&f.dlq, "dlq", "", "topic whose dead-letter queue takes the dead; empty: its own")
	f.bools["ordered"] = fl.Bool("ordered", false, "all messages in order, as if they had one key")
	f.bools["keep-expired"] = fl.Bool("keep-expired", false, "what expires becomes a dead letter")
}

// change puts what was given into c.
func (f *configFlags) change(fl *pflag.FlagSet, c *mailbox.Config) (changed bool) {
	for name, to := range map[string]*mailbox.Millis{"retention": &c.Retention, "dlq-retention": &c.DLQRetention, "replay-window": &c.ReplayWindow, "visibility": &c.Visibility, "max-age": &c.MaxAge} {
		if fl.Changed(name) {
			*to, changed = mailbox.Millis(*f.times[name]), true
		}
	}
	for name, to := range map[string]*int64{"max-attempts": &c.MaxAttempts, "max-depth": &c.MaxDepth, "max-bytes": &c.MaxBytes, "max-in-flight": &c.MaxInFlight, "max-keys": &c.MaxKeys} {
		if fl.Changed(name) {
			*to, changed = *f.counts[name], true
		}
	}
	for name, to := range map[string]**bool{"ordered": &c.Ordered, "keep-expired": &c.ExpiredToDead} {
		if fl.Changed(name) {
			*to, changed = f.bools[name], true
		}
	}
	if fl.Changed("dlq") {
		c.DLQ, changed = f.dlq, true
	}
	return changed
}

func (a *app) topicsSet() *cobra.Command {
	var f configFlags
	c := &cobra.Command{
		Use: "set TOPIC", Short: "Make a topic, or change its config", Args: cli.ExactArgs(1),
		Long:    "set makes the topic where it is not there, with the node's defaults. What is not given stays as it is.",
		Example: "  ronctl mailbox topics set jobs --max-attempts 10 --visibility 5m\n  ronctl mailbox topics set ledger --ordered --dlq failures",
		RunE: func(c *cobra.Command, args []string) error {
			for name, v := range f.times {
				if c.Flags().Changed(name) && *v <= 0 {
					return cli.Usagef("--%s is more than 0", name)
				}
			}
			for name, v := range f.counts {
				if c.Flags().Changed(name) && *v < 1 {
					return cli.Usagef("--%s is at least 1", name)
				}
			}
			ctx, t, err := a.topic(c, args)
			if err != nil {
				return err
			}
			s, err := t.Status(ctx)
			there := err == nil
			if err != nil && !missing(err) {
				return err
			}
			if f.change(c.Flags(), &s.Config) || !there {
				if s, err = t.Put(ctx, s.Config); err != nil {
					return err
				}
			}
			return a.printTopic(s)
		},
	}
	f.add(c.Flags())
	return c
}

func (a *app) topicsPurge() *cobra.Command {
	var yes bool
	c := a.topicCommand("purge TOPIC", "Drop all messages of a topic, received ones too; dead letters stay", "  ronctl mailbox topics purge jobs --yes", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			if err := confirm(yes, "drops every message of "+t.Name()); err != nil {
				return err
			}
			n, err := t.Purge(ctx)
			if err != nil {
				return err
			}
			return a.Print(map[string]int64{"purged": n}, func(w io.Writer) { fmt.Fprintf(w, "purged %d messages\n", n) })
		})
	c.Flags().BoolVar(&yes, "yes", false, "really")
	return c
}

func (a *app) topicsDelete() *cobra.Command {
	var yes bool
	c := a.topicCommand("delete TOPIC", "Delete a topic with all that is in it, dead letters too", "  ronctl mailbox topics delete jobs --yes", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			if err := confirm(yes, "deletes "+t.Name()+" and all that is in it"); err != nil {
				return err
			}
			if err := t.Delete(ctx); err != nil {
				return err
			}
			return a.Print(map[string]string{"deleted": t.Name()}, func(w io.Writer) { fmt.Fprintln(w, "deleted", t.Name()) })
		})
	c.Flags().BoolVar(&yes, "yes", false, "really")
	return c
}
