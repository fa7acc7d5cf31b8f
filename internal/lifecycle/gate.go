// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// defaultRetryAfter is what a refusal by a closed gate suggests: a drain takes
// seconds, and another node may answer sooner.
const defaultRetryAfter = 2 * time.Second

// minLongRetry and maxLongRetry bound what a long-running call is told to wait
// that finds too many of its kind.
const (
	minLongRetry = time.Second
	maxLongRetry = 30 * time.Second
)

// Gate counts every call in and out, and when closed lets only control calls
// in. It is safe from any goroutine.
type Gate struct {
	closed  atomic.Bool
	left    atomic.Int64 // calls inside that are not control
	classes [macronode.NumClasses]atomic.Int64
	long    atomic.Int64 // long-running calls inside, of any class but control
	maxLong atomic.Int64
	waiters atomic.Int64 // callers of WaitIdle

	services map[string]prometheus.Gauge // not changed after NewGate

	mu    sync.Mutex
	idle  chan struct{} // closed and replaced when left reaches 0
	ended chan struct{} // closed while the gate is

	// under mu: ends of long-running calls
	lastEnd time.Time
	gap     time.Duration
}

// NewGate returns an open gate. services is the closed set of names that
// inflight_requests counts by; maxLongRunning bounds the calls of long-running
// routes (watches, long polls), NoLimit for none.
func NewGate(reg *metrics.Registry, services []string, maxLongRunning int64) *Gate {
	g := &Gate{services: make(map[string]prometheus.Gauge, len(services)), idle: make(chan struct{}), ended: make(chan struct{}), lastEnd: time.Now()}
	g.maxLong.Store(maxLongRunning)
	v := reg.Gauges("inflight_requests", "Calls that are being served.", []string{"service"}, services)
	for _, s := range services {
		g.services[s] = v.WithLabelValues(s)
	}
	return g
}

// Enter counts a call in, or refuses it with Draining or Overload. Control
// routes always enter. Each nil is paired with a Leave.
func (g *Gate) Enter(b *macronode.Binding) error {
	if b.Class != macronode.Control {
		if g.closed.Load() {
			return &macronode.Error{Kind: macronode.Draining, RetryAfter: defaultRetryAfter}
		}
		// Counted and then looked at again: a closer that sees no call left
		// can be sure that none slips in. The first look keeps a flood of
		// refusals from ever holding up the wait for idle.
		g.left.Add(1)
		if g.closed.Load() {
			g.leave()
			return &macronode.Error{Kind: macronode.Draining, RetryAfter: defaultRetryAfter}
		}
		if b.LongRunning {
			if n, limit := g.long.Add(1), g.maxLong.Load(); limit != macronode.NoLimit && n > limit {
				g.long.Add(-1)
				g.leave()
				return &macronode.Error{Kind: macronode.Overload, Detail: "too many long-running requests", RetryAfter: g.nextEnd()}
			}
		}
	}
	g.classes[b.Class].Add(1)
	if s := g.services[b.Service]; s != nil {
		s.Inc()
	}
	return nil
}

// Leave counts a call out.
func (g *Gate) Leave(b *macronode.Binding) {
	if s := g.services[b.Service]; s != nil {
		s.Dec()
	}
	g.classes[b.Class].Add(-1)
	if b.Class == macronode.Control {
		return
	}
	if b.LongRunning {
		g.long.Add(-1)
		g.noteEnd()
	}
	g.leave()
}

// noteEnd takes in that a long-running call ended.
func (g *Gate) noteEnd() {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gap += (now.Sub(g.lastEnd) - g.gap) / 4
	g.lastEnd = now
}

// nextEnd is when a place for a long-running call may be free: after as long as
// it took the ones before to end one after the other, or as long as nothing has
// ended now.
func (g *Gate) nextEnd() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(max(g.gap, time.Since(g.lastEnd), minLongRetry), maxLongRetry)
}

// leave counts out and wakes those who wait for the last.
func (g *Gate) leave() {
	if g.left.Add(-1) == 0 && g.waiters.Load() > 0 {
		g.mu.Lock()
		close(g.idle)
		g.idle = make(chan struct{})
		g.mu.Unlock()
	}
}

// Close refuses all but control calls from now on, and ends Ended.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed.Swap(true) {
		close(g.ended)
	}
}

// Open takes Close back.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.Load() {
		g.ended = make(chan struct{})
		g.closed.Store(false)
	}
}

// Closed reports whether the gate is closed.
func (g *Gate) Closed() bool { return g.closed.Load() }

// Ended returns a channel that is closed when the gate next closes, or is
// closed where it is now: long-running calls other than control end then.
func (g *Gate) Ended() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// SetMaxLongRunning changes the limit for calls to come.
func (g *Gate) SetMaxLongRunning(n int64) { g.maxLong.Store(n) }

// Left is how many calls that are not control are inside.
func (g *Gate) Left() int { return int(g.left.Load()) }

// Counts returns the calls inside by class, and how many of them are long-running.
func (g *Gate) Counts() (byClass [macronode.NumClasses]int64, longRunning int64) {
	for i := range g.classes {
		byClass[i] = g.classes[i].Load()
	}
	return byClass, g.long.Load()
}

// WaitIdle returns nil at a moment when no call that is not control is inside,
// or ctx's error. Only while the gate is closed does it stay so.
func (g *Gate) WaitIdle(ctx context.Context) error {
	g.waiters.Add(1)
	defer g.waiters.Add(-1)
	for {
		g.mu.Lock()
		idle := g.idle
		g.mu.Unlock()
		if g.left.Load() == 0 {
			return nil
		}
		select {
		case <-idle:
			if !g.closed.Load() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
