// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package search is ronctl's command that finds objects.
package search

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/search"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial  Connect
	o     search.Options
	all   bool
	stat  bool
	watch bool
	every time.Duration
}

// Bounds of --watch.
const (
	minEvery = 100 * time.Millisecond
	maxSeen  = 100_000 // hits that are remembered as shown
)

// Command is "ronctl search".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{Terminal: t, dial: connect}
	c := &cobra.Command{
		Use: "search [QUERY…]", Short: "Find objects by their text, names and metadata",
		Long: "search finds the tenant's objects: their text (text, Markdown, HTML, JSON; the first MiB),\nnames, and metadata. The best hits come first.\n\n" +
			"  budget report          both words\n  budget OR report       one of them\n  budget -draft          without a word\n  '\"annual report\"'      a phrase\n" +
			"  repo*   budgte~        words that begin so; words that are almost so\n  name:invoice           in a field: text, title, name, type\n  'size:>10MiB' created:2026-11\n\n" +
			"New objects are found after a moment; --fresh waits until all that are stored now are\nsearched. An index that is being built says so: its hits are right, and not all.\n\n" +
			"--watch goes on, and prints each further hit as a line when it appears.",
		Example: "  ronctl search budget report\n  ronctl search --type 'text/*' --sort -created --facets type,size '\"annual report\"'\n" +
			"  ronctl search --watch --output json name:invoice\n  ronctl search --status",
		RunE: a.run,
	}
	f := c.Flags()
	f.StringSliceVar(&a.o.Types, "type", nil, "media types, such as text/* or image/png: one of them")
	f.StringVar(&a.o.MinSize, "min-size", "", "smallest size, such as 4KiB")
	f.StringVar(&a.o.MaxSize, "max-size", "", "greatest size")
	f.StringVar(&a.o.Since, "since", "", "stored at or after: 2026-11-24, or a time of RFC 3339")
	f.StringVar(&a.o.Until, "until", "", "stored before")
	f.StringVar(&a.o.Sort, "sort", "", "score, created, size or name; -created, -size, -name for the reverse (default score)")
	f.IntVar(&a.o.Limit, "limit", 10, "hits, 1 to 100; with --all of a page")
	f.StringVar(&a.o.Cursor, "cursor", "", "go on after the page that ended with this cursor")
	f.StringSliceVar(&a.o.Facets, "facets", nil, "count the hits by type, size, created")
	f.BoolVar(&a.all, "all", false, "print the hits of all pages")
	f.BoolVar(&a.stat, "status", false, "say how far the index has come, and search nothing")
	fresh := f.Bool("fresh", false, "wait until everything that is stored now is searched")
	f.DurationVar(&a.o.Wait, "wait", 0, "with --fresh: how long to wait, at most 8s (default 5s)")
	plain := f.Bool("no-highlight", false, "do not show where the words are")
	f.BoolVar(&a.watch, "watch", false, "go on, and print further hits when they appear")
	f.DurationVar(&a.every, "every", time.Second, "with --watch: how often to look")
	c.PreRunE = func(c *cobra.Command, args []string) error {
		a.o.Highlight = !*plain
		if *fresh {
			a.o.After = search.Now
		}
		switch {
		case a.stat && (len(args) > 0 || a.watch || a.all):
			return cli.Usagef("--status takes no query")
		case a.watch && (a.all || a.o.Cursor != "" || a.o.Sort != "" || len(a.o.Facets) > 0):
			return cli.Usagef("--watch prints hits as they appear: it goes without --all, --cursor, --sort and --facets")
		case a.watch && a.every < minEvery:
			return cli.Usagef("--every is %v at least", minEvery)
		case a.o.Limit < 1 || a.o.Limit > 100:
			return cli.Usagef("--limit is 1 to 100")
		}
		return nil
	}
	return c
}

func (a *app) run(c *cobra.Command, args []string) error {
	ctx, cl, err := a.dial(c)
	if err != nil {
		return err
	}
	query := strings.Join(args, " ")
	switch {
	case a.stat:
		s, err := search.GetStatus(ctx, cl)
		if err != nil {
			return err
		}
		return a.Print(s, func(w io.Writer) {
			fmt.Fprintf(w, "documents\t%d\ngeneration\t%d\nindexed through\t%d of %d\nlag\t%v\ncomplete\t%t\n",
				s.Documents, s.Generation, s.IndexedThrough, s.Head, time.Duration(s.LagMS)*time.Millisecond, s.Complete)
		})
	case a.watch:
		return a.follow(ctx, cl, query)
	}
	r, err := search.Query(ctx, cl, query, a.o)
	if err != nil {
		return err
	}
	for a.all && r.Cursor != "" {
		o := a.o
		o.Cursor, o.After, o.Facets = r.Cursor, "", nil
		next, err := search.Query(ctx, cl, query, o)
		if err != nil {
			return err
		}
		if next.Cursor == r.Cursor {
			return fmt.Errorf("the node's list does not go on")
		}
		r.Hits, r.Cursor = append(r.Hits, next.Hits...), next.Cursor
	}
	return a.Print(r, func(w io.Writer) { a.page(w, &r) })
}

// page writes hits for people.
func (a *app) page(w io.Writer, r *search.Results) {
	for i := range r.Hits {
		a.hit(w, &r.Hits[i])
	}
	names := make([]string, 0, len(r.Facets))
	for name := range r.Facets {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "%s:\n", name)
		for _, c := range r.Facets[name] {
			fmt.Fprintf(w, "  %s\t%d\n", clean(c.Value), c.Count)
		}
	}
	fmt.Fprintf(w, "%d of %d\n", len(r.Hits), r.Total)
	if !r.Complete {
		fmt.Fprintf(w, "the index is being built (generation %d): these are not all\n", r.Generation)
	} else if r.Head > r.IndexedThrough {
		fmt.Fprintf(w, "%d changes are not searched yet; --fresh waits for them\n", r.Head-r.IndexedThrough)
	}
	if r.Cursor != "" && !a.all {
		fmt.Fprintf(w, "more: --cursor %s\n", r.Cursor)
	}
}

// hit writes one hit: what it is, and where the words are.
func (a *app) hit(w io.Writer, h *search.Hit) {
	what := h.ContentType
	if !h.Stored {
		what = "not stored here"
	}
	fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", h.Addr, h.Size, clean(what), clean(strings.Join(h.Names, " ")))
	if h.Title != "" {
		fmt.Fprintf(w, "    %s\n", clean(h.Title))
	}
	for _, p := range h.Highlights {
		if p.Field != "text" {
			continue
		}
		var line strings.Builder
		for i, part := range p.Parts {
			part = clean(part)
			if i%2 == 1 {
				part = a.mark(part)
			}
			line.WriteString(part)
		}
		fmt.Fprintf(w, "    … %s …\n", line.String())
	}
}

// mark makes a match stand out where the output is a terminal.
func (a *app) mark(s string) string {
	if f, ok := a.Out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return "\x1b[1m" + s + "\x1b[0m"
	}
	return s
}

// clean makes one line of what a tenant stored, without anything that steers a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return '?'
	}, s)
}

// follow prints each hit once, as it appears, until ctx ends.
func (a *app) follow(ctx context.Context, cl *client.Client, query string) error {
	seen := map[b3.Addr]struct{}{}
	o := a.o
	o.Sort, o.Limit = "-created", 100
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	last := search.State{}
	for {
		s, err := search.GetStatus(ctx, cl)
		if err != nil {
			return err
		}
		if s.State.Generation != last.Generation || s.IndexedThrough != last.IndexedThrough || s.Complete != last.Complete || last.Generation == 0 {
			last = s.State
			if err := a.fresh(ctx, cl, query, o, seen); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// fresh prints the hits that were not printed yet: the newest first, until a page has
// nothing new.
func (a *app) fresh(ctx context.Context, cl *client.Client, query string, o search.Options, seen map[b3.Addr]struct{}) error {
	if len(seen) >= maxSeen {
		return fmt.Errorf("more than %d hits: watch something narrower", maxSeen)
	}
	for {
		r, err := search.Query(ctx, cl, query, o)
		if err != nil {
			return err
		}
		before := len(seen)
		for i := range r.Hits {
			h := &r.Hits[i]
			if _, ok := seen[h.Addr]; ok {
				continue
			}
			seen[h.Addr] = struct{}{}
			if err := a.line(h); err != nil {
				return err
			}
		}
		if r.Cursor == "" || len(seen) == before {
			return nil
		}
		o.Cursor, o.After = r.Cursor, ""
	}
}

func (a *app) line(h *search.Hit) error {
	if a.JSON() {
		return json.NewEncoder(a.Out).Encode(h)
	}
	return a.Print(nil, func(w io.Writer) { a.hit(w, h) })
}
