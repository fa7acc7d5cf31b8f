// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// missing reports whether a topic or message is not there.
func missing(err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Status == 404
}

// outcomeDoc is what is printed of a receipt.
type outcomeDoc struct {
	Receipt string `json:"receipt"`
	MsgID   string `json:"msg_id,omitempty"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
}

// settle is ack, nack or extend.
func (a *app) settle(verb, short string) *cobra.Command {
	var delay, visibility time.Duration
	var reason string
	c := a.topicCommand(verb+" TOPIC [RECEIPT...]", short, "", cli.MinArgs(1), nil)
	c.RunE = func(c *cobra.Command, args []string) error {
		if delay < 0 || verb == "extend" && visibility <= 0 {
			return cli.Usagef("--delay is not negative, --visibility more than 0")
		}
		ctx, t, err := a.topic(c, args)
		if err != nil {
			return err
		}
		return a.eachReceipt(args[1:], func(receipts []string) ([]mailbox.Outcome, error) {
			switch verb {
			case "ack":
				return t.Ack(ctx, receipts...)
			case "extend":
				return t.Extend(ctx, visibility, receipts...)
			}
			if !c.Flags().Changed("delay") {
				return t.Nack(ctx, nil, reason, receipts...)
			}
			return t.Nack(ctx, &delay, reason, receipts...)
		})
	}
	c.Long = short + ".\n\nReceipts are those that recv printed, as arguments or, without any, from standard input, one\n" +
		"a line or as the documents that recv --ndjson prints. A receipt whose lease was lost changes\nnothing, and makes the exit code 1; the others are settled all the same."
	fl := c.Flags()
	c.Example = "  ronctl mailbox " + verb + " jobs RECEIPT"
	switch verb {
	case "ack":
		c.Example += "\n  ronctl mailbox recv jobs -n 10 --ndjson | tee work.ndjson | ./handle && ronctl mailbox ack jobs < work.ndjson"
	case "nack":
		c.Example += " --delay 1m --reason 'upstream is down'"
		fl.DurationVar(&delay, "delay", 0, "deliver them again after this; default a back-off that grows with the attempts")
		fl.StringVar(&reason, "reason", "", "kept with the message")
	default:
		c.Example += " --visibility 10m"
		fl.DurationVar(&visibility, "visibility", 0, "from now on")
	}
	return c
}

// eachReceipt settles receipts, in calls of bounded size, and prints what became of each.
func (a *app) eachReceipt(args []string, settle func([]string) ([]mailbox.Outcome, error)) error {
	receipts := args
	if len(args) == 0 {
		var err error
		if receipts, err = readReceipts(a.In); err != nil {
			return err
		}
	}
	docs, lost := []outcomeDoc{}, 0
	var failed error
	for len(receipts) > 0 && failed == nil {
		n := min(len(receipts), batchMessages)
		out, err := settle(receipts[:n])
		if out == nil {
			failed = err
			break
		}
		for _, o := range out {
			d := outcomeDoc{Receipt: o.Receipt, MsgID: o.MsgID, OK: o.Err == nil}
			if o.Err != nil {
				d.Error = o.Err.Error()
				lost++
			}
			docs = append(docs, d)
		}
		receipts = receipts[n:]
	}
	err := a.Print(map[string]any{"results": docs}, func(w io.Writer) {
		for _, d := range docs {
			if d.OK {
				fmt.Fprintf(w, "%s\tok\n", d.MsgID)
			} else {
				fmt.Fprintf(w, "%s\t%s\n", d.Receipt, d.Error)
			}
		}
	})
	switch {
	case failed != nil:
		return failed
	case err == nil && lost > 0:
		return cli.Exit(fmt.Errorf("%d of %d receipts changed nothing", lost, len(docs)), macronode.ExitFailed)
	}
	return err
}

// readReceipts reads a receipt a line, or a document with one.
func readReceipts(r io.Reader) (all []string, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxBodyBytes*3/2)
	for s.Scan() {
		text := strings.TrimSpace(s.Text())
		if strings.HasPrefix(text, "{") {
			var doc struct {
				Receipt string `json:"receipt"`
			}
			if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Receipt == "" {
				return nil, cli.Usagef("standard input: a line is no document with a receipt")
			}
			text = doc.Receipt
		}
		if text != "" {
			all = append(all, text)
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, cli.Usagef("no receipts: give them as arguments, or a line each on standard input")
	}
	return all, nil
}

func (a *app) peek() *cobra.Command {
	var state string
	var limit int
	c := a.topicCommand("peek TOPIC", "Look at messages without receiving them", "  ronctl mailbox peek jobs --state in_flight\n  ronctl mailbox peek jobs --json", cli.ExactArgs(1),
		func(ctx context.Context, t *mailbox.Topic, _ []string) error {
			if limit < 0 {
				return cli.Usagef("--limit is not negative")
			}
			var all []mailbox.Peeked
			err := pages(limit, func(cursor string, n int) (int, string, error) {
				page, next, err := t.Peek(ctx, state, cursor, n)
				all = append(all, page...)
				return len(page), next, err
			})
			if err != nil {
				return err
			}
			return writeList(a, "messages", all, func(w io.Writer, m *mailbox.Peeked) {
				fmt.Fprintf(w, "%s\t%s\tattempts %d\t%s\t%d bytes\t%s\t%s\n", m.MsgID, m.State, m.Attempts, stamp(m.Time), m.Bytes, payloadText([]byte(m.Key)), attrsText(m.Attrs))
			})
		})
	fl := c.Flags()
	fl.StringVar(&state, "state", "", "ready, delayed or in_flight alone")
	fl.IntVar(&limit, "limit", 100, "stop after this many; 0 shows all")
	return c
}
