// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// outcome is what became of a call to a facet.
type outcome int

const (
	outcomeOK      outcome = iota // answered
	outcomeRefused                // by the facet's own judgement
	outcomeFailed                 // panic, internal error, no answer in time
	outcomeShed                   // no permit was left
	outcomeHeld                   // by the breaker
	outcomeOff                    // the facet does not run
	numOutcomes
)

var outcomeNames = []string{"ok", "refused", "failed", "shed", "held", "off"}

// Metrics are the service's instruments.
type Metrics struct {
	calls                 *prometheus.CounterVec
	restarts, left        *prometheus.CounterVec
	permits, inflight, up *prometheus.GaugeVec
}

// NewMetrics registers the instruments, once a registry; r may be nil for tests.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	label := []string{"facet"}
	return &Metrics{
		calls: r.Counters("facet_calls_total", "Calls to a facet, by what became of them: ok, refused (by the facet's own judgement), failed, shed (no permit), held (breaker), off (not enabled, or restarting).",
			[]string{"facet", "outcome"}, Names, outcomeNames),
		restarts: r.Counters("facet_restarts_total", "Runs of a facet that failed and were followed by another.", label, Names),
		left:     r.Counters("facet_hangs_total", "Handlers that did not end when they were told to and were left behind.", label, Names),
		permits:  r.Gauges("facet_permits", "Calls that a facet may work on at a time; 0: it is off.", label, Names),
		inflight: r.Gauges("facet_inflight", "Permits of a facet that are held.", label, Names),
		up:       r.Gauges("facet_up", "1 while a facet runs.", label, Names),
	}
}

// meters are one facet's.
type meters struct {
	calls                 [numOutcomes]prometheus.Counter
	restarts, left        prometheus.Counter
	permits, inflight, up prometheus.Gauge
}

func (m *Metrics) of(facet string) *meters {
	f := &meters{restarts: m.restarts.WithLabelValues(facet), left: m.left.WithLabelValues(facet), permits: m.permits.WithLabelValues(facet),
		inflight: m.inflight.WithLabelValues(facet), up: m.up.WithLabelValues(facet)}
	for i, name := range outcomeNames {
		f.calls[i] = m.calls.WithLabelValues(facet, name)
	}
	return f
}
