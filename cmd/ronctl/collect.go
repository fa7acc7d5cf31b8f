// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// collection is what the node answers to a collection.
type collection struct {
	DryRun  bool  `json:"dry_run"`
	TookMS  int64 `json:"took_ms"`
	Volumes int   `json:"volumes"`
	Items   []struct {
		Reason  string `json:"reason"`
		Objects int64  `json:"objects"`
		Bytes   int64  `json:"bytes"`
	} `json:"items"`
	Moves []struct {
		ID   string `json:"id"`
		Live int64  `json:"live_bytes"`
		Dead int64  `json:"dead_bytes"`
	} `json:"moves"`
	Error string `json:"error"`
}

// meanings says what the reasons of a collection are.
var meanings = map[string]string{
	"released":     "let go of; removed once no reply reads it",
	"unreferenced": "left by an upload that a crash cut off",
	"sparse":       "moved out of packs of which at most half lives",
	"duplicate":    "the same object of several tenants, shared",
	"damaged":      "does not verify; kept, a put heals it",
}

func (r *collection) write(w io.Writer) {
	verb := "collected"
	if r.DryRun {
		verb = "would collect"
	}
	for _, i := range r.Items {
		if i.Objects > 0 {
			fmt.Fprintf(w, "%s\t%d objects\t%d bytes\t%s\n", i.Reason, i.Objects, i.Bytes, meanings[i.Reason])
		}
	}
	for _, m := range r.Moves {
		fmt.Fprintf(w, "pack\t%s\t%d bytes live, %d dead\n", m.ID, m.Live, m.Dead)
	}
	fmt.Fprintf(w, "%s from %d volumes in %s\n", verb, r.Volumes, time.Duration(r.TookMS)*time.Millisecond)
}

func (a *app) nodeCollect() *cobra.Command {
	var q struct {
		DryRun bool `json:"dry_run"`
		Share  bool `json:"share"`
	}
	c := &cobra.Command{
		Use: "collect", Short: "Give space back now, or with --dry-run say what would be given back and why", Args: cli.NoArgs,
		Long:    "The node collects by itself; this does one pass at once and waits for it. It needs node:collect.",
		Example: "  ronctl node collect --dry-run --cap @macronode-data/operator.cap\n  ronctl node collect --share=false --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Admin(ctx, "collect", q)
			if err != nil {
				return err
			}
			var r collection
			if err := json.Unmarshal(doc, &r); err != nil {
				return fmt.Errorf("the node's report is no report: %w", err)
			}
			return a.Print(doc, r.write)
		},
	}
	c.Flags().BoolVar(&q.DryRun, "dry-run", false, "change nothing")
	c.Flags().BoolVar(&q.Share, "share", true, "look for objects that several tenants hold, too")
	return c
}

// storage is the node's answer about what it stores.
type storage struct {
	Volumes   int   `json:"volumes"`
	LiveBytes int64 `json:"live_bytes"`
	DeadBytes int64 `json:"dead_bytes"`
	Reserved  int64 `json:"reserved_bytes"`
	Uploads   int64 `json:"uploads"`
	Released  int64 `json:"released"`
	Scrub     struct {
		Running bool  `json:"running"`
		EndedMS int64 `json:"ended_ms"`
		Objects int64 `json:"objects"`
		Bytes   int64 `json:"bytes"`
	} `json:"scrub"`
	Quarantined int64 `json:"quarantined"`
	Damaged     []struct {
		Addr    string   `json:"addr"`
		Tenants []string `json:"tenants"`
		SinceMS int64    `json:"since_ms"`
		Where   string   `json:"where"`
	} `json:"damaged"`
}

func (s *storage) write(w io.Writer) {
	fmt.Fprintf(w, "volumes\t%d\nlive bytes\t%d\ndead bytes\t%d\n", s.Volumes, s.LiveBytes, s.DeadBytes)
	fmt.Fprintf(w, "uploads\t%d, %d bytes of quota reserved\nreleased\t%d places wait to be removed\n", s.Uploads, s.Reserved, s.Released)
	last := "no round ended since the start"
	if s.Scrub.EndedMS > 0 {
		last = "last round ended " + time.UnixMilli(s.Scrub.EndedMS).UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "scrub\t%d objects, %d bytes; %s\n", s.Scrub.Objects, s.Scrub.Bytes, last)
	fmt.Fprintf(w, "damaged\t%d objects\n", s.Quarantined)
	for _, d := range s.Damaged {
		fmt.Fprintf(w, "\t%s\t%v\tsince %s, found by %s\n", d.Addr, d.Tenants, time.UnixMilli(d.SinceMS).UTC().Format(time.RFC3339), d.Where)
	}
}

func (a *app) nodeStorage() *cobra.Command {
	return &cobra.Command{
		Use: "storage", Short: "Show space, uploads, scrub and damaged objects", Args: cli.NoArgs, Example: "  ronctl node storage --cap @macronode-data/operator.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			doc, err := cl.Document(ctx, "/v1/admin/storage")
			if err != nil {
				return err
			}
			var s storage
			if err := json.Unmarshal(doc, &s); err != nil {
				return fmt.Errorf("the node's answer is no storage status: %w", err)
			}
			return a.Print(doc, s.write)
		},
	}
}
