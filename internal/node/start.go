// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/lifecycle"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/route/openapi"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/supervise"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/auth"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/why"
)

// startWait bounds the wait for one service to become ready at start.
const startWait = 5 * time.Second

// readConfig reads the bundle, finds the data directory, and makes the logger.
func (n *Node) readConfig() (*config.Loaded, error) {
	n.level = &slog.LevelVar{}
	n.log = slog.New(slog.DiscardHandler) // until the bundle says otherwise
	f := disk.Real()
	text, err := f.ReadFile(n.opts.Bundle, datadir.MaxFileBytes)
	if err != nil {
		return nil, datadir.Exitf(macronode.ExitConfig, "config bundle: %w", err)
	}
	judged, err := config.Check(text, n.opts.Bundle, datadir.Features())
	if err != nil {
		return nil, err
	}
	path := n.opts.Dir
	if path == "" {
		path = judged.Config.Data.Dir
	}
	if n.dir, err = datadir.Open(f, path); err != nil {
		return nil, err
	}
	l, err := n.loadBundle(text)
	if err != nil {
		return nil, err
	}
	if err := n.makeLogger(&l.Config); err != nil {
		return nil, err
	}
	return l, nil
}

// loadBundle judges the bundle's text and applies what the command line says.
func (n *Node) loadBundle(text []byte) (*config.Loaded, error) {
	o := n.opts
	l, err := n.dir.LoadBundle(text, o.Bundle, o.Overrides)
	if err != nil {
		return nil, err
	}
	if err := l.Override(o.Overrides); err != nil {
		return nil, datadir.Exitf(macronode.ExitUsage, "%w", err)
	}
	l.Config.Data.Dir = n.dir.Path
	if o.HTTP != "" {
		l.Config.Server.Bind = o.HTTP
		l.Origins["server.bind"] = config.Origin{Kind: config.FromFlag, Where: "--http"}
	}
	if o.OAP != "" {
		l.Config.OAP.Bind = o.OAP
		l.Origins["oap.bind"] = config.Origin{Kind: config.FromFlag, Where: "--oap"}
	}
	return l, nil
}

func (n *Node) makeLogger(c *config.Config) error {
	level, err := logs.ParseLevel(c.Telemetry.LogLevel)
	if err != nil {
		return err
	}
	n.level.Set(level)
	format, err := logs.ParseFormat(c.Telemetry.LogFormat)
	if err != nil {
		return err
	}
	if n.opts.Stderr != nil {
		n.log = logs.New(n.opts.Stderr, logs.Options{Format: format, Level: n.level})
	} else {
		n.log = logs.NewStderr(format, n.level)
	}
	return nil
}

func storageLimits(c *config.Config) storage.Limits {
	return storage.Limits{MaxObjectBytes: int64(c.Limits.MaxObjectBytes), ChunkBytes: c.OAP.ChunkBytes,
		DecompressRatio: c.Limits.DecompressRatio, DecompressBytes: int64(c.Limits.DecompressBytes)}
}

func wallLimits(c *config.Config) wall.Limits {
	return wall.Limits{MaxBodyBytes: int64(c.Limits.MaxBodyBytes), MaxObjectBytes: int64(c.Limits.MaxObjectBytes),
		MaxFrameBytes: c.OAP.MaxFrameBytes, RequestTimeout: c.Server.RequestTimeout}
}

// preparePolicy makes the policy stage and puts the pinned bundle in force: a
// node whose policy is bad does not start.
func (n *Node) preparePolicy(ctx context.Context, l *config.Loaded) error {
	c := &l.Config.Policy
	n.polAway = guard.Policy(n.breakers)
	src := n.policySource(c.BundleKMS)
	p, err := policy.New(policy.Config{Source: src, Verifier: n.dir.PolicyVerifier(n.opts.Overrides.Trust.Value), Pin: c.BundleHash.String(),
		CacheTTL: time.Duration(c.CacheTTLMS) * time.Millisecond, Log: n.log, Metrics: policy.NewMetrics(n.metrics), Watch: n.makeWatcher(c)})
	if err != nil {
		return err
	}
	n.policy = p
	n.metrics.GaugeFunc("policy_expiry_seconds", "Time until the policy in force stops deciding; negative once it has; +Inf where it has no end.", n.policyExpiry)
	set, err := p.PrepareFrom(ctx, src, c.BundleHash.String())
	if err != nil {
		return datadir.Exitf(macronode.ExitTrust, "policy bundle %s: %w", c.BundleKMS, err)
	}
	if n.policyStep, err = n.judgePolicy(set, l); err != nil {
		return err
	}
	p.Swap(set)
	n.startShadow(ctx, c)
	n.policyPin.Store((*[32]byte)(&c.BundleHash))
	return nil
}

// buildWall gathers the routes and assembles the pipeline over them.
func (n *Node) buildWall(ctx context.Context, l *config.Loaded) error {
	n.drainer = lifecycle.NewDrainer(lifecycle.DrainConfig{Gate: n.gate, Bus: n.bus, Log: n.log,
		LameDuck: func() time.Duration { return n.config().Server.LameDuck }, OnPhase: n.onPhase})
	n.onStop("drain", func(context.Context) error { n.drainer.Close(); return nil })
	n.applied.Store(l)
	n.why = why.New(why.Config{Policies: n.policy.Set, Pin: n.policyPin.Load, Places: func() int64 { return n.config().Server.MaxInflight },
		MaxBody: func(b *macronode.Binding) int64 { limits := wallLimits(n.config()); return limits.Of(b.MaxBody) }})
	err := n.makeOverlay(&l.Config)
	if err != nil {
		return err
	}
	if n.ops, err = n.makeOps(ctx); err != nil {
		return err
	}
	routes := overlaid{n.oapd, n}.Routes()
	for _, s := range n.behindWall() {
		routes = append(routes, s.Routes()...)
	}
	table, err := route.New(routes)
	if err != nil {
		return err
	}
	if n.openapi, err = openapi.Generate(table.Bindings(), "v1"); err != nil {
		return err
	}
	for _, op := range n.policy.Set().Uncovered(values(table.Bindings())) {
		n.log.Warn("no rule can permit this operation: the policy's schema does not know its action", "event", "policy_uncovered", "op", string(op))
	}
	n.authn = auth.New(auth.Config{Keys: n.access, Tenants: n.access, Revocations: n.access, NodeID: n.nodeID, Peer: n.overlay.Known, Metrics: n.metrics,
		PolicyDigest: func() [32]byte { return *n.policyPin.Load() }})
	n.wall, err = wall.New(table, wallLimits(&l.Config), wall.Stages{
		Gate: n.gate, Auth: n.authn, Policy: n.policy, Quota: n.meter, Admission: n.admit,
		Audit: n.audit, Receipts: n.audit, Services: lateServices{n}, Refused: n.why, Log: n.log, Tracer: n.tracing.Tracer(), Metrics: n.metrics,
	})
	return err
}

func values(bindings []*macronode.Binding) []macronode.Binding {
	out := make([]macronode.Binding, len(bindings))
	for i, b := range bindings {
		out[i] = *b
	}
	return out
}

// lateServices is the supervisor as the wall sees it: made after the wall, since
// the listeners that it supervises need the wall.
type lateServices struct{ n *Node }

func (l lateServices) Up(name string) bool { return l.n.services.Up(name) }
func (l lateServices) Panicked(name string, v any, stack []byte) {
	l.n.services.Panicked(name, v, stack)
}

// config is the config in force.
func (n *Node) config() *config.Config { return &n.applied.Load().Config }

// startServices supervises every service and begins to answer for readiness.
func (n *Node) startServices(ctx context.Context, l *config.Loaded) error {
	n.services = supervise.New(supervise.Config{Bus: n.bus, Metrics: n.metrics, Log: n.log, StartWait: startWait, Classify: classify}, n.listServices()...)
	n.ready = lifecycle.NewReadiness(lifecycle.ReadinessConfig{Checks: n.checks(l), Metrics: n.metrics, Log: n.log,
		ConfigVersion: func() uint64 { return n.applied.Load().Version }})
	n.onStop("readiness", n.ready.Close)
	n.onStop("services", func(ctx context.Context) error {
		if left := n.services.Stop(ctx); len(left) > 0 {
			return fmt.Errorf("did not stop in time: %v", left)
		}
		return nil
	})
	// The services outlive the context of the start; Stop ends them.
	return n.services.Start(context.WithoutCancel(ctx))
}

// classify keeps a service down whose store is damaged: running it again would
// only hide the damage.
func classify(err error) supervise.Verdict {
	if errors.Is(err, store.ErrCorrupt) {
		return supervise.StayDown
	}
	return supervise.Restart
}

// checks are the readiness tests: the kernel's own, and one for each service.
func (n *Node) checks(l *config.Loaded) []lifecycle.Check {
	checks := []lifecycle.Check{
		{Name: "kernel", Required: true, Func: func(context.Context) error {
			if s, _ := n.machine.State(); s != lifecycle.Running {
				return fmt.Errorf("the node is %s", s)
			}
			return nil
		}},
		{Name: "drain", Required: true, Func: func(context.Context) error {
			if n.drainer.Draining() {
				return fmt.Errorf("draining: %s", n.drainer.Status().Phase)
			}
			return nil
		}},
		{Name: "entropy", Required: true, Func: lifecycle.Entropy},
		{Name: "version", Required: true, Func: func(context.Context) error {
			doc, err := n.versionDocument()
			if err != nil {
				return err
			}
			return buildinfo.Check(doc, n.nodeID, n.buildConfig())
		}},
	}
	checks = append(checks, lifecycle.Check{Name: "crash_loop", Func: func(context.Context) error {
		if bad := n.services.Degraded(); len(bad) > 0 {
			return fmt.Errorf("restarting too often, or down for good: %v", bad)
		}
		return nil
	}})
	for _, s := range n.breakers.Statuses() {
		if b, err := n.breakers.Get(s.Name); err == nil && s.Required {
			checks = append(checks, lifecycle.Check{Name: "breaker_" + s.Name, Required: true, Func: func(context.Context) error { return b.Check() }})
		}
	}
	// What ails a certificate is told, and is no reason to answer nobody.
	checks = append(checks, lifecycle.Check{Name: "tls_certificate", Func: n.certs.Ready},
		lifecycle.Check{Name: "audit_witnesses", Func: n.audit.Witnesses},
		lifecycle.Check{Name: "audit_sinks", Func: n.audit.Sinks})
	n.required.Store(requiredSet(&l.Config))
	known := make(map[string]bool)
	for _, s := range n.listServices() {
		name := s.Name()
		known[name] = true
		checks = append(checks, lifecycle.Check{Name: name, RequiredNow: func() bool { return (*n.required.Load())[name] }, Func: func(ctx context.Context) error {
			return n.services.Check(ctx, name)
		}})
	}
	// One that the bundle requires and this node does not have keeps it from
	// being ready, under its name.
	for _, name := range config.ServiceNames() {
		if !known[name] {
			checks = append(checks, lifecycle.Check{Name: name, RequiredNow: func() bool { return (*n.required.Load())[name] }, Absent: func() bool { return !(*n.required.Load())[name] },
				Func: func(context.Context) error { return errors.New("this node has no such service") }})
		}
	}
	return checks
}

// recheck has readiness ask again.
func (n *Node) recheck() {
	if n.ready != nil {
		n.ready.Invalidate()
	}
}

// requiredSet is what readiness needs: what the bundle says, and always policy and
// auth, which decide every request.
func requiredSet(c *config.Config) *map[string]bool {
	set := map[string]bool{policy.Name: true, access.Name: true}
	for _, s := range c.Readiness.RequiredServices {
		set[s] = true
	}
	return &set
}

// confirm makes l the config in force for good: remembered, told and recorded.
func (n *Node) confirm(ctx context.Context, l *config.Loaded) error {
	// What is recorded but then not applied does no harm; the reverse would.
	signer := l.Config.Meta.Signer.String()
	err := n.audit.Append(ctx, macronode.AuditEvent{Stream: "node", Kind: "config.apply", Actor: "node", Subject: "node/config",
		Attrs: map[string]any{"version": int64(l.Version), "bundle_hash": l.Hash.String(), "signer": signer, "rolled_back": fmt.Sprint(l.RolledBack)}})
	if err != nil {
		return err
	}
	if err := n.markPolicy(ctx, l); err != nil {
		return err
	}
	if err := n.dir.SetApplied(l.Applied()); err != nil {
		return err
	}
	n.applied.Store(l)
	n.bus.Publish(bus.ConfigUpdated(l.Version, l.Hash.String(), signer))
	return nil
}

func (n *Node) buildConfig() buildinfo.Config {
	l := n.applied.Load()
	return buildinfo.Config{Version: l.Version, BundleHash: l.Hash.String()}
}

// onPhase tells the listeners how far a drain has come.
func (n *Node) onPhase(p lifecycle.Phase) {
	if n.ready != nil {
		n.ready.Invalidate()
	}
	if n.gateway != nil {
		n.gateway.SetLameDuck(p != lifecycle.Serving)
	}
	if n.oapd != nil && (p == lifecycle.LameDuck || p == lifecycle.Gated) {
		n.oapd.GoAway()
	}
}
