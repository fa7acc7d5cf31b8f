// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// Metrics are the facet's instruments. A nil member counts nothing.
type Metrics struct {
	queries                     *prometheus.CounterVec
	documents, batches, changes prometheus.Counter
	rebuilt, unread             prometheus.Counter
	open, building              prometheus.Gauge
	lag, took                   prometheus.Observer
	registered                  bool
}

// outcomes of a query.
const (
	outcomeOK      = "ok"
	outcomePartial = "partial" // the index is not complete
	outcomeRefused = "refused" // the query is not one
	outcomeTimeout = "timeout" // it cost too much, or the index did not come far enough
	outcomeFailed  = "failed"
)

// NewMetrics registers the instruments; once a registry.
func NewMetrics(r *metrics.Registry) Metrics {
	return Metrics{
		queries: r.Counters("search_queries_total", "Search queries by how they ended; partial is an answer of an index that is being built.",
			[]string{"outcome"}, []string{outcomeOK, outcomePartial, outcomeRefused, outcomeTimeout, outcomeFailed}),
		documents:  r.Counter("search_documents_total", "Documents written to or removed from search indexes."),
		batches:    r.Counter("search_batches_total", "Batches committed to search indexes."),
		changes:    r.Counter("search_changes_total", "Changes of objects and names that were taken from the journal."),
		rebuilt:    r.Counter("search_rebuilds_total", "Search indexes that were set aside, damaged or too old, and begun again."),
		unread:     r.Counter("search_unread_total", "Objects indexed without their text because their bytes are damaged."),
		open:       r.Gauge("search_open_indexes", "Search indexes that are open."),
		building:   r.Gauge("search_building_indexes", "Search indexes that are not complete."),
		lag:        r.Histogram("search_ingest_seconds", "Time from a change to its being in the search index.", metrics.LatencyBuckets),
		took:       r.Histogram("search_query_seconds", "Time of search queries in the index, without waiting for it.", metrics.LatencyBuckets),
		registered: true,
	}
}

// Watch registers what the facet says of itself; once a registry.
func (f *Facet) Watch(r *metrics.Registry) {
	r.GaugeFunc("search_ingest_lag_seconds", "Age of the oldest change that is not in its search index.", func() float64 { return f.Lag().Seconds() })
	r.Queue("search_ingest", f.Waiting)
}

func (m *Metrics) fill() {
	if m.registered {
		return
	}
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "unregistered"})
	*m = Metrics{
		queries:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "unregistered"}, []string{"outcome"}),
		documents: counter, batches: counter, changes: counter, rebuilt: counter, unread: counter, open: gauge, building: gauge,
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "unregistered"}), took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "unregistered"}),
	}
}
