// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rustyonions/macronode"
)

// errLate ends a handler that took too long.
var errLate = errors.New("the facet did not answer in time")

// guard is the handler h behind the gate.
func (g *gate) guard(h macronode.Handler) macronode.Handler {
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if err := g.open(); err != nil {
			g.m.calls[outcomeOff].Inc()
			return nil, err
		}
		if !g.take() {
			g.m.calls[outcomeShed].Inc()
			return nil, g.down(busyRetry, "the facet %s is working on %d calls, as many as it may", g.name, g.permits.Load())
		}
		leave, err := g.breaker.Enter()
		if err != nil {
			g.give()
			g.m.calls[outcomeHeld].Inc()
			return nil, err
		}
		v := &visit{g: g, tether: newTether(ctx, a), long: a.Binding.LongRunning}
		reply, err := v.run(ctx, h)
		o := v.outcome(err)
		g.m.calls[o].Inc()
		if o == outcomeFailed {
			leave(errors.Join(ErrFailed, err))
		} else {
			leave(err)
		}
		return reply, err
	}
}

// visit is one call behind the gate. It holds a permit, which goes with the
// handler's end or, where the reply has a stream, with the stream's.
type visit struct {
	g      *gate
	tether *tether
	long   bool
	failed bool // it panicked, or did not end in time
}

// outcome is what became of the call, for the breaker and for who counts.
func (v *visit) outcome(err error) outcome {
	switch {
	case v.failed, err != nil && macronode.KindOf(err) == macronode.Internal:
		return outcomeFailed
	case err != nil:
		return outcomeRefused
	}
	return outcomeOK
}

// result is what a handler returned.
type result struct {
	reply *macronode.Reply
	err   error
	died  bool // it panicked
}

// run works on the call in a goroutine of its own, so that a handler that does not
// end keeps neither the caller nor the caller's place in the node.
func (v *visit) run(ctx context.Context, h macronode.Handler) (*macronode.Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx) // finish calls it, or the reply's stream
	if !v.long {
		late := time.AfterFunc(CallLimit, func() { cancel(errLate) })
		defer late.Stop()
	}
	done := make(chan result, 1)
	go func() {
		r := v.work(macronode.WithYielder(ctx, v.tether), h)
		if !v.tether.deliver(func() { done <- r }) {
			if r.reply != nil && r.reply.Stream != nil {
				_ = r.reply.Stream.Close() // nobody reads it
			}
			v.g.give()
			v.g.log.Warn("a handler that was left behind has ended", "event", "facet_late")
		}
	}()
	select {
	case r := <-done:
		return v.finish(ctx, r, cancel)
	case <-ctx.Done():
	}
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case r := <-done:
		return v.finish(ctx, r, cancel)
	case <-grace.C:
	}
	if !v.tether.cut() { // it came back at the last moment
		return v.finish(ctx, <-done, cancel)
	}
	v.failed = true
	cause := context.Cause(ctx)
	cancel(nil)
	v.g.m.left.Inc()
	v.g.log.Error("a handler does not end and was left behind, with its permit", "event", "facet_hang", "op", string(v.tether.admitted.Binding.Op))
	return nil, v.g.late(cause)
}

// finish gives the permit back, or makes the reply's stream do so.
func (v *visit) finish(ctx context.Context, r result, cancel context.CancelCauseFunc) (*macronode.Reply, error) {
	v.failed = r.died
	if r.err == nil && r.reply != nil && r.reply.Stream != nil {
		release := v.g.give
		if v.long {
			v.g.give()
			release = func() {}
		}
		r.reply.Stream = &heldStream{Stream: r.reply.Stream, done: func() { cancel(nil); release() }}
		return r.reply, nil
	}
	v.g.give()
	if r.err != nil && context.Cause(ctx) == errLate {
		v.failed = true
		r.err = v.g.late(r.err)
	}
	cancel(nil)
	return r.reply, r.err
}

// late is the refusal of a call that was not answered in time.
func (g *gate) late(cause error) error {
	return g.failure("the facet "+g.name+" did not answer in time", cause)
}

// failure is what a caller sees of a facet that failed.
func (g *gate) failure(detail string, cause error) error {
	return &macronode.Error{Kind: macronode.FacetDown, Detail: detail, RetryAfter: busyRetry, Err: cause}
}

// work is the handler with its panics as results.
func (v *visit) work(ctx context.Context, h macronode.Handler) (r result) {
	defer func() {
		if p := recover(); p != nil {
			v.g.panicked(p, debug.Stack())
			r = result{nil, v.g.failure("the facet "+v.g.name+" failed", fmt.Errorf("panic: %v", p)), true}
		}
	}()
	reply, err := h(ctx, &v.tether.admitted)
	return result{reply, err, false}
}
