// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"sync/atomic"

	"github.com/rustyonions/macronode"
)

// Limiter is the node's admission: at most max_inflight calls run at once. The
// last eighth of the places is kept for core reads, the last quarter from
// facets, so that under pressure facets are shed first, then core writes, then
// core reads. Control and long-running calls are not counted here: the first
// are never shed, and the second have the gate's own limit.
//
// It does not queue and knows no tenants.
type Limiter struct {
	limit    atomic.Int64
	inflight atomic.Int64
}

// NewLimiter admits at most limit calls at once; NoLimit admits all.
func NewLimiter(limit int64) *Limiter {
	l := new(Limiter)
	l.limit.Store(limit)
	return l
}

// SetLimit changes the limit for calls to come.
func (l *Limiter) SetLimit(limit int64) { l.limit.Store(limit) }

// InFlight is how many counted calls run.
func (l *Limiter) InFlight() int64 { return l.inflight.Load() }

// Admit lets the call run or refuses it with Overload. Each nil is paired with
// a Release.
func (l *Limiter) Admit(_ context.Context, _ *macronode.Tenant, b *macronode.Binding) error {
	if uncounted(b) {
		return nil
	}
	limit := l.limit.Load()
	if l.inflight.Add(1) <= share(limit, b.Class) || limit == macronode.NoLimit {
		return nil
	}
	l.inflight.Add(-1)
	return &macronode.Error{Kind: macronode.Overload, Detail: "too many requests in flight"}
}

// Release ends an admitted call.
func (l *Limiter) Release(_ *macronode.Tenant, b *macronode.Binding) {
	if !uncounted(b) {
		l.inflight.Add(-1)
	}
}

func uncounted(b *macronode.Binding) bool { return b.Class == macronode.Control || b.LongRunning }

// share is how far the node may be filled for a call of this class to enter.
func share(limit int64, c macronode.Class) int64 {
	switch c {
	case macronode.Facet:
		return limit - limit/4
	case macronode.CoreWrite:
		return limit - limit/8
	default:
		return limit
	}
}
