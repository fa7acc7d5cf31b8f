// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// errEnded is a facet's Serve that returned and should not have.
var errEnded = errors.New("it ended by itself")

// keep runs the facet while it is on, and again after it failed, until ctx ends.
func (g *gate) keep(ctx context.Context) {
	limit := time.Duration(0)
	for ctx.Err() == nil {
		if g.permits.Load() == 0 {
			select {
			case <-ctx.Done():
			case <-g.changed:
			}
			continue
		}
		began := time.Now()
		err := g.session(ctx)
		if err == nil {
			limit = 0
			continue
		}
		if time.Since(began) >= stableAfter {
			limit = 0
		}
		limit = min(max(2*limit, backoffBase), backoffMax)
		g.m.restarts.Inc()
		g.log.Error("a facet failed and is run again", "event", "facet_failed", "reason", err.Error())
		again := time.NewTimer(g.jitter(limit))
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

// session runs the facet until it fails, is turned off or ctx ends; the latter two
// are no error.
func (g *gate) session(ctx context.Context) error {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.run(run) }()
	g.up.Store(true)
	g.m.up.Set(1)
	defer func() { g.up.Store(false); g.m.up.Set(0) }()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return nil
			}
			if err == nil {
				err = errEnded
			}
			return err
		case <-g.changed:
			if g.permits.Load() != 0 {
				continue // off and on again
			}
			g.up.Store(false)
			cancel()
			<-done
			return nil
		}
	}
}

// run is the facet's Serve with its panics as errors.
func (g *gate) run(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			g.panicked(v, debug.Stack())
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return g.facet.Serve(ctx)
}
