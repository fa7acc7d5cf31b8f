// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// Metrics are the service's instruments. IntegrityFail is the node's
// integrity_fail_total{where="object"}, which other services share under their
// own label; FreeDepth is queue_depth{queue="object_free"}. A nil member counts
// nothing.
type Metrics struct {
	IntegrityFail prometheus.Counter
	FreeDepth     prometheus.Gauge

	put, got, freed, orphans prometheus.Counter
}

// NewMetrics registers the instruments that are the service's alone.
func NewMetrics(r *metrics.Registry, integrityFail prometheus.Counter, freeDepth prometheus.Gauge) Metrics {
	return Metrics{
		IntegrityFail: integrityFail, FreeDepth: freeDepth,
		put:     r.Counter("object_put_bytes_total", "Bytes of objects acknowledged as stored, after decoding."),
		got:     r.Counter("object_get_bytes_total", "Bytes of objects sent, without framing."),
		freed:   r.Counter("object_freed_total", "Stored objects whose bytes were removed after nothing referred to them."),
		orphans: r.Counter("object_orphans_total", "Stored objects without a reference that the sweep at start removed."),
	}
}

// fill makes every member usable.
func (m *Metrics) fill() {
	nothing := prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	for _, c := range []*prometheus.Counter{&m.IntegrityFail, &m.put, &m.got, &m.freed, &m.orphans} {
		if *c == nil {
			*c = nothing
		}
	}
	if m.FreeDepth == nil {
		m.FreeDepth = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unregistered"})
	}
}
