// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker/desk"
	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/route/openapi"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/ops/drillbook"
	admitdesk "github.com/rustyonions/macronode/internal/wall/admit/desk"
)

// drillEvery is how often each drill should pass: once a quarter.
const drillEvery = 90 * 24 * time.Hour

// spareBytes bounds the answers that are kept in memory for operators.
const spareBytes = 4 << 20

// makeOps gives the operators' routes what they show and steer.
func (n *Node) makeOps(ctx context.Context) (*ops.Service, error) {
	book, err := drillbook.Open(ctx, n.kv, drillEvery, time.Now)
	if err != nil {
		n.log.Warn("which drills were carried out is not known", "event", "drills", "error", err)
	}
	book.Register(n.metrics)
	return ops.New(ops.Config{
		Metrics: n.metrics, Ready: prober{n}, Version: n.mustVersion, Status: n, Events: n.bus, Reload: n, Drain: n.drainer,
		Crash: crasher{n}, Documents: documents{n}, Idem: n.idem,
		Shutdown: func() { n.requestStop("an operator asked") },
		Drills:   func() bool { return n.config().Server.Drills },
		Spare:    idem.New(idem.Config{KV: mem.NewKV(mem.KVConfig{MaxBytes: spareBytes, ReserveBytes: spareBytes})}),
		Away:     func() bool { return n.kvAway.Check() != nil },
		Breakers: desk.New(n.breakers, n.audit), Why: n.why, Book: book,
	})
}

func (n *Node) versionDocument() ([]byte, error) {
	return json.Marshal(buildinfo.Read().Document(n.nodeID, n.buildConfig(), posture(*n.config())))
}

// mustVersion is versionDocument for the probe: the document is made of plain
// values and always marshals.
func (n *Node) mustVersion() []byte {
	doc, err := n.versionDocument()
	if err != nil {
		panic(err)
	}
	return append(doc, '\n')
}

type prober struct{ n *Node }

func (p prober) Probe(ctx context.Context) (bool, []byte) {
	if p.n.ready == nil {
		return false, []byte(`{"ready":false,"degraded":false,"checks":[],"missing":["kernel"],"config_version":0}`)
	}
	return p.n.ready.Probe(ctx)
}

// crasher is the supervisor, which is made after the services.
type crasher struct{ n *Node }

func (c crasher) Crash(service string, hold time.Duration) error {
	return c.n.services.Crash(service, hold)
}

type documents struct{ n *Node }

func (d documents) OpenAPI() []byte { return d.n.openapi.JSON }

func (d documents) Schema(name string) ([]byte, bool) {
	s, ok := d.n.openapi.Schemas[name]
	return s, ok
}

var _ ops.Documents = documents{}

// api is the generated description of what the node serves.
type api = openapi.Document

// Status implements ops.StatusSource.
func (n *Node) Status(ctx context.Context) ops.Status {
	state, since := n.machine.State()
	report, _ := n.ready.Report(ctx)
	l := n.applied.Load()
	drained := n.drainer.Status()
	byClass, long := n.gate.Counts()
	s := ops.Status{
		NodeID: n.nodeID, State: string(state), SinceMS: since.UnixMilli(), StartedMS: n.start.UnixMilli(),
		Ready: report.Ready, Degraded: report.Degraded, Missing: report.Missing,
		Config:   ops.Applied{Version: l.Version, BundleHash: l.Hash.String()},
		Drain:    ops.Progress{Phase: string(drained.Phase), SinceMS: drained.Since.UnixMilli(), Left: drained.Left},
		InFlight: make(map[string]int64), LongRunning: long, Admission: admitdesk.Document(n.admit), Services: []ops.ServiceStatus{}, Breakers: desk.New(n.breakers, n.audit).Breakers(), Peers: n.peerStatuses(),
	}
	for c, count := range byClass {
		s.InFlight[macronode.Class(c).String()] = count
	}
	for _, v := range n.services.Status() {
		s.Services = append(s.Services, ops.ServiceStatus{Name: v.Name, State: string(v.State), SinceMS: v.Since.UnixMilli(),
			Healthy: v.Healthy, Degraded: v.Degraded, Restarts: v.Restarts, LastError: v.LastError})
	}
	return s
}

// requestStop asks Run to drain and stop.
func (n *Node) requestStop(why string) {
	select {
	case n.shutdown <- why:
	default: // one request is enough
	}
}
