// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// pollJob is how often a redrive is looked at that is waited for.
const pollJob = 500 * time.Millisecond

func (a *app) dlq() *cobra.Command {
	return cli.Group("dlq", "List, show, delete and redrive dead letters", "  ronctl mailbox dlq list jobs", a.dlqList(), a.dlqShow(), a.dlqDelete(), a.dlqRedrive(), a.dlqJobs())
}

func (a *app) dlqList() *cobra.Command {
	var reason string
	var limit int
	c := a.topicCommand("list TOPIC", "List a topic's dead letters, oldest first", "  ronctl mailbox dlq list jobs --reason max_attempts\n  ronctl mailbox dlq list jobs --json", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			if limit < 0 {
				return cli.Usagef("--limit is not negative")
			}
			var all []mailbox.Dead
			err := pages(limit, func(cursor string, n int) (int, string, error) {
				page, next, err := t.DeadLetters(ctx, reason, cursor, n)
				all = append(all, page...)
				return len(page), next, err
			})
			if err != nil {
				return err
			}
			return writeList(a, "messages", all, func(w io.Writer, d *mailbox.Dead) {
				fmt.Fprintf(w, "%s\t%s\tattempts %d\t%s\t%s\n", d.MsgID, d.Reason, d.Attempts, stamp(d.Died), payloadText([]byte(d.LastError)))
			})
		})
	fl := c.Flags()
	fl.StringVar(&reason, "reason", "", "max_attempts, integrity, expired or rejected alone")
	fl.IntVar(&limit, "limit", 100, "stop after this many; 0 lists all")
	return c
}

func (a *app) dlqShow() *cobra.Command {
	var raw bool
	c := a.topicCommand("show TOPIC MSG_ID", "Show a dead letter with its payload and what went wrong", "  ronctl mailbox dlq show jobs 01J…\n  ronctl mailbox dlq show jobs 01J… --raw > body", cli.ExactArgs(2),
		func(ctx context.Context, t *mailbox.Topic, args []string) error {
			d, err := t.DeadLetter(ctx, args[0])
			if err != nil {
				return err
			}
			if raw {
				if d.Damaged {
					return fmt.Errorf("the payload of %s is damaged, and is not given", d.MsgID)
				}
				_, err := a.Out.Write(d.Payload)
				return err
			}
			return a.Print(d, func(w io.Writer) {
				fmt.Fprintf(w, "message\t%s\nreason\t%s\nattempts\t%d\nlast error\t%s\nsent\t%s\ndied\t%s\nkey\t%s\nattrs\t%s\n",
					d.MsgID, d.Reason, d.Attempts, payloadText([]byte(d.LastError)), stamp(d.Time), stamp(d.Died), payloadText([]byte(d.Key)), attrsText(d.Attrs))
				for i, h := range d.History {
					fmt.Fprintf(w, "attempt %d\t%s\t%s\n", i+1, stamp(h.Time), payloadText([]byte(h.Error)))
				}
				if d.Damaged {
					fmt.Fprintln(w, "payload\tdamaged")
				} else {
					fmt.Fprintf(w, "payload\t%s\n", payloadText(d.Payload))
				}
			})
		})
	c.Flags().BoolVar(&raw, "raw", false, "print the payload alone, as it is")
	return c
}

// filterFlags choose dead letters.
type filterFlags struct {
	reason, before, after string
	all                   bool
}

func (f *filterFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.reason, "reason", "", "those with this reason: max_attempts, integrity, expired or rejected")
	fl.StringVar(&f.before, "before", "", "those that died before this time (RFC 3339)")
	fl.StringVar(&f.after, "after", "", "those that died at or after this time (RFC 3339)")
	fl.BoolVar(&f.all, "all", false, "all of them")
}

// filter is what flags and ids choose; nothing is nobody's wish.
func (f *filterFlags) filter(ids []string) (out mailbox.DeadFilter, err error) {
	chosen := len(ids) > 0 || f.reason != "" || f.before != "" || f.after != ""
	if chosen == f.all {
		return out, cli.Usagef("name messages, or choose with --reason, --before and --after, or say --all")
	}
	out = mailbox.DeadFilter{Reason: f.reason, MsgIDs: ids}
	for _, t := range []struct {
		flag, text string
		to         *int64
	}{{"before", f.before, &out.BeforeMS}, {"after", f.after, &out.AfterMS}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, t.text)
		if err != nil {
			return out, cli.Usagef("--%s is a time such as 2026-11-23T18:00:00Z", t.flag)
		}
		*t.to = at.UnixMilli()
	}
	return out, nil
}

func (a *app) dlqDelete() *cobra.Command {
	var f filterFlags
	var yes bool
	c := a.topicCommand("delete TOPIC [MSG_ID...]", "Delete dead letters", "  ronctl mailbox dlq delete jobs 01J… --yes\n  ronctl mailbox dlq delete jobs --reason expired --before 2026-11-01T00:00:00Z --yes", cli.MinArgs(1),
		func(ctx context.Context, t *mailbox.Topic, ids []string) error {
			filter, err := f.filter(ids)
			if err != nil {
				return err
			}
			if err := confirm(yes, "deletes dead letters of "+t.Name()); err != nil {
				return err
			}
			n, err := t.DeleteDeadLetters(ctx, filter)
			if err != nil {
				return err
			}
			return a.Print(map[string]int64{"deleted": n}, func(w io.Writer) { fmt.Fprintf(w, "deleted %d dead letters\n", n) })
		})
	f.add(c)
	c.Flags().BoolVar(&yes, "yes", false, "really")
	return c
}

func writeJob(w io.Writer, j *mailbox.Job) {
	what := j.State
	if j.DryRun {
		what += ", dry run"
	}
	fmt.Fprintf(w, "%s\t%s\tmatched %d\tmoved %d\tfailed %d\t%s\n", j.ID, what, j.Matched, j.Moved, j.Failed, j.Started)
}

func (a *app) printJob(j mailbox.Job) error {
	return a.Print(j, func(w io.Writer) { writeJob(w, &j) })
}

func (a *app) dlqRedrive() *cobra.Command {
	var f filterFlags
	var r mailbox.Redrive
	var wait bool
	c := a.topicCommand("redrive TOPIC [MSG_ID...]", "Deliver dead letters again", "  ronctl mailbox dlq redrive jobs --all --dry-run\n  ronctl mailbox dlq redrive jobs --reason max_attempts --rate 100 --wait", cli.MinArgs(1),
		func(ctx context.Context, t *mailbox.Topic, ids []string) error {
			var err error
			if r.Filter, err = f.filter(ids); err != nil {
				return err
			}
			if r.RatePerSec < 0 {
				return cli.Usagef("--rate is not negative")
			}
			job, err := t.Redrive(ctx, r)
			for err == nil && (wait || r.DryRun) && job.State == "running" {
				timer := time.NewTimer(pollJob)
				select {
				case <-timer.C:
					job, err = t.Job(ctx, job.ID)
				case <-ctx.Done():
					timer.Stop()
					err = ctx.Err()
				}
			}
			if err != nil {
				return err
			}
			return a.printJob(job)
		})
	c.Long = "redrive delivers dead letters again. It makes a job at the node, which goes on by itself, over restarts too, and prints it.\nAttempts are counted anew; ids and the time of the first send stay. See: ronctl mailbox dlq jobs."
	f.add(c)
	fl := c.Flags()
	fl.BoolVar(&r.DryRun, "dry-run", false, "count them, and move nothing")
	fl.Int64Var(&r.RatePerSec, "rate", 0, "messages a second; 0: as fast as it goes")
	fl.StringVar(&r.To, "to", "", "topic that they go to; default the one that they came from")
	fl.BoolVar(&wait, "wait", false, "wait until the job is done, as a dry run does")
	return c
}

func (a *app) dlqJobs() *cobra.Command {
	var stop bool
	c := a.topicCommand("jobs TOPIC [JOB]", "Show a topic's redrives, or one; or stop one", "  ronctl mailbox dlq jobs jobs\n  ronctl mailbox dlq jobs jobs 01J… --stop", cli.MinArgs(1),
		func(ctx context.Context, t *mailbox.Topic, args []string) error {
			if len(args) > 1 || stop && len(args) == 0 {
				return cli.Usagef("jobs takes one job; --stop needs it")
			}
			var job mailbox.Job
			var err error
			switch {
			case stop:
				job, err = t.StopJob(ctx, args[0])
			case len(args) == 1:
				job, err = t.Job(ctx, args[0])
			default:
				all, err := t.Jobs(ctx)
				if err != nil {
					return err
				}
				return writeList(a, "jobs", all, writeJob)
			}
			if err != nil {
				return err
			}
			return a.printJob(job)
		})
	c.Flags().BoolVar(&stop, "stop", false, "stop it where it is")
	return c
}
