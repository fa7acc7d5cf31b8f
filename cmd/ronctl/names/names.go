// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package names is ronctl's commands about names: pointing them at objects, looking
// them up, following their changes, and their signed document.
package names

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/names"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/name"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

// Command is "ronctl name".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	return cli.Group("name", "Point names at objects, look them up and follow them", "  ronctl name put site.logo b3:… --ttl 5m\n  ronctl get $(ronctl name resolve site.logo)",
		a.put(), a.get(), a.resolve(), a.list(), a.remove(), a.history(), a.watch(), a.importCommand(), a.exportCommand(), a.document(), a.verify())
}

// one connects, and returns the name that s spells.
func (a *app) one(c *cobra.Command, s string) (context.Context, *client.Client, string, error) {
	n, err := name.Normalize(s)
	if err != nil {
		return nil, nil, "", cli.Usagef("%q: %w", s, err)
	}
	ctx, cl, err := a.dial(c)
	return ctx, cl, n, err
}

// conditionFlags say what must hold for a change.
type conditionFlags struct {
	version uint64
	created bool
}

func (f *conditionFlags) add(fl *pflag.FlagSet, create bool) {
	fl.Uint64Var(&f.version, "if-version", 0, "only where the name has this version")
	if create {
		fl.BoolVar(&f.created, "new", false, "only where there is no such name yet")
	}
}

func (f *conditionFlags) condition(fl *pflag.FlagSet) (names.Condition, error) {
	switch given := fl.Changed("if-version"); {
	case given && f.created:
		return names.Always, cli.Usagef("--new and --if-version exclude each other")
	case given && f.version == 0:
		return names.Always, cli.Usagef("--if-version is at least 1; a name that is not there yet is made with --new")
	case given:
		return names.At(f.version), nil
	case f.created:
		return names.Absent(), nil
	}
	return names.Always, nil
}

func (a *app) put() *cobra.Command {
	var cond conditionFlags
	var ttl time.Duration
	var meta []string
	c := &cobra.Command{
		Use: "put NAME ADDR", Short: "Point a name at an object", Args: cli.ExactArgs(2),
		Long:    "put points a name at an object. The name's last versions are kept (see: ronctl name history). What --ttl and --meta said of the\nname before does not stay: a version is what its put says.",
		Example: "  ronctl name put site.logo b3:5c2f… --ttl 5m --meta owner=web\n  ronctl name put site.logo b3:77aa… --if-version 3",
		RunE: func(c *cobra.Command, args []string) error {
			only, err := cond.condition(c.Flags())
			if err != nil {
				return err
			}
			v := names.Value{TTL: int64(ttl / time.Second)}
			if v.Addr, err = b3.Parse(args[1]); err != nil {
				return cli.Usagef("%q: %w", args[1], err)
			}
			if ttl < 0 || ttl%time.Second != 0 {
				return cli.Usagef("--ttl is a number of whole seconds")
			}
			for _, m := range meta {
				k, text, ok := strings.Cut(m, "=")
				if !ok {
					return cli.Usagef("--meta is NAME=TEXT, not %q", m)
				}
				if v.Meta == nil {
					v.Meta = map[string]string{}
				}
				v.Meta[k] = text
			}
			ctx, cl, n, err := a.one(c, args[0])
			if err != nil {
				return err
			}
			out, err := names.Set(ctx, cl, n, v, only)
			if err != nil {
				return err
			}
			return a.Print(out, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\tversion %d\n", out.Name, out.Addr, out.Version) })
		},
	}
	cond.add(c.Flags(), true)
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long an answer may be kept; 0: it is asked for again each time")
	c.Flags().StringArrayVar(&meta, "meta", nil, "NAME=TEXT to keep with it; repeatable")
	return c
}

func (a *app) get() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show what a name points at", Args: cli.ExactArgs(1), Example: "  ronctl name get site.logo\n  ronctl name get site.logo --output json",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, n, err := a.one(c, args[0])
			if err != nil {
				return err
			}
			out, err := names.Get(ctx, cl, n)
			if err != nil {
				return err
			}
			return a.Print(out, func(w io.Writer) {
				fmt.Fprintf(w, "name\t%s\naddr\t%s\nversion\t%d\nttl\t%v\ncreated\t%s\nupdated\t%s\n", out.Name, out.Addr, out.Version, time.Duration(out.TTL)*time.Second, stamp(out.CreatedMS), stamp(out.UpdatedMS))
				if len(out.Meta) > 0 {
					text, _ := json.Marshal(out.Meta) // texts alone
					fmt.Fprintf(w, "meta\t%s\n", text)
				}
			})
		},
	}
}

func (a *app) resolve() *cobra.Command {
	return &cobra.Command{
		Use: "resolve NAME", Short: "Print the address that a name points at, and nothing else", Args: cli.ExactArgs(1), Example: "  ronctl get $(ronctl name resolve site.logo) -o logo.png",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, n, err := a.one(c, args[0])
			if err != nil {
				return err
			}
			out, err := names.Get(ctx, cl, n)
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"addr": out.Addr}, func(w io.Writer) { fmt.Fprintln(w, out.Addr) })
		},
	}
}

// first is an argument that may be missing.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// all calls f with the cursor of each page of a list, and collects what it returns,
// at most limit (0: all).
func all(limit int, f func(cursor string, n int) ([]names.Name, string, error)) ([]names.Name, error) {
	const most = 1000
	list := []names.Name{}
	for cursor := ""; ; {
		n := most
		if limit > 0 {
			n = min(limit-len(list), most)
		}
		page, next, err := f(cursor, n)
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
		switch {
		case next == "" || limit > 0 && len(list) >= limit:
			return list, nil
		case next == cursor:
			return nil, errors.New("the node's list does not go on")
		}
		cursor = next
	}
}

// printList prints names or versions as a table.
func (a *app) printList(member string, list []names.Name) error {
	return a.Print(map[string]any{member: list}, func(w io.Writer) {
		if len(list) > 0 {
			fmt.Fprintln(w, "NAME\tVERSION\tUPDATED\tADDR")
		}
		for _, n := range list {
			addr := n.Addr.String()
			if n.Deleted {
				addr = "(deleted)"
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", n.Name, n.Version, stamp(n.UpdatedMS), addr)
		}
	})
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func (a *app) list() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "ls [PREFIX]", Short: "List names in order", Args: cli.MaxArgs(1), Example: "  ronctl name ls\n  ronctl name ls site. --output json",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			list, err := all(limit, func(cursor string, n int) ([]names.Name, string, error) {
				p, err := names.List(ctx, cl, first(args), cursor, n)
				return p.Names, p.Cursor, err
			})
			if err != nil {
				return err
			}
			return a.printList("names", list)
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "names at most; 0: all")
	return c
}

func (a *app) history() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "history NAME", Short: "List a name's versions, newest first; of a deleted name too, while it is remembered", Args: cli.ExactArgs(1), Example: "  ronctl name history site.logo",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, n, err := a.one(c, args[0])
			if err != nil {
				return err
			}
			list, err := all(limit, func(cursor string, most int) ([]names.Name, string, error) {
				return names.History(ctx, cl, n, cursor, most)
			})
			if err != nil {
				return err
			}
			return a.printList("versions", list)
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "versions at most; 0: all")
	return c
}

func (a *app) remove() *cobra.Command {
	var cond conditionFlags
	c := &cobra.Command{
		Use: "rm NAME", Short: "Delete a name; the object stays", Args: cli.ExactArgs(1), Example: "  ronctl name rm site.logo\n  ronctl name rm site.logo --if-version 4",
		RunE: func(c *cobra.Command, args []string) error {
			only, err := cond.condition(c.Flags())
			if err != nil {
				return err
			}
			ctx, cl, n, err := a.one(c, args[0])
			if err != nil {
				return err
			}
			if err := names.Delete(ctx, cl, n, only); err != nil {
				return err
			}
			return a.Print(map[string]string{"deleted": n}, func(w io.Writer) { fmt.Fprintln(w, "deleted", n) })
		},
	}
	cond.add(c.Flags(), false)
	return c
}

func (a *app) watch() *cobra.Command {
	var cursor string
	var limit int
	c := &cobra.Command{
		Use: "watch [PREFIX]", Short: "Follow changes of names, a line each, until it is interrupted", Args: cli.MaxArgs(1),
		Long: "watch prints a line for each change. With --output json a line is an event with its cursor; --cursor goes on behind it. The event\n" +
			"reset says that too much changed while the watch was away: list the names again.",
		Example: "  ronctl name watch\n  ronctl name watch site. --output json --cursor 17",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			w := names.Follow(ctx, cl, first(args), cursor)
			defer w.Close()
			for n := 0; limit == 0 || n < limit; n++ {
				e, err := w.Next()
				if err != nil {
					return err
				}
				if err := a.event(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&cursor, "cursor", "", "go on behind this event; empty: from now on")
	c.Flags().IntVar(&limit, "limit", 0, "end after so many events; 0: never")
	return c
}

func (a *app) event(e names.Event) error {
	if a.JSON() {
		return json.NewEncoder(a.Out).Encode(e)
	}
	line := e.Kind
	switch e.Kind {
	case "set":
		line = fmt.Sprintf("set     %s  %s  version %d", e.Name.Name, e.Name.Addr, e.Name.Version)
	case "delete":
		line = fmt.Sprintf("delete  %s  version %d", e.Name.Name, e.Name.Version)
	}
	_, err := fmt.Fprintln(a.Out, line)
	return err
}
