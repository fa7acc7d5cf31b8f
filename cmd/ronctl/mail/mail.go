// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mail is ronctl's commands about the mailbox: sending, receiving and
// settling messages, topics, and dead letters.
package mail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/mailbox"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

// Command is "ronctl mailbox".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	c := cli.Group("mailbox", "Send, receive and acknowledge messages; topics and dead letters", "  echo hello | ronctl mailbox send jobs\n  ronctl mailbox recv jobs --ack",
		a.send(), a.recv(), a.settle("ack", "Say that messages are done with: they never come again"),
		a.settle("nack", "Give messages back, to be delivered again"), a.settle("extend", "Hide messages from others for longer"),
		a.tail(), a.peek(), a.stats(), a.topics(), a.dlq())
	c.PersistentFlags().BoolFunc("json", "the same as --output json", func(string) error {
		t.Output = "json"
		return nil
	})
	return c
}

// topic connects, and is the topic of the first argument.
func (a *app) topic(c *cobra.Command, args []string) (context.Context, *mailbox.Topic, error) {
	if !mailbox.ValidName(args[0]) {
		return nil, nil, cli.Usagef("%q: %v", args[0], mailbox.ErrTopicName)
	}
	ctx, cl, err := a.dial(c)
	if err != nil {
		return nil, nil, err
	}
	return ctx, mailbox.New(cl, args[0]), nil
}

// topicCommand is a command about one topic, and perhaps more arguments.
func (a *app) topicCommand(use, short, example string, args cobra.PositionalArgs, do func(ctx context.Context, t *mailbox.Topic, rest []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: args,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, t, err := a.topic(c, args)
			if err != nil {
				return err
			}
			return do(ctx, t, args[1:])
		},
	}
}

// pages calls f with the cursor of each page of a list, until limit (0: none) items
// came. f says how many it showed, at most n of them.
func pages(limit int, f func(cursor string, n int) (shown int, next string, err error)) error {
	const page = 1000
	cursor := ""
	for left := limit; ; {
		n := page
		if limit > 0 {
			n = min(left, page)
		}
		shown, next, err := f(cursor, n)
		if err != nil || next == "" {
			return err
		}
		if next == cursor {
			return errors.New("the node's list does not go on")
		}
		cursor = next
		if left -= shown; limit > 0 && left <= 0 {
			return nil
		}
	}
}

// line writes v as one line of JSON.
func (a *app) line(v any) error { return json.NewEncoder(a.Out).Encode(v) }

// payloadText is a payload for people: as it is where it can be read, else quoted.
func payloadText(p []byte) string {
	const most = 200
	s := string(p)
	cut := len(s) > most
	if cut {
		s = s[:most]
	}
	if !utf8.ValidString(s) && !cut || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
		s = fmt.Sprintf("%q", s)
	}
	if cut {
		s += fmt.Sprintf("… (%d bytes)", len(p))
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// attrsText is "a=1 b=2".
func attrsText(m map[string]string) string {
	var all []string
	for _, name := range sorted(m) {
		all = append(all, name+"="+payloadText([]byte(m[name])))
	}
	return strings.Join(all, " ")
}

// confirm wants --yes for what cannot be undone.
func confirm(yes bool, what string) error {
	if !yes {
		return cli.Usagef("this %s for good; say --yes", what)
	}
	return nil
}

// writeList prints a whole list: JSON as {name: [...]}, text row by row.
func writeList[T any](a *app, name string, all []T, row func(io.Writer, *T)) error {
	if all == nil {
		all = []T{}
	}
	return a.Print(map[string]any{name: all}, func(w io.Writer) {
		for i := range all {
			row(w, &all[i])
		}
	})
}
