// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// recvFlags say what is received, and what becomes of it.
type recvFlags struct {
	n                int
	wait, visibility time.Duration
	ack, raw, ndjson bool
	exec             string
	jobs             int
	drain            bool
}

func (a *app) recv() *cobra.Command {
	var f recvFlags
	c := &cobra.Command{
		Use: "recv TOPIC", Short: "Receive messages, and perhaps acknowledge them or run a command for each", Args: cli.ExactArgs(1),
		Long: "recv prints up to -n messages, oldest first, with the receipts that ack, nack and extend\n" +
			"take. They are hidden from others until their visibility ends, and come again then unless\n" +
			"they were acked; --ack does that once they are printed. Nothing there is no error.\n\n" +
			"--ndjson prints a document a line, with the payload in base64, and as text where it is that;\n" +
			"--raw prints payloads alone, a newline behind each.\n\n" +
			"--exec runs CMD with the shell for each message, the payload on its standard input, and\n" +
			"RON_MSG_ID, RON_TOPIC, RON_ATTEMPT, RON_KEY, RON_CORR_ID and RON_ATTR_NAME in its\n" +
			"environment. Exit 0 acks; anything else nacks, and the message comes again after a while.\n" +
			"It goes on until it is interrupted, -n messages were handled or, with --drain, none is\n" +
			"left. What takes long is extended; on the first interrupt commands may finish.",
		Example: "  ronctl mailbox recv jobs --wait 20s\n  ronctl mailbox recv jobs --raw --ack > body\n  ronctl mailbox recv jobs -n 100 --ndjson --ack | jq -r .text\n" +
			"  ronctl mailbox recv jobs --exec './resize.sh' --jobs 4\n  ronctl mailbox recv jobs --exec 'cat >> log' --drain",
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.judge(c); err != nil {
				return err
			}
			ctx, t, err := a.topic(c, args)
			if err != nil {
				return err
			}
			if f.exec != "" {
				return a.runEach(ctx, t, &f)
			}
			return a.recvOnce(ctx, t, &f)
		},
	}
	fl := c.Flags()
	fl.IntVarP(&f.n, "max", "n", 0, "messages at most; default 1, with --exec any number")
	fl.DurationVar(&f.wait, "wait", 0, "wait so long where there is none; the node bounds it")
	fl.DurationVar(&f.visibility, "visibility", 0, "hide them from others for so long; default the topic's")
	fl.BoolVar(&f.ack, "ack", false, "ack them once they are printed")
	fl.BoolVar(&f.raw, "raw", false, "print payloads alone")
	fl.BoolVar(&f.ndjson, "ndjson", false, "print a JSON document a line")
	fl.StringVar(&f.exec, "exec", "", "run this command with the shell for each message; ack where it exits 0")
	fl.IntVar(&f.jobs, "jobs", 1, "with --exec: commands at a time")
	fl.BoolVar(&f.drain, "drain", false, "with --exec: end once nothing is left")
	return c
}

func (f *recvFlags) judge(c *cobra.Command) error {
	set := c.Flags().Changed
	switch {
	case f.n < 0 || f.wait < 0 || f.visibility < 0 || f.jobs < 1:
		return cli.Usagef("-n, --wait and --visibility are not negative, --jobs is at least 1")
	case set("exec") && f.exec == "":
		return cli.Usagef("--exec needs a command")
	case f.exec == "" && (f.drain || set("jobs")):
		return cli.Usagef("--jobs and --drain go with --exec")
	case f.exec != "" && (f.ack || f.raw || f.ndjson):
		return cli.Usagef("--exec acks by itself and prints nothing: no --ack, --raw or --ndjson beside it")
	case f.raw && f.ndjson:
		return cli.Usagef("--raw or --ndjson, not both")
	}
	return nil
}

// received is a message as it is printed.
type received struct {
	*mailbox.Delivery
	Text string `json:"text,omitempty"`
}

func show(m *mailbox.Delivery) received {
	r := received{Delivery: m}
	if utf8.Valid(m.Payload) {
		r.Text = string(m.Payload)
	}
	return r
}

// recvOnce receives up to n messages: what is there, in as many calls as that takes.
func (a *app) recvOnce(ctx context.Context, t *mailbox.Topic, f *recvFlags) error {
	document := a.JSON() && !f.raw && !f.ndjson
	all := []received{}
	var failed error
	for n, most := 0, max(f.n, 1); n < most && failed == nil; {
		w := mailbox.Want{Max: min(most-n, batchMessages), Visibility: f.visibility}
		if n == 0 {
			w.Wait = f.wait
		}
		var got []mailbox.Delivery
		if got, failed = t.Receive(ctx, w); len(got) == 0 {
			break
		}
		n += len(got)
		page := make([]received, len(got))
		for i := range got {
			page[i] = show(&got[i])
		}
		if document {
			all = append(all, page...)
			continue
		}
		if err := a.tellReceived(page, f.raw, f.ndjson); err != nil {
			return err // what cannot be printed is not acked
		}
		if f.ack {
			if err := ackAll(ctx, t, page); err != nil {
				return errors.Join(failed, err)
			}
		}
	}
	if !document {
		return failed
	}
	err := a.Print(map[string]any{"messages": all}, nil)
	if err == nil && f.ack {
		err = ackAll(ctx, t, all)
	}
	return errors.Join(failed, err)
}

// ackAll acks what was printed.
func ackAll(ctx context.Context, t *mailbox.Topic, all []received) error {
	for page := range slices.Chunk(all, batchMessages) {
		receipts := make([]string, len(page))
		for i := range page {
			receipts[i] = page[i].Receipt
		}
		if _, err := t.Ack(ctx, receipts...); err != nil {
			return fmt.Errorf("printed, but not acked: %w", err)
		}
	}
	return nil
}

// tellReceived prints messages one by one.
func (a *app) tellReceived(all []received, raw, ndjson bool) error {
	for i := range all {
		m := &all[i]
		var err error
		switch {
		case raw:
			_, err = a.Out.Write(append(m.Payload, '\n'))
		case ndjson || a.JSON():
			err = a.line(m)
		default:
			_, err = fmt.Fprintf(a.Out, "%s  attempt %d  %s  %s\n", m.MsgID, m.Attempt, m.Receipt, payloadText(m.Payload))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) tail() *cobra.Command {
	var raw, keep bool
	var credit int
	c := a.topicCommand("tail TOPIC", "Print messages as they come, and acknowledge each", "  ronctl mailbox tail jobs\n  ronctl mailbox tail jobs --json | jq .text", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			if credit < 0 {
				return cli.Usagef("--credit is not negative")
			}
			sub := t.Subscribe(ctx, mailbox.Follow{Credit: credit, Report: func(err error) { fmt.Fprintf(a.Err, "the stream is made anew: %v\n", err) }})
			defer sub.Close()
			for {
				m, err := sub.Next()
				switch {
				case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
					return nil // interrupted, which is how it ends
				case err != nil:
					return err
				}
				if err := a.tellReceived([]received{show(m)}, raw, false); err != nil {
					return err
				}
				if keep {
					continue
				}
				if _, err := t.Ack(ctx, m.Receipt); err != nil && !errors.Is(err, mailbox.ErrLeaseLost) && ctx.Err() == nil {
					return fmt.Errorf("printed, but not acked: %w", err)
				}
			}
		})
	c.Long = "tail takes messages off the topic as the node pushes them, prints each, and acks it then,\nuntil it is interrupted. To look at a topic without taking anything: ronctl mailbox peek."
	fl := c.Flags()
	fl.BoolVar(&raw, "raw", false, "print payloads alone, a newline behind each")
	fl.BoolVar(&keep, "no-ack", false, "leave them unacknowledged: no more come than --credit says, and all come again")
	fl.IntVar(&credit, "credit", 0, "messages that may be out at a time; default the node's")
	return c
}
