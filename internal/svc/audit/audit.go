// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/audit/cosign"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
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
	// defaultInterval is Settings.CheckpointInterval's default.
	defaultInterval = 100 * time.Millisecond
	// unsignedLimit is how long records may be without a checkpoint before the
	// service is not ready.
	unsignedLimit = 5 * time.Second
	// maxTextBytes bounds each text of a record, so that no caller's name for
	// something can make its record too large to keep.
	maxTextBytes = 512
)

// Config is what the service needs. Open, Keys and Metrics are required.
type Config struct {
	// Open opens the log, which close closes. It is called by each Serve.
	Open func(ctx context.Context) (t *tree.Tree, close func() error, err error)
	// Keys are the keys that sign checkpoints, all of them each time, under the
	// log's name.
	Keys    func(origin string) ([]LogKey, error)
	Log     *slog.Logger // gets a line for each record; nil: none
	Metrics *metrics.Registry
	Now     func() time.Time // nil: time.Now
	Queue   int              // entries; 0: 4096
	// Beside runs while the log is open. Cosigner is among it, where there is one; nil:
	// there are no witnesses.
	Beside   []Beside
	Cosigner *cosign.Cosigner
	// Settings change while the service runs.
	Settings Settings
}

// Settings are what a reload changes.
type Settings struct {
	CheckpointInterval time.Duration // longest time from a record to its checkpoint; 0: 100 ms
	CollapseAbove      int           // refusals of one reason a second with a record of their own; 0: FoldAbove
}

// LogKey signs checkpoints.
type LogKey struct {
	tlog.Key
	Sign func(message []byte) ([]byte, error)
}

// Service implements macronode.Service and macronode.Auditor.
type Service struct {
	cfg   Config
	queue chan item

	appended prometheus.Counter
	shed     prometheus.Counter
	cut      prometheus.Counter
	redacted prometheus.Counter
	lag      prometheus.Histogram

	checkpoints prometheus.Counter
	unpublished prometheus.Counter

	fold folder

	settings atomic.Pointer[Settings]
	tree     atomic.Pointer[tree.Tree] // nil: none is open
	shut     atomic.Pointer[error]     // why none is open
	unsigned atomic.Int64              // since when a record waits for its checkpoint, in Unix ms; 0: none does
	lost     atomic.Int64              // events shed since the last record of it
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
	seq   uint64       // of the record, once done says nil
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
		cfg: cfg, queue: make(chan item, cfg.Queue),
		appended:    cfg.Metrics.Counter("audit_appended_total", "Audit records written."),
		shed:        cfg.Metrics.Counter("audit_shed_total", "Audit events dropped because the queue was full."),
		cut:         cfg.Metrics.Counter("audit_cut_total", "Audit records written without details that did not fit."),
		redacted:    cfg.Metrics.Counter("audit_redacted_total", "Capabilities and full addresses taken out of audit records."),
		checkpoints: cfg.Metrics.Counter("audit_checkpoints_total", "Checkpoints signed and published."),
		unpublished: cfg.Metrics.Counter("audit_checkpoint_errors_total", "Times that a checkpoint was due and could not be published."),
		lag: cfg.Metrics.Histogram("audit_append_lag_seconds", "Time from an event to its record.",
			[]float64{1e-5, 5e-5, 1e-4, 5e-4, .001, .005, .01, .05, .1, .25, .5, 1, 5}),
	}
	s.fold.folded = cfg.Metrics.Counter("audit_folded_total", "Refusals counted in another record instead of having their own.")
	cfg.Metrics.Queue("audit", func() int { return len(s.queue) })
	cfg.Metrics.GaugeFunc("audit_tree_size", "Audit records that are durable.", func() float64 {
		if t := s.tree.Load(); t != nil {
			return float64(t.Durable())
		}
		return 0
	})
	cfg.Metrics.GaugeFunc("audit_first_record", "Index of the first audit record that was not cut off.", func() float64 {
		if t := s.tree.Load(); t != nil {
			return float64(t.First())
		}
		return 0
	})
	s.SetSettings(cfg.Settings)
	return s
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// SetSettings makes v hold from now on.
func (s *Service) SetSettings(v Settings) {
	if v.CheckpointInterval <= 0 {
		v.CheckpointInterval = defaultInterval
	}
	if v.CollapseAbove <= 0 {
		v.CollapseAbove = FoldAbove
	}
	s.settings.Store(&v)
	s.fold.above.Store(int64(v.CollapseAbove))
}

// Ready reports whether the log is open, its queue takes events, and what is
// recorded gets its checkpoint.
func (s *Service) Ready(context.Context) error {
	if s.tree.Load() == nil {
		if err := s.shut.Load(); err != nil {
			return *err
		}
		return errors.New("the audit log is being opened")
	}
	if len(s.queue) == cap(s.queue) {
		return errors.New("the audit queue is full")
	}
	if since := s.unsigned.Load(); since != 0 && s.cfg.Now().Sub(time.UnixMilli(since)) > unsignedLimit {
		return errors.New("audit records get no checkpoint: see the log")
	}
	return nil
}

// Record queues e, or sheds it with a count. What must be kept waits for a place, at
// most as long as Append does; other events never wait.
func (s *Service) Record(e macronode.AuditEvent) {
	now := s.cfg.Now()
	if e.Reason != "" && !e.Must && s.fold.take(&e, now) {
		return
	}
	it := item{event: e, at: now}
	select {
	case s.queue <- it:
		return
	default:
	}
	if e.Must {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case s.queue <- it:
			return
		case <-late.C:
		}
	}
	s.drop()
}

// drop counts an event that is not kept. That it was is recorded.
func (s *Service) drop() {
	s.shed.Inc()
	s.lost.Add(1)
}

// Append returns nil once e's record is written. It fails with Overload where
// the queue stays full, and with Unavailable where the record could not be
// written or was not in time; it is then never written later. Where ctx has record
// notes, it stands there.
func (s *Service) Append(ctx context.Context, e macronode.AuditEvent) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	it := item{event: e, at: s.cfg.Now(), wait: &waiter{done: make(chan error, 1)}}
	if err := s.enqueue(ctx, it); err != nil {
		return err
	}
	select {
	case err := <-it.wait.done:
		return it.noted(ctx, err)
	case <-ctx.Done():
	}
	if it.wait.state.CompareAndSwap(waiting, abandoned) {
		return macronode.Wrap(macronode.Unavailable, "the audit record was not written in time", ctx.Err())
	}
	return it.noted(ctx, <-it.wait.done) // it is being written just now
}

// noted tells who collects receipts of the record, where it was written.
func (it *item) noted(ctx context.Context, err error) error {
	if err == nil {
		macronode.NoteRecord(ctx, text(it.event.Stream), it.wait.seq)
	}
	return err
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
	s.drop()
	return macronode.Errorf(macronode.Overload, "the audit queue is full")
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
