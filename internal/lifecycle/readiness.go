// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

const (
	// fresh is how long an answer is repeated without asking again: probes
	// need no capability and must stay cheap however many come.
	fresh = 100 * time.Millisecond
	// patience is how long a probe waits for the checks.
	patience = 1500 * time.Millisecond
	// maxDetailBytes bounds what a check may say.
	maxDetailBytes = 200
)

// Check is one named readiness test. Func must be quick and obey its context;
// nil is a yes. Its error is shown to anyone who asks, so it names the fault
// and nothing secret; of a *macronode.Error only kind and detail are shown.
type Check struct {
	Name string
	// Required checks make the node not ready; the others only degraded.
	Required bool
	// RequiredNow, where set, is asked in place of Required: a reload may
	// change what the node must have.
	RequiredNow func() bool
	// Absent, where set and true, leaves the check out of the report.
	Absent func() bool
	Func   func(ctx context.Context) error
}

func (c *Check) required() bool {
	if c.RequiredNow != nil {
		return c.RequiredNow()
	}
	return c.Required
}

// CheckResult is a check's outcome in the /readyz document.
type CheckResult struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Detail   string `json:"detail"`
	Since    string `json:"since"` // RFC 3339: since when ok has this value
	Required bool   `json:"required"`
}

// Report is the /readyz document.
type Report struct {
	Ready    bool `json:"ready"`
	Degraded bool `json:"degraded"`
	// Checks are in the order of the config.
	Checks []CheckResult `json:"checks"`
	// Missing names the required checks that fail.
	Missing       []string `json:"missing"`
	ConfigVersion uint64   `json:"config_version"`
}

// ReadinessConfig is what readiness depends on. Log may be nil.
type ReadinessConfig struct {
	Checks        []Check
	ConfigVersion func() uint64
	Metrics       *metrics.Registry
	Log           *slog.Logger
}

// Readiness answers whether the node may take traffic.
type Readiness struct {
	cfg  ReadinessConfig
	log  *slog.Logger
	last atomic.Pointer[answer]
	wg   sync.WaitGroup

	mu     sync.Mutex
	gen    uint64  // raised by Invalidate
	flight *flight // the evaluation under way; nil: none

	// Owned by the evaluation under way.
	since  []time.Time
	were   []bool
	ready  bool
	missed string
}

// answer is a report with its rendering.
type answer struct {
	at     time.Time
	report *Report
	body   []byte
}

// flight is one evaluation, shared by all who wait for it.
type flight struct {
	gen  uint64
	at   atomic.Int64 // index of the check that is being asked
	done chan struct{}
	ans  *answer
}

// NewReadiness also makes ready_state. The checks are first asked at the first probe.
func NewReadiness(cfg ReadinessConfig) *Readiness {
	r := &Readiness{cfg: cfg, log: logs.Discard(cfg.Log), since: make([]time.Time, len(cfg.Checks)), were: make([]bool, len(cfg.Checks))}
	cfg.Metrics.GaugeSet("ready_state", "1 for the present answer of /readyz, 0 for the other.", "state", func() map[string]float64 {
		rep, _ := r.Report(context.Background())
		if rep.Ready {
			return map[string]float64{"true": 1, "false": 0}
		}
		return map[string]float64{"true": 0, "false": 1}
	})
	return r
}

// Report returns the /readyz document and its JSON, at most fresh old. Both are
// shared and must not be changed. Where a check does not answer the document
// says which, and the node is not ready.
func (r *Readiness) Report(ctx context.Context) (*Report, []byte) {
	if a := r.last.Load(); a != nil && time.Since(a.at) < fresh {
		return a.report, a.body
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		f, current := r.join()
		if f == nil {
			return current.report, current.body
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return r.stuck(f)
		}
		r.mu.Lock()
		valid := f.gen == r.gen
		r.mu.Unlock()
		if valid {
			return f.ans.report, f.ans.body
		}
	}
}

// Probe is Report for those who only pass the answer on.
func (r *Readiness) Probe(ctx context.Context) (ready bool, body []byte) {
	rep, body := r.Report(ctx)
	return rep.Ready, body
}

// join returns the evaluation under way, or one that it starts, or the answer
// that came meanwhile.
func (r *Readiness) join() (*flight, *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight, nil
	}
	if a := r.last.Load(); a != nil && time.Since(a.at) < fresh {
		return nil, a
	}
	f := &flight{gen: r.gen, done: make(chan struct{})}
	r.flight = f
	r.wg.Go(func() {
		defer close(f.done)
		f.ans = r.evaluate(f)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.flight = nil
		if f.gen == r.gen {
			r.last.Store(f.ans)
		}
	})
	return f, nil
}

// Invalidate makes the next probe ask anew, as when a drain begins.
func (r *Readiness) Invalidate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gen++
	r.last.Store(nil)
}

// Close waits for an evaluation that is under way, or for ctx.
func (r *Readiness) Close(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select { // both may have been there
	case <-done:
		return nil
	default:
		return errors.New("lifecycle: a readiness check does not answer")
	}
}

// evaluate asks every check.
func (r *Readiness) evaluate(f *flight) *answer {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rep := &Report{Ready: true, Checks: make([]CheckResult, 0, len(r.cfg.Checks)), Missing: []string{}}
	for i := range r.cfg.Checks {
		f.at.Store(int64(i))
		if absent := r.cfg.Checks[i].Absent; absent != nil && absent() {
			r.since[i] = time.Time{} // it begins anew when it comes back
			continue
		}
		err := ask(ctx, &r.cfg.Checks[i])
		if ok := err == nil; r.since[i].IsZero() || r.were[i] != ok {
			r.since[i], r.were[i] = time.Now(), ok
		}
		rep.add(&r.cfg.Checks[i], err, r.since[i])
	}
	if r.cfg.ConfigVersion != nil {
		rep.ConfigVersion = r.cfg.ConfigVersion()
	}
	if missing := strings.Join(rep.Missing, ","); rep.Ready != r.ready || missing != r.missed {
		r.ready, r.missed = rep.Ready, missing
		level, msg := slog.LevelInfo, "node is ready"
		if !rep.Ready {
			level, msg = slog.LevelWarn, "node is not ready"
		}
		r.log.Log(ctx, level, msg, logs.KeyEvent, "readiness", "ready", rep.Ready, "missing", rep.Missing, "degraded", rep.Degraded)
	}
	return render(rep)
}

// ask contains a check's panic.
func ask(ctx context.Context, c *Check) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = errors.New("the check panicked")
		}
	}()
	return c.Func(ctx)
}

func (rep *Report) add(c *Check, err error, since time.Time) {
	res := CheckResult{Name: c.Name, OK: err == nil, Detail: "ok", Required: c.required()}
	if !since.IsZero() {
		res.Since = since.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	if err != nil {
		res.Detail = detail(err)
		if res.Required {
			rep.Ready = false
			rep.Missing = append(rep.Missing, c.Name)
		} else {
			rep.Degraded = true
		}
	}
	rep.Checks = append(rep.Checks, res)
}

// detail is what the public may read of a check's error.
func detail(err error) string {
	s := err.Error()
	if e, ok := errors.AsType[*macronode.Error](err); ok {
		if s = e.Detail; s == "" {
			s = e.Kind.Info().Title
		}
	}
	s = strings.ToValidUTF8(logs.Redact(s), "")
	if len(s) > maxDetailBytes {
		s = strings.ToValidUTF8(s[:maxDetailBytes], "") + "…"
	}
	return s
}

func render(rep *Report) *answer {
	body, err := json.Marshal(rep)
	if err != nil { // strings, numbers and booleans always encode
		body = []byte(`{"ready":false}`)
	}
	return &answer{at: time.Now(), report: rep, body: append(body, '\n')}
}

// stuck is the answer while a check does not: what was last known of the
// others, and who hangs.
func (r *Readiness) stuck(f *flight) (*Report, []byte) {
	at := int(f.at.Load())
	rep := &Report{Checks: []CheckResult{}, Missing: []string{}}
	known := map[string]CheckResult{}
	if a := r.last.Load(); a != nil {
		rep.ConfigVersion, rep.Degraded = a.report.ConfigVersion, a.report.Degraded
		for _, c := range a.report.Checks {
			known[c.Name] = c
		}
	}
	for i := range r.cfg.Checks {
		c := &r.cfg.Checks[i]
		res, ok := known[c.Name]
		if !ok {
			if i != at && c.Absent != nil {
				continue
			}
			res = CheckResult{Name: c.Name, Detail: "not asked yet", Required: c.required()}
		}
		if i == at {
			res.OK, res.Detail = false, fmt.Sprintf("has not answered for %v", patience)
			rep.Missing = append(rep.Missing, c.Name)
		}
		rep.Checks = append(rep.Checks, res)
	}
	a := render(rep)
	return a.report, a.body
}
