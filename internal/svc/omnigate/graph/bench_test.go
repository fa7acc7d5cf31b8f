// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/omnigate/facettest"
)

// millionEdges is a graph of 100 000 vertices with ten edges out of each, on disk.
func millionEdges(b *testing.B) *world {
	b.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: disk.Real(), Dir: b.TempDir(), BallastBytes: -1, CacheBytes: 64 << 20, MemTableBytes: 16 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = kv.Close() })
	f, err := New(Config{KV: kv, Idem: idem.New(idem.Config{KV: kv}), Settings: Settings{MaxEdges: 2_000_000}})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for v := 0; v < 100_000; {
		var edges []Edge
		for range 400 {
			for range 10 {
				edges = append(edges, ref(fmt.Sprint("id/", v), "t", fmt.Sprint("id/", r.IntN(100_000))))
			}
			v++
		}
		if _, _, err := f.store(b.Context(), facettest.Tenant(7).ID, edges, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	return &world{facettest.Drive(b, admit, f.Routes()), b, kv, f}
}

// BenchmarkMillion are calls to a graph of a million edges, with the 95th percentile.
func BenchmarkMillion(b *testing.B) {
	w := millionEdges(b)
	r := rand.New(rand.NewPCG(3, 4))
	any := func() string { return fmt.Sprint("id/", r.IntN(100_000)) }
	for _, c := range []struct {
		name string
		make func() req
	}{
		{"neighbours-out", func() req { return req{Op: "graph.neighbours", Query: kvs{"id": any()}} }},
		{"neighbours-in", func() req { return req{Op: "graph.neighbours", Query: kvs{"id": any(), "direction": "in"}} }},
		{"expand-2", func() req { return req{Op: "graph.expand", Query: kvs{"id": any(), "depth": "2"}} }},
		{"put", func() req { return putOf(any(), "t", any()) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				q := c.make()
				begun := time.Now()
				if _, err := w.Do(q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "p95-µs")
		})
	}
}
