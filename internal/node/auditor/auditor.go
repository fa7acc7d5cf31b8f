// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package auditor puts the audit log together: its files, the keys that sign it, and
// who looks after it from outside. The node runs it; commands open the same log beside
// a node that does not run.
package auditor

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/config/outside"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/outward"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/audit/cosign"
	"github.com/rustyonions/macronode/internal/svc/audit/forward"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Deps are what it is made of. Changed, which may be nil, is called when what Check
// says may have changed.
type Deps struct {
	Dir     datadir.Dir
	KV      store.KV
	Keys    *kms.Store
	NodeID  string
	Bus     *bus.Bus
	Log     *slog.Logger
	Metrics *metrics.Registry
	Changed func()
}

// Auditor is the audit log of a node.
type Auditor struct {
	*audit.Service
	d        Deps
	outward  *outward.Client
	cosigner *cosign.Cosigner
	sinks    *forward.Forwarder
	retainer *audit.Retainer
	key      atomic.Pointer[bundle.Ref] // signs checkpoints
}

// New makes the service ron-audit; it opens its log when it is run.
func New(d Deps, c *config.Config) *Auditor {
	a := &Auditor{d: d, outward: outward.New()}
	a.cosigner = cosign.New(cosign.Config{Log: d.Log, Metrics: d.Metrics, Now: time.Now, Alarm: a.witnessAlarm})
	a.sinks = forward.New(forward.Config{Log: d.Log, Metrics: d.Metrics, Now: time.Now})
	a.retainer = audit.NewRetainer(audit.RetainConfig{Archive: archive{d.Dir}, Versions: a.versions, Read: a.sinks.Least,
		Record: func(ctx context.Context, e macronode.AuditEvent) error { return a.Append(ctx, e) }, Log: d.Log, Metrics: d.Metrics, Now: time.Now})
	a.setOutside(c)
	segment, reserve := int64(c.Audit.SegmentBytes), int64(c.Audit.ReserveBytes)
	a.Service = audit.New(audit.Config{
		Open: func(ctx context.Context) (*tree.Tree, func() error, error) { return a.open(ctx, segment, reserve) },
		Keys: a.signers, Log: d.Log, Metrics: d.Metrics, Queue: int(c.Audit.QueueRecords), Settings: settings(c),
		Beside: []audit.Beside{audit.Witnesses{Cosigner: a.cosigner}, audit.Sinks{Forwarder: a.sinks}, a.retainer}, Cosigner: a.cosigner,
	})
	return a
}

func settings(c *config.Config) audit.Settings {
	return audit.Settings{CheckpointInterval: c.Audit.CheckpointInterval, CollapseAbove: int(c.Audit.CollapseAbove)}
}

// Set applies what a reload changes.
func (a *Auditor) Set(c *config.Config) {
	a.setOutside(c)
	a.SetSettings(settings(c))
}

// setOutside applies what concerns others.
func (a *Auditor) setOutside(c *config.Config) {
	key := c.Audit.Key
	a.key.Store(&key)
	s := cosign.Settings{Quorum: int(c.Audit.WitnessQuorum), Interval: c.Audit.WitnessInterval, Timeout: c.Audit.WitnessTimeout}
	for _, text := range c.Audit.Witnesses {
		if w, ok := outside.ParseWitness(text); ok {
			s.Witnesses = append(s.Witnesses, cosign.Witness{Name: w.Keys[0].Name, Keys: w.Keys, Client: a.outward.Witness(w.URL)})
		}
	}
	a.cosigner.Set(s)
	var targets []forward.Target
	for _, text := range c.Audit.Sinks {
		if t, ok := a.target(text); ok {
			targets = append(targets, t)
		}
	}
	a.sinks.Set(targets)
	a.retainer.SetKeep(c.Audit.Retain)
}

// target is the sink that an element of audit.sinks names.
func (a *Auditor) target(text string) (forward.Target, bool) {
	s, ok := outside.ParseSink(text)
	if !ok {
		return forward.Target{}, false
	}
	var token outward.Secret
	if !s.Token.IsZero() {
		token = func(context.Context) ([]byte, error) {
			b, _, err := a.d.Keys.Object(s.Token)
			return bytes.TrimSpace(b), err
		}
	}
	t := forward.Target{Name: s.Name, Spec: text}
	switch s.Kind {
	case outside.SinkFile:
		t.Sink = outward.File(a.d.Dir.FS, s.Where)
	case outside.SinkOTLP:
		t.Sink = a.outward.OTLP(s.Where, token)
	default:
		t.Sink = a.outward.NDJSON(s.Where, token)
	}
	return t, true
}

// Close drops connections, once nothing runs.
func (a *Auditor) Close() { a.outward.Close() }

// Witnesses is nil where witnesses sign, or there are none.
func (a *Auditor) Witnesses(context.Context) error { return a.cosigner.Err() }

// Sinks is nil where sinks take records, or there are none.
func (a *Auditor) Sinks(context.Context) error { return a.sinks.Err() }

// witnessAlarm tells and records that witnesses refuse, are late, or sign again.
func (a *Auditor) witnessAlarm(state, why string) {
	a.d.Bus.Publish(bus.AuditWitness(state, why))
	a.Record(macronode.AuditEvent{Stream: "node", Kind: "audit.witness", Actor: "node", Subject: "node/audit", Attrs: map[string]any{"state": state}})
	if a.d.Changed != nil {
		a.d.Changed()
	}
}
