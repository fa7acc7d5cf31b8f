// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAnnouncementLag: how long after a put was acknowledged at one node another
// finds the object, while eight clients put as fast as they can: p50 and p99 in
// milliseconds, with the puts a second beside them.
func BenchmarkAnnouncementLag(b *testing.B) {
	nodes := mesh(b, []string{"", ""}, nil)
	from, to := nodes[0], nodes[1]
	first := from.put([]byte("the first"))
	to.await("told of the first object", func() bool { resp, _ := to.request("GET", first, nil, nil); return resp.StatusCode == 200 })
	var stop atomic.Bool
	var puts atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for k := 0; !stop.Load(); k++ {
				from.put(someBytes(2000, uint64(1+w)<<32|uint64(k)))
				puts.Add(1)
			}
		})
	}
	var lags []time.Duration
	began := time.Now()
	for i := 0; b.Loop(); i++ {
		path := from.put(someBytes(500, uint64(i)))
		acked := time.Now()
		to.await("told of an object", func() bool { resp, _ := to.request("GET", path, nil, nil); return resp.StatusCode == 200 })
		lags = append(lags, time.Since(acked))
	}
	took := time.Since(began)
	stop.Store(true)
	wg.Wait()
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(puts.Load())/took.Seconds(), "puts/s")
}
