// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/feed"
	"github.com/rustyonions/macronode/client/graph"
)

// BenchmarkCoreBesideFacets reads objects of 1 KiB with four clients, in turns alone
// and while every facet is kept busy at one permit each by two clients a facet: the
// share of the reads that is left, and the 99th percentile of a read meanwhile.
func BenchmarkCoreBesideFacets(b *testing.B) {
	o := prepareDev(b, b.TempDir())
	edit(b, o, "[oap]", "[facets.graph]\npermits = 1\n[facets.feed]\npermits = 1\n[facets.search]\npermits = 1\n[facets.media]\npermits = 1\n[oap]")
	n := begin(b, o)
	tenant := n.tenant(b)
	put, err := tenant.Put(b.Context(), bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 64)), client.PutOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var edges []graph.Edge
	for i := range 1000 {
		edges = append(edges, graph.Edge{From: "id/hub", Type: "t", To: fmt.Sprint("id/", i)})
	}
	if _, err := graph.New(tenant).Import(b.Context(), edges); err != nil {
		b.Fatal(err)
	}
	var alone, beside []time.Duration
	for b.Loop() {
		alone = append(alone, reads(b, n, put.Addr)...)
		stop := busy(b, n)
		beside = append(beside, reads(b, n, put.Addr)...)
		if done := stop(); done == 0 {
			b.Fatal("the facets did nothing")
		}
	}
	slices.Sort(beside)
	b.ReportMetric(float64(len(beside))/float64(len(alone)), "share-left")
	b.ReportMetric(float64(beside[len(beside)*99/100].Microseconds())/1000, "p99-ms")
}

// reads gets the object with four clients for a second.
func reads(b *testing.B, n *Node, addr b3.Addr) (took []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(time.Second)
	for range 4 {
		c := n.tenant(b)
		wg.Go(func() {
			var mine []time.Duration
			for time.Now().Before(end) {
				begun := time.Now()
				var out bytes.Buffer
				if _, err := c.Get(b.Context(), addr, &out, client.GetOptions{}); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(begun))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	return took
}

// busy keeps the facets at work until stop is called, which tells how many calls were
// answered. Who is shed waits as it is told to, but no longer than 50 ms.
func busy(b *testing.B, n *Node) (stop func() int64) {
	ctx, cancel := context.WithCancel(b.Context())
	var done atomic.Int64
	var wg sync.WaitGroup
	for _, call := range []func(*client.Client) error{
		func(c *client.Client) error {
			_, err := graph.New(c).Expand(ctx, graph.Want{ID: "id/hub", Depth: 2, MaxEdges: 1000})
			return err
		},
		func(c *client.Client) error {
			_, _, err := feed.New(c).Read(ctx, "id/hub", "", 100)
			return err
		},
		func(c *client.Client) error {
			_, err := c.Text(ctx, "/v1/search?q=anything", 1<<20)
			return err
		},
	} {
		for range 2 {
			c := n.tenant(b)
			wg.Go(func() {
				for ctx.Err() == nil {
					if call(c) == nil {
						done.Add(1)
						continue
					}
					select {
					case <-ctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			})
		}
	}
	return func() int64 { cancel(); wg.Wait(); return done.Load() }
}
