// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// DeadList lists a topic's dead letters that the filter picks, oldest first. next
// is where to go on, "" at the end; a page may be short, or empty, before it.
func (b *Broker) DeadList(ctx context.Context, ref queue.TopicRef, filter DeadFilter, cursor string, limit int) (out []Dead, next string, err error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return nil, "", err
	}
	from, err := number(cursor)
	if err != nil {
		return nil, "", err
	}
	var found []queue.DeadLetter
	var more uint64
	var at queue.Time
	if err := b.core.Change(t, func(u *core.Turn) error {
		f, err := b.filter(u.Now, filter)
		if err != nil {
			return err
		}
		at = u.Now
		found, more = u.Queue.Dead(&f, from, page(limit), nil)
		return nil
	}); err != nil {
		return nil, "", err
	}
	for i := range found {
		d := b.dead(&found[i], at)
		d.Payload, d.History = nil, nil
		out = append(out, d)
	}
	return out, cursorOf(more), b.core.Settle(ctx)
}

// DeadGet returns one dead letter with its payload and history; ErrNoMessage.
func (b *Broker) DeadGet(ctx context.Context, ref queue.TopicRef, id queue.ID) (Dead, error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return Dead{}, err
	}
	var found queue.DeadLetter
	var at queue.Time
	if err := b.core.Change(t, func(u *core.Turn) (err error) {
		at = u.Now
		found, err = u.Queue.DeadByID(id)
		return deadErr(err)
	}); err != nil {
		return Dead{}, err
	}
	d := b.dead(&found, at)
	return d, b.core.Settle(ctx)
}

func deadErr(err error) error {
	if errors.Is(err, queue.ErrNotDead) {
		return core.Refuse(ErrNoMessage, "", 0)
	}
	return err
}

// dead fits a dead letter for callers, with what its record holds.
func (b *Broker) dead(l *queue.DeadLetter, now queue.Time) Dead {
	d := Dead{ID: l.ID, Reason: l.Why.String(), Attempts: int(l.Attempts), LastError: l.Detail, Bytes: l.Bytes,
		TS: core.IDTime(l.ID), Died: b.wall(now, l.Died), Damaged: true}
	for _, e := range l.History {
		a := Attempt{At: b.wall(now, e.At), Error: string(e.Reason)}
		if e.Lapsed {
			a.Error = "the visibility passed"
		}
		d.History = append(d.History, a)
	}
	s, err := b.core.ReadSend(l.At)
	if err != nil {
		return d
	}
	d.Key, d.Attrs, d.CorrID, d.Hash, d.TS = string(s.Key), stored.Attrs(s.Attrs), string(s.Corr), s.Hash, time.UnixMilli(s.Wall).UTC()
	if b3.Sum(s.Payload) == b3.Addr(s.Hash) {
		d.Payload, d.Damaged = s.Payload, false
	}
	return d
}

// filter turns a filter into the topic's terms.
func (b *Broker) filter(now queue.Time, f DeadFilter) (record.DeadFilter, error) {
	out := record.DeadFilter{Before: b.mailboxTime(now, f.Before), After: b.mailboxTime(now, f.After), IDs: f.IDs}
	if len(f.IDs) > record.MaxJobIDs {
		return out, core.Refuse(ErrInvalid, "a filter names at most 1000 messages", 0)
	}
	if f.Reason != "" {
		why, ok := record.ParseWhy(f.Reason)
		if !ok {
			return out, core.Refuse(ErrInvalid, "no such reason", 0)
		}
		out.Why = why
	}
	return out, nil
}

// DeadDelete ends the dead letters that the filter picks, and says how many.
func (b *Broker) DeadDelete(ctx context.Context, ref queue.TopicRef, filter DeadFilter) (deleted int64, err error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return 0, err
	}
	var from uint64
	for {
		if err := b.core.Change(t, func(u *core.Turn) error {
			f, err := b.filter(u.Now, filter)
			if err != nil {
				return err
			}
			var found []queue.DeadLetter
			found, from = u.Queue.Dead(&f, from, maxPage, nil)
			if len(found) == 0 {
				return nil
			}
			rec := record.DeadDelete{Head: u.Head()}
			for i := range found {
				rec.Nums = append(rec.Nums, found[i].Num)
			}
			err = u.Log(&rec)
			deleted += u.Effect.Deleted
			return err
		}); err != nil {
			return deleted, err
		}
		if from == 0 {
			return deleted, b.core.Settle(ctx)
		}
		if err := ctx.Err(); err != nil {
			return deleted, core.Failed(err)
		}
	}
}
