// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// tidy gives room back: closed segments that hold less than half of what they take
// are emptied, one at a time, and empty ones are dropped. A segment that a
// snapshot on disk may still need stays.
func (b *Core) tidy(ctx context.Context) error {
	needed := b.snapshots.Needed().Segment()
	var empty []uint32
	var sparse, sparseLive = uint32(0), int64(0)
	for _, s := range b.log.Segments() {
		if s.Active || s.ID >= needed {
			break
		}
		switch h := b.segments.Of(s.ID); {
		case h.Messages == 0:
			empty = append(empty, s.ID)
		case h.Bytes < s.Bytes/2 && (sparse == 0 || h.Bytes < sparseLive):
			sparse, sparseLive = s.ID, h.Bytes
		}
	}
	if err := b.drop(ctx, empty); err != nil {
		return err
	}
	if sparse == 0 {
		return nil
	}
	if err := b.compact(ctx, sparse); err != nil || ctx.Err() != nil {
		return err
	}
	// What may have been moved into the reserve gives its room back before more is.
	if b.segments.Of(sparse).Messages == 0 {
		return b.drop(ctx, []uint32{sparse})
	}
	return nil
}

// drop removes segments that hold no message. What was remembered there for the
// sake of idempotency keys is logged again first.
func (b *Core) drop(ctx context.Context, ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	for _, t := range b.All() {
		for _, id := range ids {
			if err := b.remember(t, id); err != nil {
				return err
			}
		}
	}
	if err := b.Settle(ctx); err != nil {
		return err
	}
	if err := b.log.Drop(ids...); err != nil {
		return b.staging(err)
	}
	return nil
}

// All is a copy of the catalogue.
func (b *Core) All() []*Topic {
	b.catalogue.RLock()
	defer b.catalogue.RUnlock()
	list := make([]*Topic, 0, len(b.byNumber))
	for _, t := range b.byNumber {
		list = append(list, t)
	}
	return list
}

// remember logs again what a topic needs of a segment for its idempotency keys.
func (b *Core) remember(t *Topic, segment uint32) error {
	t.mu.Lock()
	places := t.q.Remembered(b.now(), segment, nil)
	t.mu.Unlock()
	reader := stored.Reader{Log: b.log}
	for _, p := range places {
		rec := record.Remember{Old: p}
		raw, err := b.log.Read(store.Pos(p), nil)
		if err != nil {
			if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
				continue // a key whose record is damaged is forgotten
			}
			return Failed(err)
		}
		switch r, err := record.Decode(raw); r := r.(type) {
		case *record.Remember:
			rec.ID, rec.Request, rec.Idem = r.ID, r.Request, r.Idem
		default:
			s, notSend := reader.Decode(raw)
			if err != nil || notSend != nil {
				continue
			}
			rec.ID, rec.Request, rec.Idem = s.ID, s.Request, s.Idem
		}
		if err := b.Change(t, func(u *Turn) error {
			rec.Head = u.Head()
			return u.Log(&rec)
		}); err != nil && !errors.Is(err, ErrNoTopic) {
			return err
		}
	}
	return nil
}

// compact logs the messages of a segment again, so that it can be dropped.
func (b *Core) compact(ctx context.Context, segment uint32) error {
	for _, t := range b.All() {
		var cursor uint64
		for {
			t.mu.Lock()
			var places []queue.Place
			if !t.gone {
				places, cursor = t.q.Holding(segment, cursor, 256, nil)
			} else {
				cursor = 0
			}
			t.mu.Unlock()
			for _, p := range places {
				if err := b.move(t, p); err != nil {
					return err
				}
			}
			if cursor == 0 {
				break
			}
			if err := ctx.Err(); err != nil {
				return nil
			}
			if err := b.Settle(ctx); err != nil { // at the disk's pace
				return err
			}
		}
	}
	return nil
}

// move copies one message to the log's end. A damaged one that waits becomes a
// dead letter; a damaged dead letter stays where it is until it goes.
func (b *Core) move(t *Topic, p queue.Place) error {
	raw, err := b.log.Read(store.Pos(p.At), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it went while we were looking
	}
	var s *record.Send
	reader := stored.Reader{Log: b.log}
	if err == nil {
		s, err = reader.Decode(raw)
	}
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, errDamaged) {
		if p.Seq == 0 {
			return nil
		}
		if f := b.cfg.Events.Damaged; f != nil {
			f(t.ref, 1)
		}
		return b.kill(t, p.Seq, p.At, record.WhyIntegrity, "the stored bytes are damaged")
	}
	if err != nil {
		return Failed(err)
	}
	send := s.Append(nil)
	err = b.Change(t, func(u *Turn) error {
		rec := record.Move{Head: u.Head(), Seq: p.Seq, Num: p.Num, Send: send}
		// It takes room before it gives more: less than half a segment for a whole one.
		at, err := b.log.StageOne(true, rec.Append(nil), nil)
		if err != nil {
			return b.staging(err)
		}
		if err := t.q.Apply(&rec, uint64(at), &u.Effect); err != nil {
			return b.fail(err)
		}
		b.segments.Add(&u.Effect)
		return nil
	})
	if errors.Is(err, ErrNoTopic) {
		return nil
	}
	return err
}
