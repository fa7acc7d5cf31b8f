// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/omnigate/graph"
)

// BenchmarkFanout publishes to 10 000 followers on disk, with the 95th percentile of
// the time until the last of them has the post, and the slowest other write meanwhile.
func BenchmarkFanout(b *testing.B) {
	kv, err := pebblekv.Open(pebblekv.Config{FS: disk.Real(), Dir: b.TempDir(), BallastBytes: -1, CacheBytes: 64 << 20, MemTableBytes: 4 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = kv.Close() })
	w := over(b, kv)
	for at := 0; at < 10_000; {
		var edges []graph.PutRequest
		for range 1000 {
			edges = append(edges, graph.PutRequest{From: fmt.Sprint("id/", at), Type: graph.FollowType, To: "name/a"})
			at++
		}
		w.Ask(req{Op: "graph.import", Body: graph.ImportRequest{Edges: edges}}, nil)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.f.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		w.publish("name/a", "a post of some forty bytes, or thereabout")
		w.settle()
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*95/100].Milliseconds()), "p95-ms")
}
