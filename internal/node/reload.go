// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/node/facets"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// Reload reads the bundle again, verifies everything that it names, and only
// then applies it. A refused bundle changes nothing and is not remembered. It
// implements ops.Reloader; the error's text is for the operator.
func (n *Node) Reload(ctx context.Context) (ops.Applied, error) {
	n.reload.Lock()
	defer n.reload.Unlock()
	if n.stopping.Load() {
		return ops.Applied{}, macronode.Errorf(macronode.Draining, "the node is stopping")
	}
	applied, err := n.reloadLocked(ctx)
	if err != nil {
		n.log.Error("the config bundle was refused; the running config stays", "event", "reload_refused", "error", err.Error())
		n.audit.Record(macronode.AuditEvent{Stream: "node", Kind: "config.refuse", Actor: "node", Subject: "node/config", Reason: "refused", Must: true})
		var e *macronode.Error
		if errors.As(err, &e) {
			return applied, err
		}
		return applied, macronode.Wrap(macronode.Invalid, err.Error(), err)
	}
	return applied, nil
}

func (n *Node) reloadLocked(ctx context.Context) (ops.Applied, error) {
	var none ops.Applied
	text, err := n.dir.FS.ReadFile(n.opts.Bundle, datadir.MaxFileBytes)
	if err != nil {
		return none, err
	}
	l, err := n.loadBundle(text)
	if err != nil {
		return none, err
	}
	p, err := n.prepareReload(ctx, l)
	if err != nil {
		return none, err
	}
	if err := n.confirm(ctx, l); err != nil {
		p.sockets.abort()
		return none, err
	}
	if err := errors.Join(n.apply(l, p), n.applyQuotas(ctx)); err != nil {
		return none, err
	}
	out := ops.Applied{Version: l.Version, BundleHash: l.Hash.String(), RestartRequired: p.change.Restart}
	n.log.Info("the config bundle was applied", "event", "reload", "version", l.Version, "live", p.change.Live, "rebind", p.change.Rebind, "restart_required", p.change.Restart)
	return out, nil
}

// prepared is everything that a reload verified and built beside what runs.
type prepared struct {
	change  config.Change
	policy  *policy.Set
	shadow  *policy.Set // nil: none
	sockets *sockets
	secrets *announce.Secrets // nil: none
}

// prepareReload does all that can fail.
func (n *Node) prepareReload(ctx context.Context, l *config.Loaded) (*prepared, error) {
	c := &l.Config
	p := &prepared{change: config.Compare(n.config(), c)}
	if _, err := n.listenRules(c); err != nil {
		return nil, err
	}
	mail := parts.MailboxSettings(c)
	if err := errors.Join(storageLimits(c).Validate(), mail.Validate(), facets.Check(c), namingLimits(c).Validate(), n.checkPeers(c)); err != nil {
		return nil, err
	}
	if _, err := logs.ParseLevel(c.Telemetry.LogLevel); err != nil {
		return nil, err
	}
	var err error
	n.polAway.Reset("a reload reads the bundle")
	if p.policy, err = n.policy.PrepareFrom(ctx, n.policySource(c.Policy.BundleKMS), c.Policy.BundleHash.String()); err != nil {
		return nil, err
	}
	if n.policyStep, err = n.judgePolicy(p.policy, l); err != nil {
		return nil, err
	}
	if p.shadow, err = n.prepareShadow(ctx, &c.Policy); err != nil {
		return nil, err
	}
	if p.secrets, err = n.announceSecrets(c); err != nil {
		return nil, err
	}
	p.sockets, err = n.prepareSockets(ctx, c)
	return p, err
}

// apply swaps in what was prepared. It fails only for a port that another
// process took in between.
func (n *Node) apply(l *config.Loaded, p *prepared) error {
	c := &l.Config
	pin := [32]byte(c.Policy.BundleHash)
	n.policyPin.Store(&pin)
	n.policy.SetCacheTTL(time.Duration(c.Policy.CacheTTLMS) * time.Millisecond)
	n.policy.Swap(p.policy)
	n.watcher.SetRecord(int(c.Policy.Record))
	n.setShadow(p.shadow)
	n.elsewhere.set(p.secrets, c.OAP.FetchOnMiss)
	n.wall.SetLimits(wallLimits(c))
	n.audit.Set(c)
	n.meta.SetReserve(int64(c.Data.ReserveBytes))
	n.objects.SetReserve(int64(c.Data.ReserveBytes))
	n.setMailReserve(int64(c.Data.ReserveBytes))
	n.admit.SetLimit(c.Server.MaxInflight)
	n.gate.SetMaxLongRunning(c.Server.MaxLongRunning)
	rules, err := n.listenRules(c)
	err = errors.Join(err, n.caps.SetRules(rules), n.storage.SetLimits(storageLimits(c)), n.mailbox.SetSettings(parts.MailboxSettings(c)), n.facets.Set(c), n.naming.SetLimits(namingLimits(c)), n.gateway.SetLimits(gatewayLimits(c)),
		n.oapd.SetLimits(oapLimits(c)), n.commitSockets(p.sockets), n.overlay.Refresh())
	level, lerr := logs.ParseLevel(c.Telemetry.LogLevel)
	if lerr == nil {
		n.level.Set(level)
	}
	n.required.Store(requiredSet(c))
	n.ready.Invalidate()
	return errors.Join(err, lerr)
}
