// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package tidy keeps the mailbox's log small: it takes snapshots, and gives room back
// that nothing needs any more.
package tidy

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

const (
	// every is how often the log's room, and whether a snapshot is due, are looked at.
	every = 2 * time.Second
	// markEvery is how often the clock is logged while there is other work, for
	// starts after a reboot.
	markEvery = time.Minute
)

// Keeper tidies one mailbox. Its methods are for one goroutine.
type Keeper struct {
	Core *core.Core
	Log  store.Log
}

// Serve takes snapshots and gives room back, until ctx is done or the log fails.
func (b *Keeper) Serve(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	marked, marking, filled := b.Log.Staged(), time.Now(), time.Time{}
	for {
		full := false
		select {
		case <-tick.C:
		case <-b.Core.Wake():
			if full = time.Since(filled) >= every; !full {
				continue
			}
			filled = time.Now()
		case <-ctx.Done():
			return nil
		}
		if time.Since(marking) >= markEvery && b.Log.Staged() != marked {
			if err := b.Core.StampClock(); err != nil && b.Core.Failure() != nil {
				return err
			}
			marked, marking = b.Log.Staged(), time.Now()
		}
		if err := b.Tidy(ctx, full || b.Core.SnapshotDue()); err != nil {
			if failure := b.Core.Failure(); failure != nil {
				return failure
			}
			if ctx.Err() == nil {
				b.Core.Warn("the log's room could not be tidied", "err", err)
			}
		}
	}
}

// Tidy takes a snapshot where that is wished, and gives room of the log back, also
// where there is none for the snapshot.
func (b *Keeper) Tidy(ctx context.Context, snapshot bool) error {
	var err error
	if snapshot {
		if err = b.Core.SaveSnapshot(); err != nil && b.Core.Failure() != nil {
			return err
		}
	}
	return errors.Join(err, b.tidy(ctx))
}

// tidy gives room back: closed segments that hold less than half of what they take
// are emptied, one at a time, and empty ones are dropped. A segment that a
// snapshot on disk may still need stays.
func (b *Keeper) tidy(ctx context.Context) error {
	needed := b.Core.Needed().Segment()
	var empty []uint32
	var sparse, sparseLive = uint32(0), int64(0)
	for _, s := range b.Log.Segments() {
		if s.Active || s.ID >= needed {
			break
		}
		switch h := b.Core.Holding(s.ID); {
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
	if b.Core.Holding(sparse).Messages == 0 {
		return b.drop(ctx, []uint32{sparse})
	}
	return nil
}

// drop removes segments that hold no message. What was remembered there for the
// sake of idempotency keys is logged again first.
func (b *Keeper) drop(ctx context.Context, ids []uint32) error {
	if len(ids) == 0 {
		return nil
	}
	for _, t := range b.Core.All() {
		for _, id := range ids {
			if err := b.remember(t, id); err != nil {
				return err
			}
		}
	}
	if err := b.Core.Settle(ctx); err != nil {
		return err
	}
	if err := b.Log.Drop(ids...); err != nil {
		return b.Core.Staging(err)
	}
	return nil
}

// remember logs again what a topic needs of a segment for its idempotency keys.
func (b *Keeper) remember(t *core.Topic, segment uint32) error {
	var places []uint64
	_ = b.Core.Change(t, func(u *core.Turn) error { // gone: it needs none
		places = u.Queue.Remembered(u.Now, segment, nil)
		return nil
	})
	reader := stored.Reader{Log: b.Log}
	for _, p := range places {
		rec := record.Remember{Old: p}
		raw, err := b.Log.Read(store.Pos(p), nil)
		if err != nil {
			if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
				continue // a key whose record is damaged is forgotten
			}
			return core.Failed(err)
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
		if err := b.Core.Change(t, func(u *core.Turn) error {
			rec.Head = u.Head()
			return u.Log(&rec)
		}); err != nil && !errors.Is(err, core.ErrNoTopic) {
			return err
		}
	}
	return nil
}

// compact logs the messages of a segment again, so that it can be dropped.
func (b *Keeper) compact(ctx context.Context, segment uint32) error {
	for _, t := range b.Core.All() {
		var cursor uint64
		for {
			var places []queue.Place
			from := cursor
			cursor = 0
			_ = b.Core.Change(t, func(u *core.Turn) error { // gone: it holds nothing
				places, cursor = u.Queue.Holding(segment, from, 256, nil)
				return nil
			})
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
			if err := b.Core.Settle(ctx); err != nil { // at the disk's pace
				return err
			}
		}
	}
	return nil
}

// move copies one message to the log's end. A damaged one that waits becomes a
// dead letter; a damaged dead letter stays where it is until it goes.
func (b *Keeper) move(t *core.Topic, p queue.Place) error {
	raw, err := b.Log.Read(store.Pos(p.At), nil)
	if errors.Is(err, store.ErrNotFound) {
		return nil // it went while we were looking
	}
	var s *record.Send
	reader := stored.Reader{Log: b.Log}
	if err == nil {
		s, err = reader.Decode(raw)
	}
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, stored.ErrDamaged) {
		if p.Seq == 0 {
			return nil
		}
		return b.Core.KillDamaged(t, p.Seq, p.At)
	}
	if err != nil {
		return core.Failed(err)
	}
	send := s.Append(nil)
	err = b.Core.Change(t, func(u *core.Turn) error {
		// It takes room, of the reserve too, before it gives more: less than half a
		// segment for a whole one.
		return u.Log(&record.Move{Head: u.Head(), Seq: p.Seq, Num: p.Num, Send: send})
	})
	if errors.Is(err, core.ErrNoTopic) {
		return nil
	}
	return err
}
