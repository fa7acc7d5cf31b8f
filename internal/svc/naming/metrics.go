// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/name"
)

// Metrics are the service's instruments.
type Metrics struct {
	set, deleted prometheus.Counter
	hits, misses prometheus.Counter
	conflicts    prometheus.Counter
	refused      map[name.Rule]prometheus.Counter
	names        prometheus.Gauge
	watches      prometheus.Gauge
}

// NewMetrics registers the instruments, once a registry; r may be nil for tests.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	var rules []string
	for _, rule := range name.Rules() {
		rules = append(rules, string(rule))
	}
	changes := r.Counters("naming_changes_total", "Changes of names that are durable, by kind.", []string{"kind"}, []string{"set", "delete"})
	lookups := r.Counters("naming_lookups_total", "Look-ups of names, by whether there was one.", []string{"result"}, []string{"found", "missing"})
	refused := r.Counters("naming_refused_total", "Spellings that are no name, by the rule that they break.", []string{"rule"}, rules)
	m := &Metrics{
		set: changes.WithLabelValues("set"), deleted: changes.WithLabelValues("delete"),
		hits: lookups.WithLabelValues("found"), misses: lookups.WithLabelValues("missing"),
		conflicts: r.Counter("naming_conflicts_total", "Changes and reads whose condition did not hold (412)."),
		refused:   make(map[name.Rule]prometheus.Counter),
		names:     r.Gauge("naming_names", "Names of all tenants."),
		watches:   r.Gauge("naming_watches", "Open watches."),
	}
	for _, rule := range name.Rules() {
		m.refused[rule] = refused.WithLabelValues(string(rule))
	}
	return m
}
