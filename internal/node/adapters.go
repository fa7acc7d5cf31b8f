// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// policySource is the bundle that ref names, behind the breaker of policy's source.
func (n *Node) policySource(ref bundle.Ref) policy.Source {
	return guard.NewSource(parts.KeysSource{Keys: n.keys, Ref: ref}, n.polAway)
}

// storageConfig is what svc-storage works with.
func (n *Node) storageConfig(c *config.Config) storage.Config {
	s := storage.Config{KV: n.kv, Objects: n.bytes, Idem: n.idem, Hot: n.hot, Limits: storageLimits(c),
		Log: n.log, Metrics: n.storageMetrics(), Audit: n.audit, Elsewhere: n.elsewhere, Changes: parts.ObjectChanges{J: n.journal}, ScrubRate: int64(c.Data.ScrubRate)}
	if s.ScrubRate == 0 {
		s.ScrubRate = -1
	}
	if !c.Data.Collect {
		s.CollectEvery = -1
	}
	return s
}

// depth is a queue's length that its owner sets and a scrape reads.
type depth struct {
	prometheus.Gauge
	v atomic.Int64
}

func (d *depth) Set(v float64) { d.v.Store(int64(v)) }

// storageMetrics registers what svc-storage reports.
func (n *Node) storageMetrics() storage.Metrics {
	d := &depth{Gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "object_free_depth"})}
	n.metrics.Queue("object_free", func() int { return int(d.v.Load()) })
	failed := n.metrics.Counters("integrity_fail_total", "Bytes that were not what was stored, by where they were found.",
		[]string{"where"}, []string{"object", "scrub"})
	return storage.NewMetrics(n.metrics, failed.WithLabelValues("object"), failed.WithLabelValues("scrub"), d)
}
