// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package supervise runs the node's services, each on its own: what one does
// wrong, by error or panic, is contained, logged with its stack, counted, and
// followed by a restart after a jittered exponential back-off. More than
// DegradedAfter restarts within Window mark the service degraded; it is still
// restarted, and stops being degraded when the window has moved on.
//
// Services are started in the order given, each once the one before is ready
// (or Config.StartWait has passed), and stopped in reverse.
package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

// The restart policy.
const (
	// BackoffBase and BackoffMax bound the time before a restart: it is drawn
	// evenly from 0 to BackoffBase, doubled for each failure in a row, at most
	// BackoffMax. A run of a second or more begins a new row: it is a crash,
	// not a service that cannot start.
	BackoffBase = 100 * time.Millisecond
	BackoffMax  = 5 * time.Second
	// Window is how long a restart counts towards degraded.
	Window = time.Minute
	// DegradedAfter is how many restarts within Window are still in order.
	DegradedAfter = 5
	// MaxHold bounds how long a drill may keep a service down.
	MaxHold = time.Minute
)

const (
	// stableAfter is how long a run lasts that ends a row of failures.
	stableAfter = time.Second
	// monitorEvery is how often running services are asked whether they are
	// ready, so that a Health event does not wait for a probe.
	monitorEvery = 500 * time.Millisecond
	// readyTimeout bounds one such question.
	readyTimeout = time.Second
	// readyPoll is how often Start asks.
	readyPoll = 2 * time.Millisecond
	// defaultStartWait is Config.StartWait's default.
	defaultStartWait = 2 * time.Second
	// stopGrace is what is left to services that are told to stop only after
	// the deadline.
	stopGrace = 100 * time.Millisecond
)

// Config is what a supervisor needs. Bus, Log, Jitter and Classify may be nil.
type Config struct {
	Bus     *bus.Bus
	Metrics *metrics.Registry
	Log     *slog.Logger
	// Jitter draws a time from [0, limit]; nil draws evenly.
	Jitter func(limit time.Duration) time.Duration
	// Classify says what the error that ended a service's run calls for. It is
	// asked before the default, which is Restart unless the error is an Exit.
	Classify func(err error) Verdict
	// StartWait bounds the wait for one service's readiness at the start.
	StartWait time.Duration
}

// Verdict says what an error calls for.
type Verdict uint8

const (
	// Restart is the ordinary outcome.
	Restart Verdict = iota
	// StayDown leaves the service down and degraded: running it again would
	// only hide the damage (a corrupt store).
	StayDown
)

// Exit is an error that ends the process with an exit code.
type Exit struct {
	Code    int
	Service string // set by the supervisor
	Err     error
}

func (e *Exit) Error() string { return e.Err.Error() }

func (e *Exit) Unwrap() error { return e.Err }

// Supervisor runs services. Make one with New.
type Supervisor struct {
	cfg     Config
	log     *slog.Logger
	runners []*runner          // in start order
	byName  map[string]*runner // not changed after New
	fatal   chan *Exit

	restarts *prometheus.CounterVec
	panics   *prometheus.CounterVec
	took     *prometheus.HistogramVec

	mu          sync.Mutex
	started     bool
	stopMonitor context.CancelFunc
	monitorDone chan struct{}
}

// New prepares to run the services in the given order. Names must differ.
func New(cfg Config, services ...macronode.Service) *Supervisor {
	if cfg.Jitter == nil {
		cfg.Jitter = func(limit time.Duration) time.Duration { return rand.N(limit + 1) }
	}
	if cfg.StartWait <= 0 {
		cfg.StartWait = defaultStartWait
	}
	names := make([]string, len(services))
	for i, svc := range services {
		names[i] = svc.Name()
	}
	s := &Supervisor{
		cfg: cfg, log: logs.Discard(cfg.Log), byName: map[string]*runner{}, fatal: make(chan *Exit, 1),
		restarts: cfg.Metrics.Counters("service_restarts_total", "Restarts of a service after its run failed.", []string{"service"}, names),
		panics:   cfg.Metrics.Counters("service_panics_total", "Panics contained, of a service's run or one of its handlers.", []string{"service"}, names),
		took: cfg.Metrics.Histograms("service_restart_seconds", "Time from a failed run to the next.",
			[]float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 60}, []string{"service"}, names),
	}
	for i, svc := range services {
		if s.byName[names[i]] != nil {
			panic("supervise: two services are named " + names[i])
		}
		r := &runner{s: s, svc: svc, name: names[i], exited: make(chan struct{})}
		s.runners = append(s.runners, r)
		s.byName[r.name] = r
	}
	return s
}

// Start starts every service in order and returns when all run. A service that
// is not ready in time does not keep the others from starting: readiness tells.
// It returns ctx's error where ctx ends first; Stop then still has to be called.
func (s *Supervisor) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return fmt.Errorf("supervise: started twice")
	}
	s.started = true
	base := context.WithoutCancel(ctx)
	for _, r := range s.runners {
		r.start(base)
		r.awaitReady(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	mctx, cancel := context.WithCancel(base)
	s.stopMonitor, s.monitorDone = cancel, make(chan struct{})
	go func() {
		defer close(s.monitorDone)
		s.monitor(mctx)
	}()
	return nil
}

// monitor notices services that run but cannot work.
func (s *Supervisor) monitor(ctx context.Context) {
	t := time.NewTicker(monitorEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, r := range s.runners {
			if r.up.Load() {
				_ = r.check(ctx) // check itself publishes what changed
			}
		}
	}
}

// Stop stops the services in reverse order, waiting for each until ctx ends,
// and returns the names of those that would not stop. It may be called again.
func (s *Supervisor) Stop(ctx context.Context) (unstopped []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopMonitor != nil {
		s.stopMonitor()
		<-s.monitorDone
	}
	for i := len(s.runners) - 1; i >= 0; i-- {
		r := s.runners[i]
		if !r.stop() {
			continue
		}
		select {
		case <-r.exited:
			s.log.Debug("service stopped", logs.KeyService, r.name)
		case <-ctx.Done():
		}
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	for i := len(s.runners) - 1; i >= 0; i-- {
		r := s.runners[i]
		if !r.wasStarted() {
			continue
		}
		select {
		case <-r.exited:
			continue
		default:
		}
		select {
		case <-r.exited:
		case <-grace.C:
			grace.Reset(0) // the rest had the same grace
			unstopped = append(unstopped, r.name)
			s.log.Error("service would not stop", logs.KeyService, r.name, logs.KeyEvent, "unstopped")
		}
	}
	return unstopped
}

// Fatal delivers the first error that must end the process.
func (s *Supervisor) Fatal() <-chan *Exit { return s.fatal }

// Up reports whether the named service is running. It is cheap: the wall asks
// for every call. A name that is not supervised is not up.
func (s *Supervisor) Up(name string) bool {
	r := s.byName[name]
	return r != nil && r.up.Load()
}

// Check returns nil where the named service runs and is ready, else why not.
// It publishes a Health event where that changed.
func (s *Supervisor) Check(ctx context.Context, name string) error {
	r := s.byName[name]
	if r == nil {
		return fmt.Errorf("no service of this name runs here")
	}
	return r.check(ctx)
}

// Panicked reports a panic in a handler of the named service, which the wall
// contained. The service goes on running: a caller who found a way to make a
// handler panic must not be able to take the service from everyone else. At
// most one a second and service is logged and published; all are counted.
func (s *Supervisor) Panicked(name string, value any, stack []byte) {
	r := s.byName[name]
	if r == nil {
		s.log.Error("handler panicked", logs.KeyService, name, logs.KeyEvent, "panic", logs.KeyReason, fmt.Sprint(value), "stack", string(stack))
		return
	}
	s.panics.WithLabelValues(name).Inc()
	suppressed, ok := r.mayReportPanic(time.Now())
	if !ok {
		return
	}
	s.log.Error("handler panicked", logs.KeyService, name, logs.KeyEvent, "panic", logs.KeyReason, fmt.Sprint(value),
		"stack", string(stack), "suppressed", suppressed)
	s.cfg.Bus.Publish(bus.ServiceCrashed(name, "handler panic: "+fmt.Sprint(value)))
}

// Crash makes the named service crash for a drill: its run is ended, and once
// it has returned the runner panics in its place, so that containment, events,
// counters, back-off and restart are those of a real crash. hold, at most
// MaxHold, is how long it stays down at least. Crash does not wait for it: the
// caller may be a call that the service itself is serving.
func (s *Supervisor) Crash(name string, hold time.Duration) error {
	r := s.byName[name]
	if r == nil {
		return macronode.Errorf(macronode.NotFound, "no service of this name runs here")
	}
	return r.crash(min(max(hold, 0), MaxHold))
}

// Status describes one service for operators.
type Status struct {
	Name      string
	State     State
	Since     time.Time // of the state
	Healthy   bool      // ran and was ready when last asked
	Degraded  bool
	Restarts  int
	LastError string // "" where it never failed
}

// Status lists the services in start order.
func (s *Supervisor) Status() []Status {
	out := make([]Status, len(s.runners))
	for i, r := range s.runners {
		out[i] = r.status()
	}
	return out
}

// Degraded lists the services that restart too often or stay down.
func (s *Supervisor) Degraded() []string {
	var names []string
	for _, r := range s.runners {
		if r.status().Degraded {
			names = append(names, r.name)
		}
	}
	return names
}
