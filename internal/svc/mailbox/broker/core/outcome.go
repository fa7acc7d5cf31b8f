// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/receipt"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Ack ends messages: they were dealt with, and are never delivered again once this
// has returned. A receipt that is stale changes nothing, and its outcome says so.
func (b *Core) Ack(ctx context.Context, ref queue.TopicRef, receipts []string) ([]Outcome, error) {
	r, err := b.redeem(ref, receipts)
	if err != nil {
		return nil, err
	}
	var buf []byte
	var effect queue.Effect
	err = b.decide(r, func(now queue.Time) error {
		rec := record.Ack{Head: record.Head{Now: now, Topic: r.t.number}, Items: r.items}
		if err := b.stage(r.t, &rec, &effect, &buf); err != nil {
			return err
		}
		r.t.drain.Gone(int64(now), effect.Acked)
		b.applied(r.t, now, &effect, len(r.items))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.settle(ctx, r.end); err != nil {
		return nil, err
	}
	if f := b.cfg.Events.Acked; f != nil {
		wall := b.clock.Wall()
		for i := range r.out {
			if r.out[i].Err == nil {
				f(ref, wall.Sub(IDTime(r.out[i].ID)))
			}
		}
	}
	return r.out, nil
}

// Nack gives messages back, to be received again after the delay; nil draws a
// back-off that grows with the attempts. One whose attempts are used up goes to
// the dead-letter queue. The reason is kept in the message's history.
func (b *Core) Nack(ctx context.Context, ref queue.TopicRef, receipts []string, delay *time.Duration, reason string) ([]Outcome, error) {
	if delay != nil && (*delay < 0 || *delay > record.MaxRetention) {
		return nil, Refuse(ErrInvalid, "a delay is from 0 to 366 days", 0)
	}
	r, err := b.redeem(ref, receipts)
	if err != nil {
		return nil, err
	}
	var buf []byte
	var effect queue.Effect
	due := false
	err = b.decide(r, func(now queue.Time) error {
		rec := record.Nack{Head: record.Head{Now: now, Topic: r.t.number}, Reason: record.CutReason([]byte(reason), record.MaxReasonBytes)}
		for i, item := range r.items {
			wait := queue.Backoff(r.held[i].Attempt, float64(b.cfg.Rand()>>11)/(1<<53))
			if delay != nil {
				wait = *delay
			}
			rec.Items = append(rec.Items, record.NackItem{Item: item, NotBefore: now.Add(wait)})
		}
		if err := b.stage(r.t, &rec, &effect, &buf); err != nil {
			return err
		}
		b.applied(r.t, now, &effect, len(r.items))
		next, ok := r.t.q.NextChange(now)
		due = ok && next <= now
		return nil
	})
	if err != nil {
		return nil, err
	}
	if due {
		if err := b.look(r.t); err != nil {
			return nil, err
		}
	}
	if err := b.settle(ctx, r.end); err != nil {
		return nil, err
	}
	if f := b.cfg.Events.Requeued; f != nil && effect.Nacked > 0 {
		f(ref, "nack", effect.Nacked)
	}
	return r.out, nil
}

// Extend lets leases end visibility from now, which may be sooner than they would
// have. 0 is the topic's.
func (b *Core) Extend(ctx context.Context, ref queue.TopicRef, receipts []string, visibility time.Duration) ([]Outcome, error) {
	if visibility != 0 && (visibility < record.MinLease || visibility > record.MaxLease) {
		return nil, Refuse(ErrInvalid, "a visibility is from 1 ms to 12 h", 0)
	}
	r, err := b.redeem(ref, receipts)
	if err != nil {
		return nil, err
	}
	var buf []byte
	var effect queue.Effect
	err = b.decide(r, func(now queue.Time) error {
		if visibility == 0 {
			visibility = r.t.q.Config().Visibility
		}
		rec := record.Extend{Head: record.Head{Now: now, Topic: r.t.number}, Until: now.Add(visibility), Items: r.items}
		if err := b.stage(r.t, &rec, &effect, &buf); err != nil {
			return err
		}
		b.applied(r.t, now, &effect, 0)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.settle(ctx, r.end); err != nil {
		return nil, err
	}
	return r.out, nil
}

// redemption is the receipts of one call and what they turned out to be.
type redemption struct {
	t      *Topic
	parsed []receipt.Receipt
	out    []Outcome
	items  []record.Item // those that hold
	held   []queue.Held  // beside items
	end    store.Pos     // what the outcomes rest on
}

// redeem reads receipts, which needs no lock.
func (b *Core) redeem(ref queue.TopicRef, receipts []string) (*redemption, error) {
	if len(receipts) == 0 || len(receipts) > b.cfg.Limits.MaxBatch {
		return nil, Refuse(ErrInvalid, "a call has from 1 to "+Itoa(b.cfg.Limits.MaxBatch)+" receipts", 0)
	}
	t, err := b.Find(ref)
	if err != nil {
		return nil, err
	}
	r := &redemption{t: t, parsed: make([]receipt.Receipt, len(receipts)), out: make([]Outcome, len(receipts)),
		items: make([]record.Item, 0, len(receipts)), held: make([]queue.Held, 0, len(receipts))}
	for i, text := range receipts {
		r.out[i].Receipt = text
		p, err := b.receipts.Parse(ref.Tenant, ref.Name, text)
		if err != nil {
			r.out[i].Err = Refuse(ErrReceipt, "", 0)
			continue
		}
		r.parsed[i], r.out[i].ID = p, p.ID
	}
	return r, nil
}

// decide checks the leases under the topic's lock, and calls then with it held
// where any holds.
func (b *Core) decide(r *redemption, then func(now queue.Time) error) error {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	defer func() { r.end = r.t.rests() }()
	if r.t.gone {
		return Refuse(ErrNoTopic, "", 0)
	}
	now := b.now()
	var twice map[uint64]bool // one receipt counts once in a call
	if len(r.parsed) > 1 {
		twice = make(map[uint64]bool, len(r.parsed))
	}
	for i, p := range r.parsed {
		if r.out[i].Err != nil {
			continue
		}
		held, err := r.t.q.CheckLease(now, p.Seq, p.Lease)
		if errors.Is(err, queue.ErrLeaseLost) || err == nil && twice[p.Lease] {
			r.out[i].Err = Refuse(ErrLeaseLost, "", 0)
			continue
		}
		if err != nil {
			return b.fail(err)
		}
		if twice != nil {
			twice[p.Lease] = true
		}
		r.items = append(r.items, record.Item{Seq: p.Seq, Lease: p.Lease})
		r.held = append(r.held, held)
	}
	if len(r.items) == 0 {
		return nil
	}
	return then(now)
}
