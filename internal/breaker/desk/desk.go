// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package desk shows the node's breakers to operators and lets them force them.
package desk

import (
	"context"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/svc/ops"
)

// Desk implements ops.Breakers.
type Desk struct {
	r     *breaker.Registry
	audit macronode.Auditor
}

var _ ops.Breakers = (*Desk)(nil)

// New returns a desk over r; every force is on record in audit before it holds.
func New(r *breaker.Registry, audit macronode.Auditor) *Desk { return &Desk{r, audit} }

// Breakers implements ops.Breakers.
func (d *Desk) Breakers() []ops.BreakerStatus {
	list := d.r.Statuses()
	out := make([]ops.BreakerStatus, len(list))
	for i, s := range list {
		out[i] = status(s)
	}
	return out
}

func status(s breaker.Status) ops.BreakerStatus {
	out := ops.BreakerStatus{Name: s.Name, State: s.State.String(), Mode: s.Mode.String(), Required: s.Required, Reason: s.Why,
		SinceMS: s.Since.UnixMilli(), InFlight: s.InFlight, Failures: s.Failures, Opened: s.Opened, Refused: s.Refused, LastFailure: s.Last}
	if !s.Until.IsZero() {
		out.UntilMS = s.Until.UnixMilli()
	}
	return out
}

// modes are the words of a force.
var modes = map[string]breaker.Mode{"auto": breaker.Auto, "open": breaker.ForcedOpen, "closed": breaker.ForcedClosed}

// Force implements ops.Breakers.
func (d *Desk) Force(ctx context.Context, actor string, f ops.BreakerForce) (ops.BreakerStatus, error) {
	b, err := d.r.Get(f.Name)
	if err != nil {
		return ops.BreakerStatus{}, err
	}
	mode, ok := modes[f.State]
	if !ok {
		return ops.BreakerStatus{}, macronode.Errorf(macronode.Invalid, "state is open, closed or auto")
	}
	if err := b.Forceable(mode, f.For); err != nil {
		return ops.BreakerStatus{}, err
	}
	err = d.audit.Append(ctx, macronode.AuditEvent{Stream: "node", Kind: "breaker.force", Actor: actor, Subject: "node/",
		Attrs: map[string]any{"dependency": f.Name, "state": f.State, "for_ms": int64(f.For / time.Millisecond), "why": f.Reason}})
	if err != nil {
		return ops.BreakerStatus{}, macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	why := "an operator asked"
	if f.Reason != "" {
		why = f.Reason
	}
	if err := b.Force(mode, f.For, why); err != nil {
		return ops.BreakerStatus{}, err
	}
	return status(b.Status()), nil
}
