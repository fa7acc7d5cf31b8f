// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// Values of the label result of registry_proposals_total.
const (
	wasOpened     = "opened"
	wasCommitted  = "committed"
	wasRejected   = "rejected"
	wasSuperseded = "superseded"
	wasWithdrawn  = "withdrawn"
	wasExpired    = "expired"
)

// Values of the label result of registry_heads_total.
const (
	headSame    = "same"    // it says what is known here
	headBehind  = "behind"  // this node has more
	headAdopted = "adopted" // this node took what it was missing
	headRefused = "refused" // it does not verify, or is of another registry
	headFork    = "fork"    // the writer signed another chain
	headFailed  = "failed"  // what is missing could not be had
)

// Metrics are the service's instruments. The zero value counts nothing.
type Metrics struct {
	entries, descriptors, signers, writer prometheus.Gauge
	open                                  prometheus.Gauge
	proposals, approvals, heads           *prometheus.CounterVec
}

// NewMetrics registers the instruments.
func NewMetrics(r *metrics.Registry) Metrics {
	return Metrics{
		entries:     r.Gauge("registry_entries", "Entries of the registry's chain, with those that were dropped behind a checkpoint."),
		descriptors: r.Gauge("registry_descriptors", "Descriptors that are registered."),
		signers:     r.Gauge("registry_signers", "Keys that may approve changes of the registry."),
		writer:      r.Gauge("registry_writer", "1 where this node commits changes of the registry, else 0."),
		open:        r.Gauge("registry_open_proposals", "Proposals that are open on this node."),
		proposals: r.Counters("registry_proposals_total", "Proposals by what became of them.", []string{"result"},
			[]string{wasOpened, wasCommitted, wasRejected, wasSuperseded, wasWithdrawn, wasExpired}),
		approvals: r.Counters("registry_decisions_total", "Signed decisions on proposals, by what became of them.", []string{"result"}, []string{"counted", "refused"}),
		heads: r.Counters("registry_heads_total", "Heads that peers told of, by what became of them.", []string{"result"},
			[]string{headSame, headBehind, headAdopted, headRefused, headFork, headFailed}),
	}
}

// fill makes every member usable.
func (m *Metrics) fill() {
	for _, g := range []*prometheus.Gauge{&m.entries, &m.descriptors, &m.signers, &m.writer, &m.open} {
		if *g == nil {
			*g = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unregistered"})
		}
	}
	for _, c := range []**prometheus.CounterVec{&m.proposals, &m.approvals, &m.heads} {
		if *c == nil {
			*c = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "unregistered"}, []string{"result"})
		}
	}
}
