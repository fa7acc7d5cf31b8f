// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/identity"
	"github.com/rustyonions/macronode/internal/svc/kms/minting"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/wall/admit"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/quota"
	"github.com/rustyonions/macronode/revocation"
)

// keysSource is the pinned policy bundle, in the keystore.
type keysSource struct {
	keys *kms.Store
	ref  bundle.Ref
}

// Fetch implements policy.Source.
func (s keysSource) Fetch(context.Context) ([]byte, error) {
	data, _, err := s.keys.Object(s.ref)
	return data, err
}

// policySource is the bundle that ref names, behind the breaker of policy's source.
func (n *Node) policySource(ref bundle.Ref) policy.Source {
	return guard.NewSource(keysSource{n.keys, ref}, n.polAway)
}

// maxMetaCache bounds the part of data.cache_bytes that goes to metadata.
const maxMetaCache = 64 << 20

// metaCache is the part of data.cache_bytes that goes to the blocks of metadata;
// the rest is for objects.
func metaCache(c *config.Config) int64 { return min(int64(c.Data.CacheBytes)/8, maxMetaCache) }

// storageConfig is what svc-storage works with.
func (n *Node) storageConfig(c *config.Config) storage.Config {
	s := storage.Config{KV: n.kv, Objects: n.bytes, Idem: n.idem, Hot: n.hot, Limits: storageLimits(c),
		Log: n.log, Metrics: n.storageMetrics(), Audit: n.audit, ScrubRate: int64(c.Data.ScrubRate)}
	if s.ScrubRate == 0 {
		s.ScrubRate = -1
	}
	if !c.Data.Collect {
		s.CollectEvery = -1
	}
	return s
}

// unreserved is the config of commands that work on a directory without running
// it: what they write is little, and a full disk is no reason not to.
func unreserved() config.Config {
	c := config.Default()
	c.Data.ReserveBytes = 0
	return c
}

// openMeta opens the metadata store.
func openMeta(d datadir.Dir, c config.Config, log *slog.Logger, fatal func(error)) (*pebblekv.KV, error) {
	return pebblekv.Open(pebblekv.Config{FS: d.FS, Dir: d.At(datadir.MetaDir), ReserveBytes: int64(c.Data.ReserveBytes),
		CacheBytes: metaCache(&c), Logger: log, Fatal: fatal})
}

// accessDeps are the neighbours of ron-auth; all may be missing while a data
// directory is being made.
type accessDeps struct {
	nodeID  string
	audit   macronode.Auditor
	storage *storage.Service
	meter   *quota.Meter
	admit   *admit.Controller
	idem    *idem.Keeper
	quota   func() macronode.Quota
	metrics access.Metrics
	log     *slog.Logger
}

func newAccess(ctx context.Context, kv store.KV, keys *kms.Store, deps accessDeps) (*access.Service, error) {
	c := access.Config{KV: kv, Keys: minting.Keys{Store: keys}, NodeID: deps.nodeID, Signer: func() (revocation.Signer, error) { return identity.Of(keys) }, Audit: deps.audit, Idem: deps.idem, DefaultQuota: deps.quota, Metrics: deps.metrics, Log: deps.log}
	if c.Audit == nil {
		c.Audit = noAudit{}
	}
	if c.Idem == nil {
		c.Idem = idem.New(idem.Config{KV: kv})
	}
	if deps.storage != nil {
		c.Purgers = append(c.Purgers, deps.storage)
		c.Stored = deps.storage.Usage
	}
	c.Purgers = append(c.Purgers, c.Idem)
	if deps.meter != nil {
		c.Purgers = append(c.Purgers, deps.meter, deps.admit)
		c.InFlight = deps.meter.InFlight
	}
	return access.New(ctx, c)
}

// noAudit is the auditor of a data directory that is being made: there is no
// node yet to record anything for.
type noAudit struct{}

func (noAudit) Record(macronode.AuditEvent)                        {}
func (noAudit) Append(context.Context, macronode.AuditEvent) error { return nil }

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
