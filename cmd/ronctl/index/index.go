// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package index is ronctl's commands about what names and addresses stand for.
package index

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/index"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/media"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

// Commands are "ronctl resolve", "ronctl providers" and "ronctl media".
func Commands(t *cli.Terminal, connect Connect) []*cobra.Command {
	a := &app{t, connect}
	return []*cobra.Command{a.resolve(), a.providers(), media.Command(t, media.Connect(connect))}
}

func (a *app) resolve() *cobra.Command {
	var o index.Options
	c := &cobra.Command{
		Use: "resolve NAME|ADDRESS", Short: "Say what a name or an address stands for",
		Long: "resolve says which object a name or an address stands for, its size and type, whether\nthe node has it or a peer does, and what it holds if it is a manifest of \"put -r\".\n\n" +
			"--path prints the entry of one path of a manifest, --files all of them.",
		Example: "  ronctl resolve docs.guide\n  ronctl resolve b3:… --path img/logo.png\n  ronctl resolve docs.site --files --prefix img/ --output json",
		Args:    cli.ExactArgs(1),
	}
	files := c.Flags().Bool("files", false, "list a manifest's entries")
	c.Flags().StringVar(&o.Path, "path", "", "the entry of this path of a manifest")
	c.Flags().StringVar(&o.Prefix, "prefix", "", "with --files: entries whose path begins so")
	c.Flags().Uint64Var(&o.After, "after", 0, "a generation that the answer has to hold")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.Path != "" && *files || o.Prefix != "" && !*files {
			return cli.Usagef("--path is for one entry; --prefix goes with --files")
		}
		ctx, cl, err := a.dial(c)
		if err != nil {
			return err
		}
		if *files {
			o.Limit = 1000
		}
		doc, err := index.Resolve(ctx, cl, args[0], o)
		if err != nil {
			return err
		}
		for m := doc.Manifest; m != nil && m.Cursor != ""; {
			o.Cursor = m.Cursor
			next, err := index.Resolve(ctx, cl, doc.Addr.String(), o) // of the tree that the first page is of
			if err != nil {
				return err
			}
			if next.Manifest == nil || next.Manifest.Cursor == m.Cursor {
				return fmt.Errorf("the node's list does not go on")
			}
			m.Entries, m.Cursor = append(m.Entries, next.Manifest.Entries...), next.Manifest.Cursor
		}
		return a.Print(doc, func(w io.Writer) { show(w, &doc, o.Limit > 0 || o.Path != "") })
	}
	return c
}

func show(w io.Writer, doc *index.Resolved, entries bool) {
	if m := doc.Manifest; entries && m != nil {
		for _, e := range m.Entries {
			if e.Addr == nil {
				fmt.Fprintf(w, "%s\tlink\t-> %s\n", printable(e.Path), printable(e.Link))
				continue
			}
			fmt.Fprintf(w, "%s\t%d\t%s\n", printable(e.Path), e.Size, e.Addr)
		}
		return
	}
	fmt.Fprintln(w, doc.Addr)
	if n := doc.Name; n != nil {
		fmt.Fprintf(w, "name\t%s, version %d\n", n.Name, n.Version)
	}
	switch o := doc.Object; {
	case o != nil:
		where := "here"
		if !o.Local {
			where = "at a peer"
		}
		fmt.Fprintf(w, "object\t%d bytes, %s, %s\n", o.Size, printable(o.ContentType), where)
	case len(doc.Incomplete) > 0:
		fmt.Fprintln(w, "object\tnot known now")
	default:
		fmt.Fprintln(w, "object\tnobody has it")
	}
	switch m := doc.Manifest; {
	case m == nil:
	case m.Problem != "":
		fmt.Fprintf(w, "manifest\t%s\n", m.Problem)
	default:
		fmt.Fprintf(w, "manifest\t%d files, %d links, %d bytes\n", m.Files, m.Links, m.Bytes)
	}
	for _, who := range doc.Incomplete {
		fmt.Fprintf(w, "unasked\t%s\n", who)
	}
}

// printable is text of others, with nothing in it that a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

func (a *app) providers() *cobra.Command {
	var after uint64
	c := &cobra.Command{
		Use: "providers ADDRESS", Short: "Say which nodes have an object",
		Long:    "providers says which nodes have an object: the one that is asked, and those that\nannounced it to that one for the same tenant. No other node is asked.",
		Example: "  ronctl providers b3:…", Args: cli.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			addr, err := b3.Parse(args[0])
			if err != nil {
				return cli.Usagef("%q: %v", args[0], err)
			}
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			doc, err := index.FindProviders(ctx, cl, addr, after)
			if err != nil {
				return err
			}
			return a.Print(doc, func(w io.Writer) {
				for _, p := range doc.Providers {
					where := "peer"
					if p.Local {
						where = "here"
					}
					fmt.Fprintf(w, "%s\t%s\n", p.NodeID, where)
				}
			})
		},
	}
	c.Flags().Uint64Var(&after, "after", 0, "a generation that the answer has to hold")
	return c
}
