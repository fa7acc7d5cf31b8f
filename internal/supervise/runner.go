// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/logs"
)

// State is what a service's runner is at.
type State string

// The states.
const (
	NotStarted State = "not_started"
	Running    State = "running"
	BackingOff State = "backing_off" // failed, waiting to run again
	Down       State = "down"        // failed for good
	Stopping   State = "stopping"
	Stopped    State = "stopped"
)

// panicReportEvery is the least time between two reports of handler panics.
const panicReportEvery = time.Second

// errReturned is why a run failed that ended without being told to.
var errReturned = errors.New("the service returned without being told to stop")

// panicError is a panic as an error.
type panicError struct {
	value any
	stack []byte
	hold  time.Duration // of a drill
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// drill is the value that a crash drill panics with.
type drill struct{ hold time.Duration }

func (drill) String() string { return "crash drill" }

// runner runs one service.
type runner struct {
	s      *Supervisor
	svc    macronode.Service
	name   string
	exited chan struct{}
	up     atomic.Bool // a run is going on and no drill has ended it

	mu         sync.Mutex
	state      State
	since      time.Time
	cancel     context.CancelFunc // of the runner; nil before the start
	cancelRun  context.CancelFunc // of the present run; nil between runs
	drill      *drill             // asked for, not yet carried out
	restarts   int
	recent     []time.Time // restarts within Window
	failures   int         // in a row, none after a run of stableAfter
	lastError  string
	panicTold  time.Time
	panicsHeld int

	// telling keeps Health events in the order of what they say.
	telling sync.Mutex
	health  health // last published
}

// health is the last published word on a service.
type health uint8

const (
	unknown health = iota
	healthy
	unhealthy
)

func (r *runner) start(base context.Context) {
	ctx, cancel := context.WithCancel(base)
	r.mu.Lock()
	r.cancel = cancel
	r.mu.Unlock()
	go func() {
		defer close(r.exited)
		defer cancel()
		r.run(ctx)
	}()
}

// stop tells the runner to end; false where it was never started.
func (r *runner) stop() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel == nil {
		return false
	}
	if r.state != Stopped {
		r.state, r.since = Stopping, time.Now()
	}
	r.cancel()
	return true
}

func (r *runner) wasStarted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancel != nil
}

// run runs the service again and again until ctx ends.
func (r *runner) run(ctx context.Context) {
	defer func() {
		r.up.Store(false)
		r.set(Stopped)
	}()
	for {
		began := time.Now()
		err := r.once(ctx)
		failed := time.Now()
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				r.s.log.Warn("service failed while stopping", logs.KeyService, r.name, logs.KeyReason, err.Error())
			}
			return
		}
		if err == nil {
			err = errReturned
		}
		wait, again := r.failed(err, failed.Sub(began))
		if !again {
			<-ctx.Done()
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		r.restarted()
		r.s.took.WithLabelValues(r.name).Observe(time.Since(failed).Seconds())
	}
}

// once is one contained run.
func (r *runner) once(ctx context.Context) (err error) {
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.cancelRun = cancel
	if ctx.Err() == nil {
		r.state, r.since = Running, time.Now()
	}
	r.mu.Unlock()
	r.up.Store(true)
	defer func() {
		r.up.Store(false)
		r.mu.Lock()
		r.cancelRun, r.drill = nil, nil
		r.mu.Unlock()
		if v := recover(); v != nil {
			p := &panicError{value: v, stack: debug.Stack()}
			if d, ok := v.(drill); ok {
				p.hold = d.hold
			}
			err = p
		}
	}()
	err = r.svc.Serve(runCtx)
	r.mu.Lock()
	d := r.drill
	r.mu.Unlock()
	if d != nil && ctx.Err() == nil {
		panic(*d)
	}
	return err
}

// failed records that a run of length ran ended in err and says how long to
// wait before the next, or that there is none.
func (r *runner) failed(err error, ran time.Duration) (wait time.Duration, again bool) {
	attrs := []any{logs.KeyService, r.name, logs.KeyEvent, "crash", logs.KeyReason, err.Error()}
	if p, ok := errors.AsType[*panicError](err); ok {
		r.s.panics.WithLabelValues(r.name).Inc()
		attrs = append(attrs, "stack", string(p.stack))
		wait = p.hold
	}
	r.s.log.Error("service crashed", attrs...)

	now := time.Now()
	exit, fatal := errors.AsType[*Exit](err)
	down := fatal || r.s.cfg.Classify != nil && r.s.cfg.Classify(err) == StayDown
	r.mu.Lock()
	r.lastError = logs.Redact(err.Error())
	r.state, r.since = BackingOff, now
	if down {
		r.state = Down
	}
	if ran >= stableAfter {
		r.failures = 0
	}
	// Six doublings reach the maximum; more would overflow in the end.
	limit := min(BackoffBase<<min(r.failures, 6), BackoffMax)
	r.failures++
	r.mu.Unlock()

	r.tell(unhealthy, err.Error())
	r.s.cfg.Bus.Publish(bus.ServiceCrashed(r.name, err.Error()))
	if fatal {
		select {
		case r.s.fatal <- &Exit{Code: exit.Code, Service: r.name, Err: exit.Err}:
		default: // one is enough to end the process
		}
	}
	return max(wait, r.s.cfg.Jitter(limit)), !down
}

// restarted counts a restart that is about to happen.
func (r *runner) restarted() {
	now := time.Now()
	r.s.restarts.WithLabelValues(r.name).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restarts++
	r.forget(now)
	r.recent = append(r.recent, now)
}

// forget drops restarts that left the window. r.mu is held.
func (r *runner) forget(now time.Time) {
	i := 0
	for i < len(r.recent) && now.Sub(r.recent[i]) >= Window {
		i++
	}
	r.recent = append(r.recent[:0], r.recent[i:]...)
}

func (r *runner) set(st State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.since = st, time.Now()
}

func (r *runner) crash(hold time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != Running || r.cancelRun == nil || r.drill != nil {
		return macronode.Errorf(macronode.Conflict, "the service is not running now")
	}
	r.drill = &drill{hold}
	r.up.Store(false)
	r.cancelRun()
	return nil
}

// check asks the service whether it is ready.
func (r *runner) check(ctx context.Context) error {
	if !r.up.Load() {
		return r.whyDown()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := r.ready(ctx)
	switch {
	case !r.up.Load():
		return r.whyDown() // crashed meanwhile, and has told so
	case err == nil:
		r.tell(healthy, "")
	default:
		r.tell(unhealthy, err.Error())
	}
	return err
}

// ready contains panics of the service's own check.
func (r *runner) ready(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the readiness check panicked: %v", v)
		}
	}()
	return r.svc.Ready(ctx)
}

func (r *runner) whyDown() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastError != "" && (r.state == BackingOff || r.state == Down) {
		return fmt.Errorf("%s: %s", r.state, r.lastError)
	}
	st := r.state
	if st == "" {
		st = NotStarted
	}
	if st == Running {
		st = BackingOff // a drill has just ended the run
	}
	return errors.New(string(st))
}

// tell publishes a Health event where the word on the service changed.
func (r *runner) tell(h health, why string) {
	r.telling.Lock()
	defer r.telling.Unlock()
	// A check that was on its way while the service crashed must not call it
	// healthy afterwards; up is false from the crash on.
	if r.health == h || h == healthy && !r.up.Load() {
		return
	}
	r.health = h
	r.s.cfg.Bus.Publish(bus.Health(r.name, h == healthy, why))
}

// awaitReady returns when the service is ready, failed, or time is up.
func (r *runner) awaitReady(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.s.cfg.StartWait)
	defer cancel()
	t := time.NewTicker(readyPoll)
	defer t.Stop()
	for {
		// Not yet being ready is no news during the start.
		if r.up.Load() && r.ready(ctx) == nil {
			r.tell(healthy, "")
			return
		}
		r.mu.Lock()
		st := r.state
		r.mu.Unlock()
		if st == Down || st == BackingOff {
			return
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			r.s.log.Warn("service is not ready yet; starting the next", logs.KeyService, r.name, logs.KeyEvent, "start")
			return
		}
	}
}

// mayReportPanic reports whether a handler panic may be told now, and how many
// were not since the last that was.
func (r *runner) mayReportPanic(now time.Time) (suppressed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.panicTold.IsZero() && now.Sub(r.panicTold) < panicReportEvery {
		r.panicsHeld++
		return 0, false
	}
	suppressed, r.panicsHeld, r.panicTold = r.panicsHeld, 0, now
	return suppressed, true
}

func (r *runner) status() Status {
	r.telling.Lock()
	h := r.health
	r.telling.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(time.Now())
	st := r.state
	if st == "" {
		st = NotStarted
	}
	return Status{
		Name: r.name, State: st, Since: r.since, Healthy: h == healthy && r.up.Load(),
		Degraded: st == Down || len(r.recent) > DegradedAfter, Restarts: r.restarts, LastError: r.lastError,
	}
}
