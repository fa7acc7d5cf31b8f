// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

const (
	// maxBatch is how many events share a sync.
	maxBatch = 1024
	// ShedKind is the kind of a record that counts events which were not kept.
	ShedKind = "audit.shed"
	// lastWords bounds what is done after the stop: what is queued, and its
	// checkpoint.
	lastWords = 5 * time.Second
)

// Serve opens the log and writes records until ctx ends, and then what is still
// queued, with its checkpoint. It returns the log's error where that cannot be
// written any more: what is in the log is found by the next call.
func (s *Service) Serve(ctx context.Context) (err error) {
	t, shut, err := s.cfg.Open(ctx)
	if err != nil {
		s.shut.Store(&err)
		return err
	}
	s.tree.Store(t)
	beside, stop := context.WithCancel(ctx)
	wait := s.runBeside(beside, t)
	defer func() {
		stop()
		wait()
		s.tree.Store(nil)
		err = errors.Join(err, shut())
	}()
	w := &writer{s: s, t: t}
	fold := time.NewTicker(foldEvery)
	defer fold.Stop()
	due := time.NewTicker(s.settings.Load().CheckpointInterval)
	defer due.Stop()
	interval := s.settings.Load().CheckpointInterval
	for {
		if now := s.settings.Load().CheckpointInterval; now != interval {
			interval = now
			due.Reset(now)
		}
		select {
		case it := <-s.queue:
			err = w.take(it)
		case <-fold.C:
			err = w.write(s.folds(false))
		case <-due.C:
			w.publish(ctx)
		case <-ctx.Done():
			return w.end()
		}
		if err != nil {
			return err
		}
	}
}

// writer is one Serve's.
type writer struct {
	s      *Service
	t      *tree.Tree
	items  []item
	broken bool // the newest checkpoint could not be published
	behind bool // metadata could not be written last
}

// end writes what is queued and folded, and its checkpoint.
func (w *writer) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	for {
		select {
		case it := <-w.s.queue:
			if err := w.take(it); err != nil {
				return err
			}
		default:
			err := w.write(w.s.folds(true))
			if err == nil {
				w.publish(ctx)
				err = w.t.Flush(ctx)
			}
			return err
		}
	}
}

// take writes it, and with it what else is queued.
func (w *writer) take(it item) error {
	w.items = append(w.items[:0], it)
	for len(w.items) < maxBatch {
		select {
		case it := <-w.s.queue:
			w.items = append(w.items, it)
			continue
		default:
		}
		break
	}
	return w.write(w.items)
}

// write makes a record of each item, makes them durable, and tells who waits, even
// where that panics. An error is of the log as a whole.
func (w *writer) write(items []item) (err error) {
	s := w.s
	if n := s.lost.Swap(0); n > 0 {
		items = append(items, item{at: s.cfg.Now(), event: macronode.AuditEvent{Stream: "node", Kind: ShedKind, Actor: "node", Subject: "node/audit", Attrs: map[string]any{"count": n}}})
	}
	if len(items) == 0 {
		return nil
	}
	results := make([]result, len(items))
	told := false
	tell := func() {
		for i := range items {
			if results[i].waits && !told {
				items[i].wait.done <- results[i].err
			}
		}
		told = true
	}
	defer func() {
		if told {
			return
		}
		for i := range results {
			results[i].err = macronode.Errorf(macronode.Unavailable, "the audit record could not be written")
		}
		tell()
	}()
	for i := range items {
		w.add(&items[i], &results[i])
	}
	if err := w.t.Sync(context.Background()); err != nil {
		return err
	}
	for i := range items {
		w.kept(&items[i], &results[i])
	}
	tell()
	// What is derived may come later; the next open makes it again.
	err = w.t.Flush(context.Background())
	if errors.Is(err, store.ErrCorrupt) {
		return err
	}
	if err != nil && !w.behind {
		s.cfg.Log.Warn("what makes audit records quick to find could not be written; it is tried again", "event", "audit_flush", "service", Name, "error", err)
	}
	w.behind = err != nil
	return nil
}

// result is what became of an item.
type result struct {
	waits  bool // somebody is to be told
	record tlog.Record
	entry  []byte // nil: it was not added
	err    error
}

// add gives an item its place.
func (w *writer) add(it *item, res *result) {
	if it.wait != nil {
		if !it.wait.state.CompareAndSwap(waiting, taken) {
			return // the caller was told no, so this must not be on record as done
		}
		res.waits = true
	}
	s, e := w.s, &it.event
	var c cleaner
	res.record = tlog.Record{
		TSMilli: it.at.UnixMilli(), Stream: c.text(e.Stream), Kind: c.text(e.Kind),
		Actor: c.text(e.Actor), Subject: c.text(e.Subject), Reason: c.text(e.Reason), Attrs: c.attrs(e.Attrs),
	}
	if c.taken > 0 {
		s.redacted.Add(float64(c.taken))
		res.record.Attrs[redactedAttr] = int64(c.taken)
	}
	must := res.waits || e.Must || e.Kind == ShedKind
	var err error
	res.entry, err = w.t.Add(&res.record, must)
	if errors.Is(err, tlog.ErrTooLarge) || errors.Is(err, tlog.ErrInvalid) {
		// What happened, to what and by whom always fits; the rest does not.
		s.cut.Inc()
		res.record.Attrs = tlog.Attrs{"cut": int64(len(e.Attrs))}
		res.entry, err = w.t.Add(&res.record, must)
	}
	switch {
	case err == nil:
	case res.waits:
		kind := macronode.Unavailable
		if errors.Is(err, store.ErrFull) {
			kind = macronode.DiskFull
		}
		res.err = macronode.Wrap(kind, "the audit record could not be written", err)
	case e.Kind == ShedKind:
		w.s.lost.Add(e.Attrs["count"].(int64))
	default:
		w.s.drop()
	}
}

// kept does what follows an item's record being durable.
func (w *writer) kept(it *item, res *result) {
	if res.entry == nil {
		return
	}
	s := w.s
	if res.waits {
		it.wait.seq = res.record.Seq
	}
	s.appended.Inc()
	s.unsigned.CompareAndSwap(0, it.at.UnixMilli())
	s.lag.Observe(s.cfg.Now().Sub(it.at).Seconds())
	// Straight to the handler: a log level must not switch it off. The line is for
	// whoever ships logs; the record is kept already.
	line := slog.NewRecord(it.at, slog.LevelInfo, "audit "+res.record.Kind, 0)
	line.AddAttrs(slog.String("service", Name), slog.String("event", "audit"), slog.Any("record", json.RawMessage(res.entry)))
	_ = s.cfg.Log.Handler().Handle(context.Background(), line)
}

// publish signs what was added since the last checkpoint. Where it cannot, that is
// said once, and tried again.
func (w *writer) publish(ctx context.Context) {
	s := w.s
	if p := w.t.Published(); p != nil && p.Size == w.t.Size() {
		s.unsigned.Store(0)
		return
	}
	if w.t.Size() == 0 {
		return
	}
	err := s.sign(ctx, w.t)
	if err == nil {
		s.checkpoints.Inc()
		s.unsigned.Store(0)
		w.broken = false
		return
	}
	s.unpublished.Inc()
	if !w.broken && ctx.Err() == nil {
		s.cfg.Log.Warn("audit records have no checkpoint yet", "event", "audit_checkpoint", "service", Name, "error", err)
	}
	w.broken = true
}

func (s *Service) sign(ctx context.Context, t *tree.Tree) error {
	keys, err := s.cfg.Keys(tree.Origin(t.Writer()))
	if err != nil {
		return err
	}
	public := make([]tlog.Key, len(keys))
	for i := range keys {
		public[i] = keys[i].Key
	}
	return t.Publish(ctx, public, func(_ context.Context, text string) ([]byte, error) {
		note := []byte(text + "\n")
		unix := uint64(max(s.cfg.Now().Unix(), 0)) //nolint:gosec // not negative
		for _, k := range keys {
			msg, err := k.Message(text, unix)
			if err != nil {
				return nil, err
			}
			raw, err := k.Sign(msg)
			if err != nil {
				return nil, err
			}
			note = append(note, tlog.Line(k.Key, k.Seal(raw, unix))...)
		}
		return note, nil
	})
}
