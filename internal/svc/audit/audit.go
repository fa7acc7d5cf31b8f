// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/tlog"
)

// Name is the service's name.
const Name = "ron-audit"

const (
	// defaultQueue is Config.Queue's default.
	defaultQueue = 4096
	// patience bounds how long Append waits where the caller's own deadline is
	// further off.
	patience = 5 * time.Second
	// room is how long Append waits for a place in a full queue.
	room = time.Second
	// maxTextBytes bounds each text of a record, so that no caller's name for
	// something can make its record too large to keep.
	maxTextBytes = 512
)

// Config is what the service needs. Log is where records go.
type Config struct {
	Writer  string // node_id
	Log     *slog.Logger
	Metrics *metrics.Registry
	Now     func() time.Time // nil: time.Now
	Queue   int              // entries; 0: 4096
}

// Service implements macronode.Service and macronode.Auditor.
type Service struct {
	cfg   Config
	queue chan item

	appended prometheus.Counter
	shed     prometheus.Counter
	cut      prometheus.Counter
	lag      prometheus.Histogram

	fold folder

	// Owned by Serve, of which one runs at a time.
	seq   uint64
	heads map[string]b3.Addr
}

var (
	_ macronode.Service = (*Service)(nil)
	_ macronode.Auditor = (*Service)(nil)
)

// item is an event in the queue.
type item struct {
	event macronode.AuditEvent
	at    time.Time
	wait  *waiter // nil: nobody waits
}

// waiter is an Append that waits for its record.
type waiter struct {
	state atomic.Int32 // waiting, then taken or abandoned
	done  chan error
}

const (
	waiting int32 = iota
	taken
	abandoned
)

// New returns the service; records are written while Serve runs.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Queue <= 0 {
		cfg.Queue = defaultQueue
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		cfg: cfg, queue: make(chan item, cfg.Queue), heads: map[string]b3.Addr{},
		appended: cfg.Metrics.Counter("audit_appended_total", "Audit records written."),
		shed:     cfg.Metrics.Counter("audit_shed_total", "Audit events dropped because the queue was full."),
		cut:      cfg.Metrics.Counter("audit_cut_total", "Audit records written without details that did not fit."),
		lag: cfg.Metrics.Histogram("audit_append_lag_seconds", "Time from an event to its record.",
			[]float64{1e-5, 5e-5, 1e-4, 5e-4, .001, .005, .01, .05, .1, .25, .5, 1, 5}),
	}
	s.fold.folded = cfg.Metrics.Counter("audit_folded_total", "Refusals counted in another record instead of having their own.")
	cfg.Metrics.Queue("audit", func() int { return len(s.queue) })
	return s
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Routes implements macronode.Service. It has none.
func (s *Service) Routes() []macronode.Route { return nil }

// Ready reports whether the queue takes events.
func (s *Service) Ready(context.Context) error {
	if len(s.queue) == cap(s.queue) {
		return errors.New("the audit queue is full")
	}
	return nil
}

// Serve writes records until ctx ends, and then what is still queued.
func (s *Service) Serve(ctx context.Context) error {
	t := time.NewTicker(foldEvery)
	defer t.Stop()
	for {
		select {
		case it := <-s.queue:
			s.take(it)
		case <-t.C:
			s.flushFolded(false)
		case <-ctx.Done():
			s.flush()
			return nil
		}
	}
}

// flush writes what is queued and folded.
func (s *Service) flush() {
	for {
		select {
		case it := <-s.queue:
			s.take(it)
		default:
			s.flushFolded(true)
			return
		}
	}
}

// Record queues e without waiting, or sheds it with a count.
func (s *Service) Record(e macronode.AuditEvent) {
	now := s.cfg.Now()
	if e.Reason != "" && s.fold.take(&e, now) {
		return
	}
	select {
	case s.queue <- item{event: e, at: now}:
	default:
		s.shed.Inc()
	}
}

// Append returns nil once e's record is written. It fails with Overload where
// the queue stays full, and with Unavailable where the record could not be
// written or was not in time; it is then never written later.
func (s *Service) Append(ctx context.Context, e macronode.AuditEvent) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	it := item{event: e, at: s.cfg.Now(), wait: &waiter{done: make(chan error, 1)}}
	if err := s.enqueue(ctx, it); err != nil {
		return err
	}
	select {
	case err := <-it.wait.done:
		return err
	case <-ctx.Done():
	}
	if it.wait.state.CompareAndSwap(waiting, abandoned) {
		return macronode.Wrap(macronode.Unavailable, "the audit record was not written in time", ctx.Err())
	}
	return <-it.wait.done // it is being written just now
}

func (s *Service) enqueue(ctx context.Context, it item) error {
	select {
	case s.queue <- it:
		return nil
	default:
	}
	t := time.NewTimer(room)
	defer t.Stop()
	select {
	case s.queue <- it:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	s.shed.Inc()
	return macronode.Errorf(macronode.Overload, "the audit queue is full")
}

// take writes one item and tells who waits for it, even where writing panics.
func (s *Service) take(it item) {
	var err error = macronode.Errorf(macronode.Unavailable, "the audit record could not be written")
	if w := it.wait; w != nil {
		if !w.state.CompareAndSwap(waiting, taken) {
			return // the caller was told no, so this must not be on record as done
		}
		defer func() { w.done <- err }()
	}
	if werr := s.write(&it.event, it.at); werr != nil {
		err = macronode.Wrap(macronode.Unavailable, "the audit record could not be written", werr)
		return
	}
	err = nil
	s.lag.Observe(s.cfg.Now().Sub(it.at).Seconds())
}

// write gives e its place and logs it. The place is taken only once it is logged.
func (s *Service) write(e *macronode.AuditEvent, at time.Time) error {
	r := tlog.Record{
		V: tlog.Version, TSMilli: at.UnixMilli(), Writer: s.cfg.Writer, Seq: s.seq, Stream: text(e.Stream), Kind: text(e.Kind),
		Actor: text(e.Actor), Subject: text(e.Subject), Reason: text(e.Reason), Attrs: attrs(e.Attrs),
	}
	entry, err := r.Seal(s.heads[r.Stream])
	if err != nil {
		// What happened, to what and by whom always fits; the rest does not.
		s.cut.Inc()
		r.Attrs = tlog.Attrs{"cut": int64(len(e.Attrs))}
		if entry, err = r.Seal(s.heads[r.Stream]); err != nil {
			return err
		}
	}
	// Straight to the handler: a log level must not switch the audit off, and
	// whether the line was written matters.
	line := slog.NewRecord(at, slog.LevelInfo, "audit "+r.Kind, 0)
	line.AddAttrs(slog.String("service", Name), slog.String("event", "audit"), slog.Any("record", json.RawMessage(entry)))
	if err := s.cfg.Log.Handler().Handle(context.Background(), line); err != nil {
		return err
	}
	s.heads[r.Stream] = r.Hash
	s.seq++
	s.appended.Inc()
	return nil
}

// text makes s fit for a record: valid UTF-8 of at most maxTextBytes as JSON.
func text(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	size := 0
	for i, r := range s {
		switch {
		case r < ' ':
			size += len(`\u0000`)
		case r == '"' || r == '\\':
			size += 2
		default:
			size += utf8.RuneLen(r)
		}
		if size > maxTextBytes {
			return s[:i] + "…"
		}
	}
	return s
}

// attrs copies the attributes as a record can hold them.
func attrs(m map[string]any) tlog.Attrs {
	out := make(tlog.Attrs, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case string:
			out[text(k)] = text(v)
		case bool:
			out[text(k)] = int64(0)
			if v {
				out[text(k)] = int64(1)
			}
		case int32:
			out[text(k)] = int64(v)
		case uint32:
			out[text(k)] = int64(v)
		default: // int, int64, uint64; anything else the record refuses
			out[text(k)] = v
		}
	}
	if n := len(m) - len(out); n > 0 { // names that were equal once cut
		out["cut"] = int64(n)
	}
	return out
}
