// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package facet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/client/feed"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Feed is "ronctl feed".
func Feed(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	c := cli.Group("feed", "Publish posts to followers, read and watch timelines", "  ronctl graph put name/bob follow name/alice\n  ronctl feed publish name/alice 'hello'\n  ronctl feed read name/bob",
		a.publish(), a.read(), a.watch(), a.unpublish(), a.showPost(), a.feedStatus())
	c.Long = c.Short + ".\n" + vertexHelp + " Who follows whom is edges of type follow: ronctl graph put."
	return c
}

func (a *app) feed(c *cobra.Command) (context.Context, *feed.Feed, error) {
	ctx, cl, err := a.dial(c)
	if err != nil {
		return nil, nil, err
	}
	return ctx, feed.New(cl), nil
}

// postLine is a post for people.
func postLine(w io.Writer, p *feed.Post) {
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.TS.UTC().Format(time.RFC3339), p.ID, p.Author, p.Item, printable(p.Text))
}

func (a *app) publish() *cobra.Command {
	var d feed.Draft
	c := &cobra.Command{
		Use: "publish AUTHOR [TEXT]", Short: "Publish a post to the followers of its author", Args: cobra.MatchAll(cli.MinArgs(1), cli.MaxArgs(2)),
		Example: "  ronctl feed publish name/alice 'hello'\n  ronctl feed publish name/alice --item object/b3:…",
		RunE: func(c *cobra.Command, args []string) error {
			d.Author = args[0]
			if len(args) == 2 {
				d.Text = args[1]
			}
			if d.Text == "" && d.Item == "" {
				return cli.Usagef("a post has a text, an --item or both")
			}
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			p, err := f.Publish(ctx, d)
			if err != nil {
				return err
			}
			return a.Print(p, func(w io.Writer) { fmt.Fprintln(w, p.ID) })
		},
	}
	c.Flags().StringVar(&d.Item, "item", "", "vertex that the post is about")
	c.Flags().StringVar(&d.Key, "key", "", "Idempotency-Key; default a new one")
	return c
}

func (a *app) read() *cobra.Command {
	var limit int
	var author bool
	c := &cobra.Command{
		Use: "read VERTEX", Short: "Read a timeline, newest first", Args: cli.ExactArgs(1),
		Example: "  ronctl feed read name/bob --limit 20\n  ronctl feed read name/alice --author",
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 0 {
				return cli.Usagef("--limit is not negative")
			}
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			list := f.Read
			if author {
				list = f.Posts
			}
			all := []feed.Post{}
			err = pages(limit, func(cursor string, n int) (int, string, error) {
				page, next, err := list(ctx, args[0], cursor, n)
				all = append(all, page...)
				return len(page), next, err
			})
			if err != nil {
				return err
			}
			return a.Print(map[string]any{"posts": all}, func(w io.Writer) {
				for i := range all {
					postLine(w, &all[i])
				}
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "so many at most; 0: all")
	c.Flags().BoolVar(&author, "author", false, "what the vertex published, not what came to it")
	return c
}

func (a *app) watch() *cobra.Command {
	var after string
	c := &cobra.Command{
		Use: "watch VERTEX", Short: "Print what comes into a timeline, until interrupted", Args: cli.ExactArgs(1),
		Example: "  ronctl feed watch name/bob\n  ronctl feed watch name/bob --output json | jq .text",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			err = f.Watch(ctx, args[0], after, func(err error) { fmt.Fprintf(a.Err, "%v\n", err) }, func(p feed.Post) error {
				if a.JSON() {
					return json.NewEncoder(a.Out).Encode(p)
				}
				_, err := fmt.Fprintf(a.Out, "%s  %s  %s  %s\n", p.TS.UTC().Format(time.RFC3339), p.ID, p.Author, printable(p.Text+p.Item))
				return err
			})
			if errors.Is(err, context.Canceled) && ctx.Err() != nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
	c.Flags().StringVar(&after, "after", "", "post_id of the last post seen: what is newer comes first")
	return c
}

func (a *app) unpublish() *cobra.Command {
	return &cobra.Command{
		Use: "rm POST", Short: "Take a post out of every timeline", Args: cli.ExactArgs(1), Example: "  ronctl feed rm 01J9ZQ4W3N8Y7V5K2T6B0C1D2E",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			return f.Unpublish(ctx, args[0])
		},
	}
}

func (a *app) showPost() *cobra.Command {
	return &cobra.Command{
		Use: "show POST", Short: "Show a post, and how far it came", Args: cli.ExactArgs(1), Example: "  ronctl feed show 01J9ZQ4W3N8Y7V5K2T6B0C1D2E",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			s, err := f.Post(ctx, args[0])
			if err != nil {
				return err
			}
			return a.Print(s, func(w io.Writer) {
				fmt.Fprintf(w, "post\t%s\nat\t%s\nauthor\t%s\n", s.ID, s.TS.UTC().Format(time.RFC3339Nano), s.Author)
				if s.Item != "" {
					fmt.Fprintf(w, "item\t%s\n", s.Item)
				}
				fmt.Fprintf(w, "text\t%s\ndelivered\t%d\ndone\t%v\n", printable(s.Text), s.Delivered, s.Done)
			})
		},
	}
}

func (a *app) feedStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how many posts the tenant has, and may have", Args: cli.NoArgs, Example: "  ronctl feed status",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, f, err := a.feed(c)
			if err != nil {
				return err
			}
			s, err := f.Status(ctx)
			if err != nil {
				return err
			}
			return a.Print(s, func(w io.Writer) {
				fmt.Fprintf(w, "posts\t%d of %d\non their way\t%d of %d\nkept in a timeline\t%d\n", s.Posts, s.MaxPosts, s.Pending, s.MaxPending, s.MaxEntries)
			})
		},
	}
}
