// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// Registry makes metrics; the node's own does.
type Registry interface {
	Counter(name, help string) prometheus.Counter
	Counters(name, help string, labels []string, values ...[]string) *prometheus.CounterVec
	Histogram(name, help string, buckets []float64) prometheus.Histogram
}

// Metrics are the service's.
type Metrics struct {
	decisions [rules.Failed + 1]prometheus.Counter // by outcome
	seconds   prometheus.Histogram
	refused   prometheus.Counter
}

// evalBuckets go from a cached decision to the objective, in seconds.
var evalBuckets = []float64{1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2}

// NewMetrics registers the service's metrics, once for a registry.
func NewMetrics(r Registry) *Metrics {
	labels := []string{rules.Allowed.String(), rules.Denied.String(), rules.Failed.String()}
	vec := r.Counters("policy_decisions_total", "Policy decisions, by outcome; error is a denial because a rule failed or there was no policy.",
		[]string{"decision"}, labels)
	m := &Metrics{
		seconds: r.Histogram("policy_eval_seconds", "Time to a policy decision, cached ones too, in seconds.", evalBuckets),
		refused: r.Counter("policy_source_refusals_total", "Readings of the policy source that found a bundle which is not the pinned one."),
	}
	for o := range m.decisions {
		m.decisions[o] = vec.WithLabelValues(rules.Outcome(o).String())
	}
	return m
}

func (m *Metrics) decided(o rules.Outcome, took time.Duration) {
	if m == nil {
		return
	}
	m.decisions[o].Inc()
	if took > 0 {
		m.seconds.Observe(took.Seconds())
	}
}

func (m *Metrics) refusedSource() {
	if m != nil {
		m.refused.Inc()
	}
}
