// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
)

// Metrics are the service's instruments. IntegrityFail is the node's
// integrity_fail_total{where="object"}, which other services share under their
// own label; FreeDepth is queue_depth{queue="object_free"}. A nil member counts
// nothing.
type Metrics struct {
	IntegrityFail prometheus.Counter
	ScrubFail     prometheus.Counter // the same, where="scrub"
	FreeDepth     prometheus.Gauge

	put, got, freed, orphans, moved, shared, scrubbed prometheus.Counter
	quarantined                                       prometheus.Gauge
}

// NewMetrics registers the instruments that are the service's alone.
func NewMetrics(r *metrics.Registry, integrityFail, scrubFail prometheus.Counter, freeDepth prometheus.Gauge) Metrics {
	return Metrics{
		IntegrityFail: integrityFail, ScrubFail: scrubFail, FreeDepth: freeDepth,
		put:     r.Counter("object_put_bytes_total", "Bytes of objects acknowledged as stored, after decoding."),
		got:     r.Counter("object_get_bytes_total", "Bytes of objects sent, without framing."),
		freed:   r.Counter("object_freed_total", "Stored objects whose bytes were removed after nothing referred to them."),
		orphans: r.Counter("object_orphans_total", "Stored objects without a reference that a crash left and a collection removed."),

		moved:       r.Counter("object_moved_total", "Objects moved out of packs that are mostly dead."),
		shared:      r.Counter("object_shared_total", "References moved to another tenant's copy of the same bytes."),
		scrubbed:    r.Counter("object_scrub_bytes_total", "Bytes of objects that the scrub has read and verified."),
		quarantined: r.Gauge("object_quarantined", "Objects found damaged and not yet put again."),
	}
}

// CacheMetrics registers what the cache counts, which may be nil; once a registry.
func CacheMetrics(r *metrics.Registry, c *hot.Cache) {
	r.CounterFunc("object_cache_hits_total", "Pieces of objects that the cache of verified bytes held.", func() float64 { return float64(c.Stats().Hits) })
	r.CounterFunc("object_cache_misses_total", "Pieces of objects that had to be read and verified.", func() float64 { return float64(c.Stats().Misses) })
	r.GaugeFunc("object_cache_bytes", "Verified bytes held in memory.", func() float64 { return float64(c.Stats().Bytes) })
}

// fill makes every member usable.
func (m *Metrics) fill() {
	nothing := prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	for _, c := range []*prometheus.Counter{&m.IntegrityFail, &m.ScrubFail, &m.put, &m.got, &m.freed, &m.orphans, &m.moved, &m.shared, &m.scrubbed} {
		if *c == nil {
			*c = nothing
		}
	}
	for _, g := range []*prometheus.Gauge{&m.FreeDepth, &m.quarantined} {
		if *g == nil {
			*g = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unregistered"})
		}
	}
}

// collect is what the collector counts.
func (m *Metrics) collect() collect.Metrics {
	by := func(c prometheus.Counter) func(int) { return func(n int) { c.Add(float64(n)) } }
	return collect.Metrics{
		Freed: by(m.freed), Orphans: by(m.orphans), Moved: by(m.moved), Shared: by(m.shared),
		Queue: func(n int) { m.FreeDepth.Set(float64(n)) },
	}
}
