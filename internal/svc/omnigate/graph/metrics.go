// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// visitBuckets are of edges that an expansion visits.
var visitBuckets = []float64{1, 10, 30, 100, 300, 1000, 3000, 10_000}

// Metrics are the facet's instruments.
type Metrics struct {
	put, deleted prometheus.Counter
	visited      prometheus.Observer
	ended        *prometheus.CounterVec
	edges        atomic.Int64
}

// NewMetrics registers the instruments, once a registry; r may be nil for tests.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	m := &Metrics{
		put:     r.Counter("graph_put_total", "Edges that were put, new ones and such that were there."),
		deleted: r.Counter("graph_deleted_total", "Edges that were deleted one by one."),
		visited: r.Histogram("graph_expand_edges", "Edges that an expansion visited.", visitBuckets),
		ended:   r.Counters("graph_expand_ended_total", "Expansions that their budget ended, by what was spent.", []string{"budget"}, ends),
	}
	r.GaugeFunc("graph_edges", "Edges of all tenants, counted when the facet starts and with each change.", func() float64 { return float64(m.edges.Load()) })
	return m
}
