// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package forward hands the records of the audit log to sinks. Each sink has a cursor
// of its own, kept durably: it moves once the sink took what is before it, so every
// record is handed over at least once, in order, whatever ends in between. Sinks read
// the log; who writes it never waits for one, and keeps nothing for it in memory.
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
)

const (
	// maxBatch and maxBatchBytes bound what is handed over at once.
	maxBatch      = 2048
	maxBatchBytes = 1 << 20
	// linger is how long records are gathered before they are handed over.
	linger = 100 * time.Millisecond
	// pauseFirst is the wait after a failure; it doubles up to pauseMost.
	pauseFirst = 500 * time.Millisecond
	pauseMost  = 30 * time.Second
	// deliverTime bounds one handing over.
	deliverTime = 30 * time.Second
	// failingAfter is how long a sink may fail before Err says so.
	failingAfter = time.Minute
)

// Sink takes records.
type Sink interface {
	// Deliver takes rows, in order. nil: they are the sink's, and never sent again. It
	// may have had any of them before. refused is how many of them it says it will never
	// take.
	Deliver(ctx context.Context, rows []tree.Row) (refused int, err error)
}

// Target is a sink with its name, which its cursor is kept under. Spec tells it from
// another one of that name.
type Target struct {
	Name, Spec string
	Sink       Sink
}

// Log is where records come from; *tree.Tree is one.
type Log interface {
	Durable() uint64
	Grown() <-chan struct{}
	Query(ctx context.Context, q tree.Query) (rows []tree.Row, next uint64, more bool, err error)
	// Cursor is how far a sink came, and SetCursor keeps that durably.
	Cursor(ctx context.Context, sink string) (uint64, error)
	SetCursor(ctx context.Context, sink string, next uint64) error
}

// Config is what a Forwarder needs.
type Config struct {
	Log     *slog.Logger
	Metrics *metrics.Registry
	Now     func() time.Time
}

// Forwarder runs sinks.
type Forwarder struct {
	cfg       Config
	delivered *prometheus.CounterVec
	failures  *prometheus.CounterVec
	refused   *prometheus.CounterVec

	mu      sync.Mutex
	targets []Target
	changed chan struct{} // closed when targets change
	states  map[string]*state
	log     Log // while Serve runs
}

// state is what is known of a sink, by its name.
type state struct {
	next    uint64 // cursor
	known   bool
	behind  time.Time // since when records wait; zero: none does
	failing time.Time // since when it fails; zero: it does not
	err     error
}

// New returns a forwarder without sinks.
func New(cfg Config) *Forwarder {
	f := &Forwarder{cfg: cfg, changed: make(chan struct{}), states: map[string]*state{}}
	m := cfg.Metrics
	f.delivered = m.Counters("audit_sink_delivered_total", "Audit records that a sink took.", []string{"sink"})
	f.failures = m.Counters("audit_sink_errors_total", "Times that a sink took nothing.", []string{"sink"})
	f.refused = m.Counters("audit_sink_refused_total", "Audit records of which a sink said that it will never take them.", []string{"sink"})
	m.GaugeSet("audit_sink_lag_records", "Durable audit records that a sink did not take yet.", "sink", f.each(func(s *state, size uint64) float64 {
		return float64(size - min(size, s.next))
	}))
	m.GaugeSet("audit_sink_lag_seconds", "Since when audit records wait for a sink; 0: none does.", "sink", f.each(func(s *state, _ uint64) float64 {
		if s.behind.IsZero() {
			return 0
		}
		return max(0, f.cfg.Now().Sub(s.behind).Seconds())
	}))
	return f
}

func (f *Forwarder) each(g func(s *state, size uint64) float64) func() map[string]float64 {
	return func() map[string]float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		var size uint64
		if f.log != nil {
			size = f.log.Durable()
		}
		out := map[string]float64{}
		for _, t := range f.targets {
			out[t.Name] = g(f.state(t.Name), size)
		}
		return out
	}
}

// state is the sink's; mu is held.
func (f *Forwarder) state(name string) *state {
	s := f.states[name]
	if s == nil {
		s = &state{}
		f.states[name] = s
	}
	return s
}

// Set makes targets hold from now on. One that stays as it was goes on undisturbed.
func (f *Forwarder) Set(targets []Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets = slices.Clone(targets)
	close(f.changed)
	f.changed = make(chan struct{})
}

// Err says which sinks have failed for long; nil: none has.
func (f *Forwarder) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var bad []string
	for _, t := range f.targets {
		if s := f.state(t.Name); !s.failing.IsZero() && f.cfg.Now().Sub(s.failing) >= failingAfter {
			bad = append(bad, fmt.Sprintf("%s takes no records since %s: %v", t.Name, s.failing.UTC().Format(time.RFC3339), s.err))
		}
	}
	if bad == nil {
		return nil
	}
	return errors.New(strings.Join(bad, "; "))
}

// Least is the index before which all sinks have what there is; all where there are
// no sinks. ok is false where that is not known yet.
func (f *Forwarder) Least(all uint64) (least uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.targets {
		s := f.state(t.Name)
		if !s.known {
			return 0, false
		}
		all = min(all, s.next)
	}
	return all, true
}

// running is a sink's goroutine.
type running struct {
	spec string
	stop context.CancelFunc
	done chan struct{}
}

// Serve runs the sinks until ctx ends.
func (f *Forwarder) Serve(ctx context.Context, log Log) error {
	f.mu.Lock()
	f.log = log
	f.mu.Unlock()
	runs := map[string]*running{}
	for {
		f.mu.Lock()
		targets, changed := f.targets, f.changed
		f.mu.Unlock()
		wanted := map[string]string{}
		for _, t := range targets {
			wanted[t.Name] = t.Spec
		}
		for name, r := range runs {
			if spec, ok := wanted[name]; !ok || spec != r.spec || ctx.Err() != nil {
				r.stop()
				<-r.done
				delete(runs, name)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		for _, t := range targets {
			if runs[t.Name] == nil {
				runs[t.Name] = f.start(ctx, log, t)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (f *Forwarder) start(ctx context.Context, log Log, t Target) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{t.Spec, cancel, make(chan struct{})}
	go func() {
		defer close(r.done)
		p := &pump{f: f, log: log, t: t}
		for ctx.Err() == nil {
			p.step(ctx)
		}
	}()
	return r
}
