// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// outcome is how asking a neighbour went.
type outcome string

const (
	outcomeFound   outcome = "found"
	outcomeMissing outcome = "missing"
	outcomeFailed  outcome = "failed"
	outcomeLate    outcome = "late" // its share of the call's time was over
	outcomeHeld    outcome = "held" // its breaker did not let the call through
)

var outcomes = []string{string(outcomeFound), string(outcomeMissing), string(outcomeFailed), string(outcomeLate), string(outcomeHeld)}

// Metrics are the service's instruments.
type Metrics struct {
	asks *prometheus.CounterVec
	kept *prometheus.CounterVec
}

// NewMetrics registers the instruments, once a registry; nil is a registry of its own.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	names := make([]string, len(Neighbours))
	for i, n := range Neighbours {
		names[i] = string(n)
	}
	return &Metrics{
		asks: r.Counters("index_asks_total", "Questions of the index to its neighbours, by how they went.", []string{"neighbour", "outcome"}, names, outcomes),
		kept: r.Counters("index_remembered_total", "Answers of peers that were remembered instead of asked for again.", []string{"answer"}, []string{"found", "missing"}),
	}
}

// Watch registers what is read at each scrape.
func (s *Service) Watch(r *metrics.Registry) {
	r.GaugeSet("index_remembered", "Things that the index remembers: what peers said, and summaries of manifests.", "what", func() map[string]float64 {
		answers, summaries := s.Remembered()
		return map[string]float64{"answers": float64(answers), "manifests": float64(summaries)}
	})
}

func (m *Metrics) asked(n Neighbour, o outcome) {
	m.asks.WithLabelValues(string(n), string(o)).Inc()
}

func (m *Metrics) remembered(found bool) {
	if found {
		m.kept.WithLabelValues("found").Inc()
	} else {
		m.kept.WithLabelValues("missing").Inc()
	}
}
