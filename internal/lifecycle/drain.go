// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/logs"
)

// Phase is how far a drain has come.
type Phase string

// The phases, in order.
const (
	// Serving: no drain.
	Serving Phase = "serving"
	// LameDuck: not ready, still serving, and saying so on every connection.
	LameDuck Phase = "lame_duck"
	// Gated: only control calls enter; long-running ones end.
	Gated Phase = "gate"
	// Idle: nothing but control is left.
	Idle Phase = "idle"
)

// progressEvery is how often a drain that waits says how many calls are left.
const progressEvery = time.Second

// ErrUndrained ends a wait for a drain that was undone.
var ErrUndrained = errors.New("lifecycle: the drain was undone")

// DrainConfig is what a drain works on. Bus and Log may be nil.
type DrainConfig struct {
	Gate *Gate
	Bus  *bus.Bus
	Log  *slog.Logger
	// LameDuck is asked at each drain how long to serve on; nil is 0.
	LameDuck func() time.Duration
	// OnPhase is told each phase as it begins, one call at a time and in
	// order; LameDuck before Drain returns. It must not call the Drainer but
	// for Status and Draining, and must not block. Nil is allowed.
	OnPhase func(Phase)
}

// Drainer empties the node of work, and takes that back at any point.
type Drainer struct {
	cfg      DrainConfig
	log      *slog.Logger
	draining atomic.Bool

	mu     sync.Mutex // held over whole operations
	cancel context.CancelFunc
	done   chan struct{} // the drain's goroutine ended
	sealed bool
	closed bool

	status  sync.Mutex // guards what follows
	phase   Phase
	since   time.Time
	changed chan struct{} // closed and replaced at each change of phase
}

// NewDrainer returns a drainer that serves.
func NewDrainer(cfg DrainConfig) *Drainer {
	return &Drainer{cfg: cfg, log: logs.Discard(cfg.Log), phase: Serving, since: time.Now(), changed: make(chan struct{})}
}

// Draining reports whether a drain is under way or done. It is cheap: listeners
// ask for every answer whether to announce it.
func (d *Drainer) Draining() bool { return d.draining.Load() }

// DrainStatus is how far the drain is.
type DrainStatus struct {
	Phase Phase
	Since time.Time
	Left  int // calls inside that are not control
}

// Status returns how far the drain is.
func (d *Drainer) Status() DrainStatus {
	d.status.Lock()
	defer d.status.Unlock()
	return DrainStatus{d.phase, d.since, d.cfg.Gate.Left()}
}

// Progress is Status for readers that know no DrainStatus.
func (d *Drainer) Progress() (phase string, since time.Time, left int) {
	st := d.Status()
	return string(st.Phase), st.Since, st.Left
}

// Drain begins a drain and returns at once; false where one is under way. When
// it returns the node is no longer ready, and where there is no lame-duck time
// the gate is closed.
func (d *Drainer) Drain() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil || d.closed {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan struct{})
	d.draining.Store(true)
	d.enter(LameDuck)
	var lame time.Duration
	if d.cfg.LameDuck != nil {
		lame = d.cfg.LameDuck()
	}
	if lame <= 0 {
		d.closeGate()
	}
	go func() {
		defer close(d.done)
		d.run(ctx, lame)
	}()
	return true
}

// run carries the drain on from the lame-duck phase.
func (d *Drainer) run(ctx context.Context, lame time.Duration) {
	if lame > 0 {
		t := time.NewTimer(lame)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		d.closeGate()
	}
	told := d.cfg.Gate.Left()
	for {
		wait, cancel := context.WithTimeout(ctx, progressEvery)
		err := d.cfg.Gate.WaitIdle(wait)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			d.enter(Idle)
			return
		}
		if left := d.cfg.Gate.Left(); left != told {
			told = left
			d.cfg.Bus.Publish(bus.Drain(string(Gated), left))
		}
	}
}

func (d *Drainer) closeGate() {
	d.cfg.Gate.Close()
	d.enter(Gated)
}

// enter begins a phase and tells everyone.
func (d *Drainer) enter(p Phase) {
	d.status.Lock()
	before := d.since
	d.phase, d.since = p, time.Now()
	d.status.Unlock()
	left := d.cfg.Gate.Left()
	d.log.Info("drain: "+string(p), logs.KeyEvent, "drain", "phase", string(p), "left", left, logs.KeyLatencyMS, time.Since(before).Milliseconds())
	if d.cfg.OnPhase != nil {
		d.cfg.OnPhase(p)
	}
	d.cfg.Bus.Publish(bus.Drain(string(p), left))
	d.status.Lock()
	defer d.status.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Undrain takes a drain back, wherever it is; false where there is none, or it
// may no longer be undone. When it returns the gate is open.
func (d *Drainer) Undrain() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel == nil || d.sealed {
		return false
	}
	d.end()
	d.cfg.Gate.Open()
	d.draining.Store(false)
	d.enter(Serving)
	return true
}

// end stops the drain's goroutine. d.mu is held.
func (d *Drainer) end() {
	if d.cancel != nil {
		d.cancel()
		<-d.done
		d.cancel = nil
	}
}

// Seal forbids Undrain from now on: the node is going to stop.
func (d *Drainer) Seal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealed = true
}

// WaitIdle returns nil once the drain has come to Idle, ErrUndrained where there
// is no drain or it was undone, or ctx's error.
func (d *Drainer) WaitIdle(ctx context.Context) error {
	for {
		d.status.Lock()
		phase, changed := d.phase, d.changed
		d.status.Unlock()
		switch phase {
		case Idle:
			return nil
		case Serving:
			return ErrUndrained
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends what a drain left running; the phase stays as it is.
func (d *Drainer) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealed, d.closed = true, true
	d.end()
}
