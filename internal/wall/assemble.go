// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
)

// stage numbers the wall's steps for their timers.
type stage uint8

const (
	stageLookup stage = iota
	stageShape
	stageGate
	stageAuth
	stagePolicy
	stageQuota
	stageOblige
	stageHandler
	stageSend
	numStages
)

var stageNames = [numStages]string{"lookup", "shape", "gate", "auth", "policy", "quota", "oblige", "handler", "send"}

// Limits are the bounds of the shape and handler stages; they change live.
type Limits struct {
	MaxBodyBytes   int64 // requests that are not object streams
	MaxObjectBytes int64
	MaxFrameBytes  int64
	RequestTimeout time.Duration // not for streams and long-running calls
}

// Of is the bound in bytes that a binding's MaxBody stands for.
func (l *Limits) Of(bound int64) int64 {
	switch bound {
	case macronode.BodyDefault:
		return l.MaxBodyBytes
	case macronode.BodyObject:
		return l.MaxObjectBytes
	case macronode.BodyFrame:
		return l.MaxFrameBytes
	default:
		return bound
	}
}

// Stages are the wall's parts. All but Obliger, Receipts, Tracer and Refused are
// required.
type Stages struct {
	Gate      Gate
	Auth      Authenticator
	Policy    Decider
	Quota     Meter
	Admission Admission
	Obliger   Obliger
	Audit     macronode.Auditor
	Receipts  Receipts
	Services  Services
	Refused   Refusals
	Log       *slog.Logger
	Tracer    trace.Tracer
	Metrics   *metrics.Registry
	Now       func() time.Time
}

// Wall is the pipeline. It is safe for concurrent use.
type Wall struct {
	Stages
	table        *route.Table
	limits       atomic.Pointer[Limits]
	stats        map[*macronode.Binding]*routeStats
	rejected     [macronode.NumKinds]prometheus.Counter
	stageSeconds [numStages]prometheus.Observer
	since        func(time.Time) time.Duration
	flights      sync.Pool
}

// routeStats are one route's metrics, resolved once.
type routeStats struct {
	seconds   prometheus.Observer
	responses [500]atomic.Pointer[prometheus.Counter] // by status - 100
	vec       *prometheus.CounterVec
	service   string
	label     string
}

func (s *routeStats) count(status int) {
	if status < 100 || status > 599 {
		status = 500
	}
	at := &s.responses[status-100]
	c := at.Load()
	if c == nil {
		made := s.vec.WithLabelValues(s.service, s.label, strconv.Itoa(status))
		at.Store(&made)
		c = &made
	}
	(*c).Inc()
}

// latencyBuckets span a cached refusal to the request timeout, in seconds.
var latencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .12, .25, .5, 1, 2.5, 5, 10, 30}

// stageBuckets are finer: most stages take microseconds.
var stageBuckets = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2, .1, 1, 10}

// unmatched labels calls that no route answers.
const unmatched = "unmatched"

// New assembles a wall over the routes of table.
func New(table *route.Table, limits Limits, s Stages) (*Wall, error) {
	if s.Gate == nil || s.Auth == nil || s.Policy == nil || s.Quota == nil || s.Admission == nil || s.Audit == nil ||
		s.Services == nil || s.Metrics == nil {
		return nil, errors.New("wall: a stage is missing")
	}
	// A call's time is read a dozen times: what has passed since its start costs
	// half of what the time of day does.
	since := time.Since
	if now := s.Now; now != nil {
		since = func(t time.Time) time.Duration { return now().Sub(t) }
	} else {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	w := &Wall{Stages: s, table: table, stats: make(map[*macronode.Binding]*routeStats), since: since}
	w.limits.Store(&limits)
	seconds := s.Metrics.Histograms("request_latency_seconds", "Time from a call's arrival to its last byte, by route.",
		latencyBuckets, []string{"service", "route"})
	responses := s.Metrics.Counters("http_responses_total", "Answers by route and status code, on both wires.",
		[]string{"service", "route", "code"})
	add := func(b *macronode.Binding, service, label string) {
		w.stats[b] = &routeStats{seconds: seconds.WithLabelValues(service, label), vec: responses, service: service, label: label}
	}
	add(nil, "svc-gateway", unmatched)
	for _, b := range table.Bindings() {
		add(b, b.Service, b.Label())
		w.stats[b].count200()
	}
	rejected := s.Metrics.Counters("rejected_total", "Refusals by reason.", []string{"reason"}, macronode.Reasons)
	for k := range macronode.NumKinds {
		if reason := k.Info().Reason; reason != "" {
			w.rejected[k] = rejected.WithLabelValues(reason)
		}
	}
	stages := s.Metrics.Histograms("wall_stage_seconds", "Time in each stage of the wall.", stageBuckets, []string{"stage"}, stageNames[:])
	for i, name := range stageNames {
		w.stageSeconds[i] = stages.WithLabelValues(name)
	}
	return w, nil
}

// count200 registers the common answer at 0, so that a rate over it exists
// from the first scrape.
func (s *routeStats) count200() {
	made := s.vec.WithLabelValues(s.service, s.label, "200")
	s.responses[100].Store(&made)
}

// SetLimits replaces the limits for calls that arrive from now on.
func (w *Wall) SetLimits(l Limits) { w.limits.Store(&l) }

// Bindings lists what the wall serves.
func (w *Wall) Bindings() []*macronode.Binding { return w.table.Bindings() }

// Reject counts a refusal that a listener made before there was a call.
func (w *Wall) Reject(k macronode.Kind) {
	if c := w.rejected[k]; c != nil {
		c.Inc()
	}
	w.stats[nil].count(k.Info().Status)
}

// end reports the call's outcome, gives the flight back and returns the error
// as the listener shall render it.
func (w *Wall) end(f *flight, err error) error {
	elapsed := w.since(f.start)
	outcome, reason := "ok", ""
	var e *macronode.Error
	if err != nil {
		e = macronode.AsError(err)
		if e.Kind == macronode.Internal && (errors.Is(err, context.DeadlineExceeded)) {
			e = macronode.Wrap(macronode.DeadlineExceeded, "", err)
		}
		err = e
		outcome, reason = "refused", e.Kind.String()
		if f.broken {
			outcome = "broken"
		} else {
			f.status = e.Kind.Info().Status
		}
	}
	stats := f.stats
	if stats == nil {
		stats = w.stats[nil]
	}
	stats.count(f.status)
	w.observe(stats, f, elapsed.Seconds())
	if e != nil && !f.broken {
		if c := w.rejected[e.Kind]; c != nil {
			c.Inc()
			w.Audit.Record(f.event(reason))
			if w.Refused != nil {
				w.Refused.Note(f.refusal(e))
			}
		}
	}
	f.auditAfter(reason)
	f.annotate(outcome)
	w.log(f, e, outcome, reason, elapsed)
	*f = flight{}
	w.flights.Put(f)
	return err
}

func (w *Wall) observe(s *routeStats, f *flight, seconds float64) {
	if f.adm.TraceID != "" {
		if x, ok := s.seconds.(prometheus.ExemplarObserver); ok {
			x.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": f.adm.TraceID})
			return
		}
	}
	s.seconds.Observe(seconds)
}

// auditAfter records what was done on routes, or under obligations, that ask
// for it.
func (f *flight) auditAfter(reason string) {
	if f.recorded || f.b == nil || f.adm.Principal == nil || f.reply == nil && reason == "" {
		return
	}
	// What was announced has an end on record, which is not shed.
	wanted := f.announced || f.b.Audit != macronode.AuditRefusals && reason == ""
	for _, o := range f.adm.Obligations {
		wanted = wanted || (o.Key == "audit" && reason == "")
	}
	if !wanted {
		return
	}
	e := f.event(reason)
	e.Attrs = map[string]any{"phase": "end", "status": int64(f.status)}
	e.Must = f.announced
	f.w.Audit.Record(e)
}

func (w *Wall) log(f *flight, e *macronode.Error, outcome, reason string, elapsed time.Duration) {
	level := slog.LevelDebug
	if f.status >= 500 && f.status != 503 && f.status != 501 {
		level = slog.LevelError
	}
	if !w.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("event", "call"), slog.String("corr_id", f.call.CorrID), slog.String("outcome", outcome),
		slog.Int("status", f.status), slog.Float64("latency_ms", float64(elapsed.Microseconds())/1000),
	}
	if f.b != nil {
		attrs = append(attrs, slog.String("service", f.b.Service), slog.String("route", f.b.Label()))
	}
	if f.adm.TraceID != "" {
		attrs = append(attrs, slog.String("trace_id", f.adm.TraceID))
	}
	if p := f.adm.Principal; p != nil {
		attrs = append(attrs, slog.String("tenant", p.Tenant.String()), slog.String("capability_id", p.LeafID.String()))
	}
	if e != nil {
		attrs = append(attrs, slog.String("reason", reason), slog.String("stage", stageNames[f.stage]))
		if e.Err != nil {
			attrs = append(attrs, slog.String("cause", e.Err.Error()))
		}
	}
	w.Log.LogAttrs(context.Background(), level, "call "+outcome, attrs...)
}
