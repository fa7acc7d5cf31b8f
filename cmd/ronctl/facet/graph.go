// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package facet is ronctl's commands about the graph and the feed.
package facet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/graph"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

const vertexHelp = "A vertex is name/NAME, object/b3:HEX or id/TEXT."

// maxLine bounds a line of an import.
const maxLine = 64 << 10

// Graph is "ronctl graph".
func Graph(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	c := cli.Group("graph", "Put, delete and walk typed edges between names, objects and ids", "  ronctl graph put name/bob follow name/alice\n  ronctl graph neighbours name/alice --in",
		a.graphPut(), a.graphRemove(), a.neighbours(), a.expand(), a.imports(), a.graphStatus())
	c.Long = c.Short + ".\n" + vertexHelp
	return c
}

// graph connects.
func (a *app) graph(c *cobra.Command) (context.Context, *graph.Graph, error) {
	ctx, cl, err := a.dial(c)
	if err != nil {
		return nil, nil, err
	}
	return ctx, graph.New(cl), nil
}

func (a *app) graphPut() *cobra.Command {
	var value string
	c := &cobra.Command{
		Use: "put FROM TYPE TO", Short: "Put an edge; one that is there gets the new value", Args: cli.ExactArgs(3),
		Example: "  ronctl graph put name/bob follow name/alice\n  ronctl graph put id/42 cites object/b3:… --value 'page 7'",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			created, err := g.Put(ctx, graph.Edge{From: args[0], Type: args[1], To: args[2], Value: value})
			if err != nil {
				return err
			}
			return a.Print(map[string]bool{"created": created}, func(w io.Writer) {
				fmt.Fprintln(w, map[bool]string{true: "new", false: "there already"}[created])
			})
		},
	}
	c.Flags().StringVar(&value, "value", "", "text to keep with the edge, at most 512 bytes")
	return c
}

func (a *app) graphRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm FROM TYPE TO", Short: "Delete an edge", Args: cli.ExactArgs(3), Example: "  ronctl graph rm name/bob follow name/alice",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			return g.Delete(ctx, args[0], args[1], args[2])
		},
	}
}

// pages calls f with the cursor and size of each page until limit items (0: all) came.
func pages(limit int, f func(cursor string, n int) (got int, next string, err error)) error {
	const page = 1000
	for cursor, left := "", limit; ; {
		n := page
		if limit > 0 {
			n = min(left, page)
		}
		got, next, err := f(cursor, n)
		if left -= got; err != nil || next == "" || limit > 0 && left <= 0 {
			return err
		}
		if next == cursor {
			return errors.New("the node's list does not go on")
		}
		cursor = next
	}
}

func (a *app) neighbours() *cobra.Command {
	var q graph.Query
	c := &cobra.Command{
		Use: "neighbours VERTEX", Short: "List the vertices that edges join with one", Args: cli.ExactArgs(1),
		Example: "  ronctl graph neighbours name/alice\n  ronctl graph neighbours name/alice --in --type follow --limit 20",
		RunE: func(c *cobra.Command, args []string) error {
			if q.Limit < 0 {
				return cli.Usagef("--limit is not negative")
			}
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			all := []graph.Neighbour{}
			err = pages(q.Limit, func(cursor string, n int) (int, string, error) {
				page, next, err := g.Neighbours(ctx, graph.Query{ID: args[0], In: q.In, Type: q.Type, Cursor: cursor, Limit: n})
				all = append(all, page...)
				return len(page), next, err
			})
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"neighbours": all}, func(w io.Writer) {
				for _, n := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Type, n.ID, time.UnixMilli(n.CreatedMS).UTC().Format(time.RFC3339), printable(n.Value))
				}
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&q.In, "in", false, "edges that end at it, not such that begin there")
	f.StringVar(&q.Type, "type", "", "edges of this type alone")
	f.IntVar(&q.Limit, "limit", 0, "so many at most; 0: all")
	return c
}

func (a *app) expand() *cobra.Command {
	var w graph.Want
	c := &cobra.Command{
		Use: "expand VERTEX", Short: "Show what lies around a vertex, within a budget", Args: cli.ExactArgs(1),
		Example: "  ronctl graph expand name/alice --depth 2 --direction both\n  ronctl graph expand id/7 --depth 3 --types cites,follow --max-edges 5000 --output json",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			w.ID = args[0]
			x, err := g.Expand(ctx, w)
			if err != nil {
				return err
			}
			return a.Print(x, func(out io.Writer) {
				for _, e := range x.Edges {
					fmt.Fprintf(out, "%s\t%s\t%s\n", e.From, e.Type, e.To)
				}
				end := "all there is"
				if x.Ended != "" {
					end = "the budget of " + x.Ended + " is spent: there is more"
				}
				fmt.Fprintf(out, "%d vertices, %d edges, %d visited; %s\n", len(x.Vertices), len(x.Edges), x.Visited, end)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&w.Direction, "direction", "out", "out, in or both")
	f.StringSliceVar(&w.Types, "types", nil, "types of edges to go along; default all")
	f.IntVar(&w.Depth, "depth", 1, "how many edges far, 1 to 3")
	f.IntVar(&w.MaxEdges, "max-edges", 0, "edges to visit, at most 10000; default the node's")
	f.DurationVar(&w.MaxTime, "max-time", 0, "time to spend, at most 1s; default the node's")
	f.IntVar(&w.MaxBytes, "max-bytes", 0, "bytes of the answer, at most 1048576; default the node's")
	return c
}

func (a *app) imports() *cobra.Command {
	return &cobra.Command{
		Use: "import [FILE]", Short: "Put many edges, a JSON object a line", Args: cli.MaxArgs(1),
		Long:    "import reads lines like {\"from\":\"name/bob\",\"type\":\"follow\",\"to\":\"name/alice\"} from FILE or, without\none or with -, from standard input. Putting the same again does no harm.",
		Example: "  ronctl graph import edges.ndjson\n  jq -c . edges.json | ronctl graph import",
		RunE: func(c *cobra.Command, args []string) error {
			in := a.In
			if len(args) == 1 && args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			put, created, err := importLines(ctx, g, in)
			if err != nil {
				return fmt.Errorf("after %d edges: %w", put, err)
			}
			return a.Print(map[string]int{"put": put, "created": created}, func(w io.Writer) { fmt.Fprintf(w, "%d edges, %d new\n", put, created) })
		},
	}
}

// importLines puts the edges of in, a thousand at a time.
func importLines(ctx context.Context, g *graph.Graph, in io.Reader) (put, created int, err error) {
	const batch = 1000
	var edges []graph.Edge
	flush := func() error {
		n, err := g.Import(ctx, edges)
		if created += n; err == nil {
			put += len(edges)
		}
		edges = edges[:0]
		return err
	}
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	for line := 1; s.Scan(); line++ {
		if strings.TrimSpace(s.Text()) == "" {
			continue
		}
		var e graph.Edge
		d := json.NewDecoder(strings.NewReader(s.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			return put, created, fmt.Errorf("line %d: %w", line, err)
		}
		if edges = append(edges, e); len(edges) == batch {
			if err := flush(); err != nil {
				return put, created, err
			}
		}
	}
	if err := s.Err(); err != nil {
		return put, created, err
	}
	return put, created, flush()
}

func (a *app) graphStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how many edges the tenant has, and may have", Args: cli.NoArgs, Example: "  ronctl graph status",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, g, err := a.graph(c)
			if err != nil {
				return err
			}
			s, err := g.Status(ctx)
			if err != nil {
				return err
			}
			return a.Print(s, func(w io.Writer) { fmt.Fprintf(w, "edges\t%d of %d\nbytes\t%d\n", s.Edges, s.MaxEdges, s.Bytes) })
		},
	}
}

// printable is text for a terminal: as it is where it can be read, else quoted.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
