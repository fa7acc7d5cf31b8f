// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/inspect"
	"github.com/rustyonions/macronode/cmd/ronctl/state"
)

// probeEvery is how often ready --wait asks.
const probeEvery = 200 * time.Millisecond

// answerWithin is how long ready waits for an answer where neither --wait nor
// --timeout says: a probe that hangs is no answer.
const answerWithin = 10 * time.Second

func (a *app) nodeCommand() *cobra.Command {
	tools := inspect.Tools{Connect: a.connect, Print: a.Print}
	return cli.Group("node", "Look at a node and steer it", "  ronctl node ready",
		a.nodeStatus(), a.nodeReady(), a.nodeEvents(), a.nodeStorage(), a.nodeCollect(), tools.Breakers(), tools.Why(), a.nodePeers(),
		a.nodeAct("drain", "Stop taking new work and finish the old"),
		a.nodeAct("undrain", "Take new work again"),
		a.nodeAct("reload", "Read the config bundle again, verify all, then apply all"),
		a.nodeAct("shutdown", "Drain and stop the node"))
}

func (a *app) nodeStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the node's state", Args: cli.NoArgs, Example: "  ronctl node status --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			doc, s, err := a.status(c)
			if err != nil {
				return err
			}
			return a.Print(doc, s.Write) // JSON: as it came, with what is newer than this ronctl
		},
	}
}

// status asks the node for its state, and returns that as it came and as it is read.
func (a *app) status(c *cobra.Command) (doc json.RawMessage, s *state.Node, err error) {
	ctx, cl, err := a.connect(c)
	if err != nil {
		return nil, nil, err
	}
	if doc, err = cl.Document(ctx, "/v1/admin/status"); err != nil {
		return nil, nil, err
	}
	s = &state.Node{}
	if err := json.Unmarshal(doc, s); err != nil {
		return nil, nil, fmt.Errorf("the node's status is no status: %w", err)
	}
	return doc, s, nil
}

func (a *app) nodeReady() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "ready", Short: "Exit 0 if the node is ready, else 5", Args: cli.NoArgs, Example: "  ronctl node ready --wait 30s",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			limit := wait
			if wait <= 0 && a.timeout <= 0 {
				limit = answerWithin
			}
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			doc, err := awaitReady(ctx, cl, wait > 0)
			if err != nil {
				return cli.Exit(err, macronode.ExitNotReady)
			}
			if err := a.Print(doc, func(w io.Writer) { writeReadiness(w, doc) }); err != nil {
				return err
			}
			if !doc.Ready {
				return cli.Exit(errors.New("the node is not ready"), macronode.ExitNotReady)
			}
			return nil
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "ask again until it is ready, at most this long")
	return c
}

// awaitReady returns the last answer to /readyz: the first, or with again the
// first that says ready, until ctx ends.
func awaitReady(ctx context.Context, cl *client.Client, again bool) (client.Readiness, error) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var last client.Readiness
	var answered bool
	for {
		doc, err := cl.Ready(ctx)
		if err == nil {
			last, answered = doc, true
		}
		if !again || (err == nil && doc.Ready) {
			return doc, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if answered {
				return last, nil
			}
			return last, err
		}
	}
}

func writeReadiness(w io.Writer, r client.Readiness) {
	state := "not ready"
	if r.Ready {
		state = "ready"
	}
	if r.Degraded {
		state += " (degraded)"
	}
	fmt.Fprintf(w, "%s, config version %d\n", state, r.ConfigVersion)
	for _, c := range r.Checks {
		mark := "ok"
		if !c.OK {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, c.Name, c.Detail)
	}
}

func (a *app) nodeEvents() *cobra.Command {
	var after uint64
	var limit int
	c := &cobra.Command{
		Use: "events", Short: "List the node's recent kernel events", Args: cli.NoArgs, Example: "  ronctl node events --limit 20",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			events, next, err := cl.Events(ctx, after, limit)
			if err != nil {
				return err
			}
			if events == nil {
				events = []client.Event{}
			}
			doc := map[string]any{"events": events, "next": next}
			return a.Print(doc, func(w io.Writer) {
				for _, e := range events {
					attrs := []byte("-")
					if len(e.Attrs) > 0 {
						attrs, _ = json.Marshal(e.Attrs) // came from JSON
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Seq, time.UnixMilli(e.TSMS).UTC().Format(time.RFC3339Nano), e.Event, e.Service, attrs)
				}
			})
		},
	}
	c.Flags().Uint64Var(&after, "after", 0, "events after this sequence number")
	c.Flags().IntVar(&limit, "limit", 0, "at most this many; 0: the node's default")
	return c
}

func (a *app) nodeAct(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cli.NoArgs, Example: "  ronctl node " + verb + " --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Admin(ctx, verb, nil)
			if err != nil {
				return err
			}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintln(w, verb, "accepted") })
		},
	}
}
