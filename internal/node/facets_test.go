// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/feed"
	"github.com/rustyonions/macronode/client/graph"
	"github.com/rustyonions/macronode/internal/store"
)

// Edges and posts over either wire, and after a restart.
func TestGraphAndFeed(t *testing.T) {
	o := prepareDev(t, t.TempDir())
	n := begin(t, o)
	ctx := t.Context()
	at := n.endpoints()
	for i, address := range []string{at.HTTP, "oap://" + at.OAP} {
		c, err := client.Dial(address, client.Options{Token: n.token(t, "tenant.cap"), Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		g, f := graph.New(c), feed.New(c)
		alice, bob := fmt.Sprint("name/alice", i), fmt.Sprint("id/bob", i)
		if created, err := g.Put(ctx, graph.Edge{From: bob, Type: graph.Follow, To: strings.ToUpper(alice[:6]) + alice[6:]}); err == nil {
			t.Errorf("a kind in upper case is taken: %v", created)
		}
		if created, err := g.Put(ctx, graph.Edge{From: bob, Type: graph.Follow, To: "name/" + strings.ToUpper(alice[5:]), Value: "since May"}); err != nil || !created {
			t.Fatalf("%v %v", created, err)
		}
		if e, err := g.Get(ctx, bob, graph.Follow, alice); err != nil || e.Value != "since May" || e.CreatedMS == 0 {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := g.Put(ctx, graph.Edge{From: bob, Type: "t", To: "name/аlice"}); code(err) != "Unprocessable Entity invalid" { // a Cyrillic а
			t.Errorf("a confusable name: %v", err)
		}
		var many []graph.Edge
		for k := range 1500 {
			many = append(many, graph.Edge{From: alice, Type: "wrote", To: fmt.Sprint("id/", k)})
		}
		if created, err := g.Import(ctx, many); err != nil || created != 1500 {
			t.Errorf("%d created, %v", created, err)
		}
		x, err := g.Expand(ctx, graph.Want{ID: bob, Depth: 2, Types: []string{"wrote", "follow"}, MaxEdges: 100})
		if err != nil || x.Ended != "edges" || x.Visited != 100 || x.Vertices[1].ID != alice {
			t.Errorf("%d visited, %q, %v", x.Visited, x.Ended, err)
		}
		p, err := f.Publish(ctx, feed.Draft{Author: alice, Text: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		poll(t, "the post", func() bool {
			page, _, err := f.Read(ctx, bob, "", 10)
			return err == nil && len(page) == 1 && page[0] == p
		})
		watched := make(chan feed.Post, 10)
		enough := fmt.Errorf("enough")
		done := make(chan error, 1)
		go func() {
			done <- f.Watch(ctx, bob, p.ID, nil, func(p feed.Post) error {
				if watched <- p; p.Text == "last" {
					return enough
				}
				return nil
			})
		}()
		for _, text := range []string{"next", "last"} {
			if _, err := f.Publish(ctx, feed.Draft{Author: alice, Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != enough {
			t.Errorf("the watch ended with %v", err)
		}
		if first := <-watched; first.Text != "next" {
			t.Errorf("watched %q first", first.Text)
		}
		if err := f.Unpublish(ctx, p.ID); err != nil {
			t.Error(err)
		}
	}
	if s, err := graph.New(n.tenant(t)).Status(ctx); err != nil || s.Edges != 2*1501 {
		t.Errorf("%+v, %v", s, err)
	}
	end(t, n)
	n = begin(t, o)
	page, _, err := feed.New(n.tenant(t)).Read(ctx, "id/bob1", "", 10)
	if err != nil || len(page) != 2 || page[0].Text != "last" || page[1].Text != "next" {
		t.Errorf("after the restart: %+v, %v", page, err)
	}
}

// One tenant learns nothing of another's graph and feed, and what a deleted tenant
// had is gone.
func TestFacetsOfTenants(t *testing.T) {
	n := beginDev(t)
	op, ctx := n.operator(t), t.Context()
	mine := n.tenant(t)
	if err := op.JSON(ctx, "POST", "/v1/tenants", "", map[string]any{"label": "other"}, nil); err != nil {
		t.Fatal(err)
	}
	var minted struct{ Token string }
	if err := op.JSON(ctx, "POST", "/v1/caps", "", map[string]any{"tenant": "other"}, &minted); err != nil {
		t.Fatal(err)
	}
	theirs, err := client.Dial(n.endpoints().HTTP, client.Options{Token: minted.Token, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	edge := graph.Edge{From: "id/a", Type: "follow", To: "id/b"}
	if _, err := graph.New(mine).Put(ctx, edge); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.New(mine).Publish(ctx, feed.Draft{Author: "id/b", Text: "mine"}); err != nil {
		t.Fatal(err)
	}
	// The policy of a development node lets its own tenant in, and no other.
	if _, err := graph.New(theirs).Get(ctx, "id/a", "follow", "id/b"); code(err) != "Forbidden denied" && code(err) != "Not Found not_found" {
		t.Errorf("a stranger reads an edge: %v", err)
	}
	if page, _, err := feed.New(theirs).Read(ctx, "id/a", "", 10); err == nil && len(page) != 0 {
		t.Errorf("a stranger reads %+v", page)
	}
	if err := op.JSON(ctx, "DELETE", "/v1/tenants/dev", "", nil, nil); err != nil {
		t.Fatal(err)
	}
	poll(t, "the end of the tenant", func() bool {
		return code(op.JSON(ctx, "GET", "/v1/tenants/dev", "", nil, nil)) == "Not Found not_found"
	})
	for _, prefix := range []string{"graph/", "feed/"} {
		err := n.kv.View(ctx, func(r store.Reader) error {
			return r.Scan([]byte(prefix), store.After([]byte(prefix)), func(key, _ []byte) bool {
				t.Errorf("a key of %d bytes is left below %s", len(key), prefix)
				return true
			})
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Which facets run and what they may do changes with a reload; what is off says so.
func TestFacetsReload(t *testing.T) {
	o := prepareDev(t, t.TempDir())
	n := begin(t, o)
	ctx := t.Context()
	g, f := graph.New(n.tenant(t)), feed.New(n.tenant(t))
	if _, err := g.Put(ctx, graph.Edge{From: "id/a", Type: "t", To: "id/b"}); err != nil {
		t.Fatal(err)
	}
	edit(t, o, `"graph", "feed",`, `"feed",`)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	poll(t, "the graph to be off", func() bool {
		_, err := g.Status(ctx)
		return code(err) == "Service Unavailable facet_down"
	})
	if _, err := f.Status(ctx); err != nil {
		t.Errorf("the feed: %v", err)
	}
	edit(t, o, `"feed",`, `"graph", "feed",`, "[oap]", "[facets.graph]\nmax_edges = 1\n[oap]")
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	poll(t, "the graph to be back", func() bool {
		_, err := g.Get(ctx, "id/a", "t", "id/b")
		return err == nil
	})
	if _, err := g.Put(ctx, graph.Edge{From: "id/a", Type: "t", To: "id/c"}); code(err) != "Too Many Requests quota_objects" {
		t.Errorf("beyond the new limit: %v", err)
	}
	if r, err := n.operator(t).Ready(ctx); err != nil || !r.Ready {
		t.Errorf("%+v, %v", r, err)
	}
}
