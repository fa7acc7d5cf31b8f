// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// Metrics are the service's instruments. The zero value counts nothing.
type Metrics struct {
	tenants, revocations prometheus.Gauge
	minted, revoked      prometheus.Counter
	deleting             prometheus.Gauge
}

// NewMetrics registers the instruments.
func NewMetrics(r *metrics.Registry) Metrics {
	return Metrics{
		tenants:     r.Gauge("access_tenants", "Tenants, with the built-in ones and those being deleted."),
		revocations: r.Gauge("access_revocations", "Revoked capability ids."),
		minted:      r.Counter("access_minted_total", "Capabilities minted."),
		revoked:     r.Counter("access_revoked_total", "Revocations accepted."),
		deleting:    r.Gauge("access_deleting_tenants", "Tenants whose deletion is not complete."),
	}
}

// fill makes every member usable.
func (m *Metrics) fill() {
	for _, g := range []*prometheus.Gauge{&m.tenants, &m.revocations, &m.deleting} {
		if *g == nil {
			*g = prometheus.NewGauge(prometheus.GaugeOpts{Name: "unregistered"})
		}
	}
	for _, c := range []*prometheus.Counter{&m.minted, &m.revoked} {
		if *c == nil {
			*c = prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
		}
	}
}
