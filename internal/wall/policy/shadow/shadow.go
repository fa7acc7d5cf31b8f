// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package shadow watches the policy's decisions from the side: it keeps the
// newest, and asks a candidate bundle the same questions, without ever deciding
// anything. Nothing here is waited for: what does not fit the queue is counted
// and forgotten.
//
// What is seen are decisions that were evaluated. One that came out of the cache
// repeats one that was seen at most a time to live before.
package shadow

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/record"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// queueLen bounds the decisions that wait to be looked at, about 512 KiB.
const queueLen = 1024

// Results of asking the candidate, labels of policy_shadow_total.
const (
	Same       = "same"
	WouldAllow = "would_allow"
	WouldDeny  = "would_deny"
	Errored    = "error" // the candidate failed to evaluate, or has expired
)

// Registry makes metrics; the node's own does.
type Registry interface {
	Counter(name, help string) prometheus.Counter
	Counters(name, help string, labels []string, values ...[]string) *prometheus.CounterVec
}

// Metrics are the watcher's.
type Metrics struct {
	results map[string]prometheus.Counter
	dropped prometheus.Counter
}

// NewMetrics registers the metrics, once for a registry.
func NewMetrics(r Registry) *Metrics {
	labels := []string{Same, WouldAllow, WouldDeny, Errored}
	vec := r.Counters("policy_shadow_total", "Decisions that the shadow policy was asked too, by what it would have done.", []string{"result"}, labels)
	m := &Metrics{results: map[string]prometheus.Counter{},
		dropped: r.Counter("policy_observe_dropped_total", "Policy decisions that were neither recorded nor put to the shadow policy, for the queue was full.")}
	for _, l := range labels {
		m.results[l] = vec.WithLabelValues(l)
	}
	return m
}

// Config is what the watcher needs.
type Config struct {
	Record  int              // decisions that are kept; 0: none
	Now     func() time.Time // nil: time.Now
	Metrics *Metrics         // nil: none
}

// Watcher sees decisions go by. All methods may be called from any goroutine.
type Watcher struct {
	cfg     Config
	queue   chan seen
	dropped atomic.Uint64
	hider   *record.Hider
	active  atomic.Bool // something is recorded or shadowed

	mu        sync.Mutex
	ring      *record.Ring
	candidate *rules.Set // nil: none
	since     time.Time  // of the candidate
	tally     *record.Tally
	results   map[string]uint64
	failure   string // the first of this candidate
}

// seen is one decision on its way, with nothing of the request's own memory.
type seen struct {
	request   wall.PolicyRequest
	principal macronode.Principal
	tenant    macronode.Tenant
	live      *rules.Set
	answer    rules.Answer
}

// New makes a watcher. Nothing is looked at until Serve runs.
func New(cfg Config) *Watcher {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	w := &Watcher{cfg: cfg, queue: make(chan seen, queueLen), hider: record.NewHider(), ring: record.NewRing(cfg.Record)}
	w.reset(nil)
	w.settle()
	return w
}

// settle notes whether there is anything to do. mu is held, or nobody else is there.
func (w *Watcher) settle() { w.active.Store(w.candidate != nil || w.cfg.Record > 0) }

// See takes note of an answer that live gave to r. It copies what it needs and
// never waits; an answer out of the cache costs nothing. A nil Watcher sees nothing.
func (w *Watcher) See(r *wall.PolicyRequest, live *rules.Set, a rules.Answer) {
	if !a.Fresh || w == nil || !w.active.Load() || r.Principal == nil || r.Tenant == nil {
		return
	}
	if len(w.queue) == cap(w.queue) { // before anything is copied
		w.drop()
		return
	}
	s := seen{request: *r, live: live, answer: a}
	s.principal = macronode.Principal{Kind: r.Principal.Kind, Tenant: r.Principal.Tenant, RootID: r.Principal.RootID, Node: r.Principal.Node}
	s.tenant = macronode.Tenant{ID: r.Tenant.ID, Label: r.Tenant.Label}
	s.request.Principal, s.request.Tenant = nil, nil
	s.request.Resource.ID = strings.Clone(r.Resource.ID)
	s.request.Subject = strings.Clone(r.Subject)
	select {
	case w.queue <- s:
	default:
		w.drop()
	}
}

func (w *Watcher) drop() {
	w.dropped.Add(1)
	if w.cfg.Metrics != nil {
		w.cfg.Metrics.dropped.Inc()
	}
}

// Depth is how many decisions wait.
func (w *Watcher) Depth() int { return len(w.queue) }

// Serve looks at what was seen, until ctx ends.
func (w *Watcher) Serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.queue:
			w.look(&s)
		}
	}
}

// look records one decision and asks the candidate. Whatever a candidate does to
// the code that asks it ends here.
func (w *Watcher) look(s *seen) {
	defer func() {
		if recover() != nil {
			w.drop()
		}
	}()
	r := &s.request
	r.Principal, r.Tenant = &s.principal, &s.tenant
	d := w.hider.Decision(r, s.live, s.answer)
	w.mu.Lock()
	w.ring.Add(d)
	candidate := w.candidate
	w.mu.Unlock()
	if candidate == nil {
		return
	}
	w.compared(&d, r, candidate, s.answer, ask(candidate, r, w.cfg.Now()))
}

// compared counts what the candidate would have done.
func (w *Watcher) compared(d *record.Decision, r *wall.PolicyRequest, candidate *rules.Set, live, a rules.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.candidate != candidate {
		return // another one, or none, since
	}
	result := compare(live, a)
	w.results[result]++
	if w.cfg.Metrics != nil {
		w.cfg.Metrics.results[result].Inc()
	}
	w.tally.Add(*d, r, candidate, a)
	if result == Errored && w.failure == "" && len(a.Failures) > 0 {
		w.failure = string(a.Failures[0].PolicyID) + ": " + a.Failures[0].Message
	}
}

// ask puts the question to the candidate as if it were in force.
func ask(candidate *rules.Set, r *wall.PolicyRequest, now time.Time) rules.Answer {
	if candidate.Expired(now) {
		return rules.Answer{Outcome: rules.Failed}
	}
	return candidate.Decide(r, r.Time, 0)
}

func compare(live, candidate rules.Answer) string {
	switch {
	case candidate.Outcome == rules.Failed && live.Outcome != rules.Failed:
		return Errored
	case candidate.Decision.Allow == live.Decision.Allow:
		return Same
	case candidate.Decision.Allow:
		return WouldAllow
	}
	return WouldDeny
}

// SetCandidate asks set from now on, with counts from zero; nil asks nobody. The
// same content again changes nothing.
func (w *Watcher) SetCandidate(set *rules.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if set != nil && w.candidate != nil && set.Hash() == w.candidate.Hash() {
		return
	}
	w.reset(set)
	w.settle()
}

func (w *Watcher) reset(set *rules.Set) {
	w.candidate, w.since, w.tally, w.failure = set, w.cfg.Now(), record.NewTally(), ""
	w.results = map[string]uint64{Same: 0, WouldAllow: 0, WouldDeny: 0, Errored: 0}
}

// SetRecord keeps at most n decisions from now on; those kept stay, the newest.
func (w *Watcher) SetRecord(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cfg.Record = n
	w.ring.Resize(n)
	w.settle()
}

// Decisions are the newest n that are kept, the oldest of them first.
func (w *Watcher) Decisions(n int) []record.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ring.Newest(n)
}

// Status is what the candidate would have done; the answer of
// GET /v1/admin/policy/shadow.
type Status struct {
	// BundleHash and Version are the candidate's; empty where there is none.
	BundleHash string `json:"bundle_hash,omitempty"`
	Version    int64  `json:"version,omitempty"`
	SinceMS    int64  `json:"since_ms,omitempty"`
	Expired    bool   `json:"expired,omitempty"`
	// Results counts since then: same, would_allow, would_deny, error.
	Results map[string]uint64 `json:"results"`
	// Failure is the first policy of the candidate that failed to evaluate.
	Failure string        `json:"failure,omitempty"`
	Flips   []record.Flip `json:"flips"`
	Untold  int           `json:"untold,omitempty"` // flips beyond the groups listed
	// Recorded decisions can be had from /v1/admin/policy/decisions.
	Recorded int `json:"recorded"`
	// Dropped counts decisions that nobody looked at, since the start.
	Dropped uint64 `json:"dropped"`
}

// Status describes the watcher.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{Results: map[string]uint64{}, Recorded: w.ring.Len(), Dropped: w.dropped.Load(), Failure: w.failure}
	for k, v := range w.results {
		s.Results[k] = v
	}
	report := w.tally.Report()
	s.Flips, s.Untold = report.Flips, report.Untold
	if c := w.candidate; c != nil {
		s.BundleHash, s.Version, s.SinceMS, s.Expired = c.Hash(), c.Version(), w.since.UnixMilli(), c.Expired(w.cfg.Now())
	}
	return s
}
