// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/receipt"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/stored"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Receive leases messages, oldest first, and returns them with their payloads once
// the leases are durable. Where there are none it waits, first come first served,
// up to want.Wait; none then is no error. A message whose bytes are damaged goes
// to the dead-letter queue, and the others are delivered.
//
// The end of ctx ends the wait for messages, not what comes after leases were made:
// the caller is given them also when its client is gone, so that it can give them
// back. A receive that fails then leaves them until their visibility has passed.
func (b *Core) Receive(ctx context.Context, ref queue.TopicRef, want Want) ([]Delivery, error) {
	if err := b.bound(&want); err != nil {
		return nil, err
	}
	for {
		r := receivings.Get().(*receiving)
		err := b.lease(ctx, ref, want, r)
		var out []Delivery
		took := false
		if err == nil {
			giving := ctx
			if took = len(r.taken) > 0; took {
				giving = context.WithoutCancel(ctx)
			}
			out, err = b.deliver(giving, want, r)
		}
		r.release()
		if err != nil || !took || len(out) > 0 {
			return out, err
		}
		// All that was taken was damaged: what is behind it is asked for again.
	}
}

// bound gives a wish its defaults and limits.
func (b *Core) bound(want *Want) error {
	if want.Max == 0 {
		want.Max = 1
	}
	if want.MaxBytes <= 0 || want.MaxBytes > MaxReceiveBytes {
		want.MaxBytes = MaxReceiveBytes
	}
	switch {
	case want.Max < 1 || want.Max > b.cfg.Limits.MaxBatch:
		return Refuse(ErrInvalid, "a receive takes from 1 to "+Itoa(b.cfg.Limits.MaxBatch)+" messages", 0)
	case want.Visibility != 0 && (want.Visibility < record.MinLease || want.Visibility > record.MaxLease):
		return Refuse(ErrInvalid, "a visibility is from 1 ms to 12 h", 0)
	}
	want.Wait = min(max(want.Wait, 0), b.cfg.Limits.MaxWait)
	return nil
}

// receiving is the work on one call of Receive.
type receiving struct {
	t      *Topic
	taken  []queue.Candidate
	items  []record.Item
	buf    []byte
	effect queue.Effect
	end    store.Pos // what the answer rests on
	spans  []store.Span
	reader stored.Reader
	// text is what is said of messages in words: one string holds that of many.
	text []byte
	cuts []cut

	payload int64 // bytes of payloads in out
	cut     bool  // max_bytes kept messages back
	full    bool  // the tenant's leases did
	out     []Delivery
	damaged int64
}

var receivings = sync.Pool{New: func() any { return new(receiving) }}

func (r *receiving) release() {
	r.t, r.taken, r.items, r.out = nil, r.taken[:0], r.items[:0], nil
	if cap(r.text) > 1<<20 {
		r.text = nil
	}
	r.payload, r.cut, r.full, r.damaged = 0, false, false, 0
	receivings.Put(r)
}

// lease takes what there is, waiting for it where that is wished.
func (b *Core) lease(ctx context.Context, ref queue.TopicRef, want Want, r *receiving) error {
	t, err := b.Find(ref)
	if err != nil {
		return err
	}
	r.t = t
	most := b.cfg.Tenant()
	b.freshen(t, &most)
	var w *wait.Waiter
	var timeout <-chan time.Time
	for {
		last := want.Wait == 0
		if w != nil {
			select {
			case <-timeout:
				last = true
			default:
			}
		}
		done, err := b.try(t, want, r, &w, last)
		if done || err != nil {
			return err
		}
		if timeout == nil {
			timer := time.NewTimer(want.Wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-w.Wake:
		case <-timeout:
			want.Wait = 0
		case <-ctx.Done():
			t.mu.Lock()
			b.giveUp(t, w)
			t.mu.Unlock()
			return store.Refusal(ctx.Err())
		}
	}
}

// try is one look at the topic, under its lock. Not done: *w is in the line.
func (b *Core) try(t *Topic, want Want, r *receiving, w **wait.Waiter, last bool) (done bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() { r.end = t.rests() }()
	if *w != nil {
		t.line.Leave(*w)
		t.line.Tries(*w)
	}
	if err := b.Failure(); err != nil {
		return true, err
	}
	if t.gone {
		return true, Refuse(ErrNoTopic, "", 0)
	}
	now := b.now()
	if *w != nil || last || !t.line.Busy() {
		if err := b.take(t, now, want, r); err != nil || len(r.taken) > 0 {
			return true, err
		}
		if r.full {
			return true, t.full(now, tenants.InFlight, 1)
		}
	}
	if last {
		if t.q.InFlightFull(now) {
			next, _ := t.q.NextChange(now)
			return true, Refuse(ErrInFlight, "as many messages are leased as the topic allows",
				t.drain.For(int64(now), 1, max(next.Sub(now), wait.Least)))
		}
		b.onward(t, now)
		return true, nil
	}
	if *w == nil {
		*w = wait.NewWaiter()
	}
	t.line.Join(*w)
	t.rearm(b, now)
	return false, nil
}

// take leases what may be leased now, and records it.
func (b *Core) take(t *Topic, now queue.Time, want Want, r *receiving) error {
	r.taken = t.q.Receivable(now, want.Max, want.MaxBytes, r.taken[:0])
	if len(r.taken) == 0 {
		return nil
	}
	most := b.cfg.Tenant()[tenants.InFlight]
	room := t.share.TakeUpTo(tenants.InFlight, 1, int64(len(r.taken)), most)
	if r.taken = r.taken[:room]; room == 0 {
		r.full = true
		return nil
	}
	visibility := want.Visibility
	if visibility == 0 {
		visibility = t.q.Config().Visibility
	}
	n := uint64(len(r.taken))
	first := b.lastLease.Add(n) - n + 1
	r.items = r.items[:0]
	for i := range r.taken {
		r.items = append(r.items, record.Item{Seq: r.taken[i].Seq, Lease: first + uint64(i)})
	}
	r.cut = len(r.taken) < want.Max
	r.effect.Reset()
	rec := record.Lease{Head: record.Head{Now: now, Topic: t.number}, Until: now.Add(visibility), Owner: want.Owner, Items: r.items}
	if err := b.stage(t, &rec, &r.effect, &r.buf); err != nil {
		r.taken = r.taken[:0]
		return err
	}
	b.applied(t, now, &r.effect, 0)
	b.onward(t, now)
	return nil
}

// onward calls the next who wait, where something is left for them.
func (b *Core) onward(t *Topic, now queue.Time) {
	if t.line.Waiting() {
		t.line.Call(t.receivable(now))
	}
}

// receivable is how many waiters there is something for, as far as it is worth knowing.
func (t *Topic) receivable(now queue.Time) int {
	const enough = 16
	var few [enough]queue.Candidate
	return len(t.q.Receivable(now, min(enough, t.line.Length()), MaxReceiveBytes, few[:0]))
}

// giveUp takes w out, and passes a call that it had on to the next.
func (b *Core) giveUp(t *Topic, w *wait.Waiter) {
	called := w.Called()
	t.line.Leave(w)
	t.line.Tries(w)
	if called && !t.gone && b.Failure() == nil {
		b.onward(t, b.now())
	}
}

// deliver reads the payloads of what was leased, leases more where that left room in
// want.MaxBytes, and waits until the leases are durable.
func (b *Core) deliver(ctx context.Context, want Want, r *receiving) ([]Delivery, error) {
	if len(r.taken) == 0 {
		return nil, b.settle(ctx, r.end)
	}
	r.reader.Log = b.log
	r.out = make([]Delivery, 0, len(r.taken))
	err := b.loadAll(r)
	for proven := uint64(0); err == nil && r.cut; {
		if proven, err = b.fill(want, r, proven); err == nil {
			err = b.loadAll(r)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := b.settle(ctx, r.end); err != nil {
		return nil, err
	}
	if f := b.cfg.Events.Delivered; f != nil && len(r.out) > 0 {
		f(r.t.ref, int64(len(r.out)))
	}
	if f := b.cfg.Events.Damaged; f != nil && r.damaged > 0 {
		f(r.t.ref, r.damaged)
	}
	return r.out, nil
}

// fill leases what want.MaxBytes has room for still: a topic knows how long records
// are, and payloads are shorter. Where the next record is too long its payload may
// fit; that is looked up without the lock, and proven is the message of which it is
// known. r.cut is false where there is nothing more to do.
func (b *Core) fill(want Want, r *receiving, proven uint64) (uint64, error) {
	t := r.t
	want.Max -= len(r.out)
	want.MaxBytes -= r.payload
	r.cut, r.taken, r.items = false, r.taken[:0], r.items[:0]
	if want.Max <= 0 || want.MaxBytes <= 0 {
		return 0, nil
	}
	t.mu.Lock()
	now := b.now()
	if t.gone || t.line.Busy() { // what is left is theirs who wait
		t.mu.Unlock()
		return 0, nil
	}
	var few [1]queue.Candidate
	next := t.q.Receivable(now, 1, want.MaxBytes, few[:0])
	if len(next) == 1 && (next[0].Bytes <= want.MaxBytes || next[0].Seq == proven) {
		err := b.take(t, now, want, r)
		r.end = max(r.end, t.rests())
		t.mu.Unlock()
		if err != nil && b.Failure() == nil {
			r.cut, err = false, nil // what is leased already is delivered
		}
		return 0, err
	}
	t.mu.Unlock()
	if len(next) == 0 {
		return 0, nil
	}
	s, err := b.ReadSend(next[0].At)
	if r.cut = err == nil && int64(len(s.Payload)) <= want.MaxBytes; r.cut {
		return next[0].Seq, nil
	}
	return 0, nil // what is damaged is found by who receives it next
}

// loadAll reads what was leased last.
func (b *Core) loadAll(r *receiving) error {
	r.spans, r.text, r.cuts = r.spans[:0], r.text[:0], r.cuts[:0]
	for i := range r.taken {
		r.spans = append(r.spans, store.Span{At: store.Pos(r.taken[i].At), Bytes: r.taken[i].Bytes})
	}
	first := len(r.out)
	var failed error
	b.log.ReadMany(r.spans, func(i int, raw []byte, err error) {
		if failed != nil {
			return
		}
		switch err := b.load(r, r.taken[i], r.items[i], raw, err); {
		case err == nil:
		case errors.Is(err, errDamaged):
			r.damaged++
			failed = b.kill(r.t, r.items[i].Seq, r.taken[i].At, record.WhyIntegrity, "the stored bytes are damaged")
			r.end = max(r.end, b.log.Staged()) // more is staged than the leases
		case errors.Is(err, ErrLeaseLost): // purged or deleted meanwhile
		default:
			failed = err
		}
	})
	text := string(r.text)
	for i := range r.cuts {
		d, c := &r.out[first+i], &r.cuts[i]
		d.Receipt, text = text[:c.receipt], text[c.receipt:]
		d.Key, text = text[:c.key], text[c.key:]
		d.CorrID, text = text[:c.corr], text[c.corr:]
	}
	return failed
}

// cut is how long the texts of a delivery are.
type cut struct{ receipt, key, corr int }

// load takes in one leased message, as it was read, and checks its payload:
// errDamaged, or ErrLeaseLost where it went meanwhile.
func (b *Core) load(r *receiving, c queue.Candidate, item record.Item, raw []byte, err error) error {
	t := r.t
	var s *record.Send
	if err == nil {
		s, err = r.reader.Decode(raw)
	} else if errors.Is(err, store.ErrCorrupt) {
		err = errDamaged
	}
	for at := c.At; errors.Is(err, store.ErrNotFound); {
		// Its segment was dropped. Either it was moved before, or it is gone.
		t.mu.Lock()
		held, lost := t.q.CheckLease(b.now(), item.Seq, item.Lease)
		t.mu.Unlock()
		if lost != nil {
			return ErrLeaseLost
		}
		if held.At == at {
			return errDamaged
		}
		at = held.At
		s, _, err = r.reader.Read(at, nil)
	}
	if err != nil {
		return reading(err)
	}
	if b3.Sum(s.Payload) != b3.Addr(s.Hash) {
		return errDamaged
	}
	had := len(r.text)
	r.text = b.receipts.Append(r.text, t.ref.Tenant, t.ref.Name, receipt.Receipt{ID: s.ID, Seq: item.Seq, Lease: item.Lease})
	r.cuts = append(r.cuts, cut{len(r.text) - had, len(s.Key), len(s.Corr)})
	r.text = append(append(r.text, s.Key...), s.Corr...)
	r.out = append(r.out, Delivery{
		ID: s.ID, Lease: item.Lease, TS: time.UnixMilli(s.Wall).UTC(), Attempt: int(c.Attempt),
		Attrs: stored.Attrs(s.Attrs), Hash: s.Hash, Payload: s.Payload,
	})
	r.payload += int64(len(s.Payload))
	return nil
}

// Receipt is what a receiver of the message shows under that lease.
func (b *Core) Receipt(t *Topic, id queue.ID, seq, lease uint64) string {
	return b.receipts.Make(t.ref.Tenant, t.ref.Name, receipt.Receipt{ID: id, Seq: seq, Lease: lease})
}

// ReadSend reads the message at a place, whether it is where it was sent or was
// moved there. errDamaged where that is none; store.ErrNotFound where the segment is gone.
func (b *Core) ReadSend(at uint64) (*record.Send, error) {
	r := stored.Reader{Log: b.log}
	s, _, err := r.Read(at, nil)
	return s, reading(err)
}

// reading judges an error of reading a message: what is neither damaged nor gone, the
// disk did not give this time. The call ends, and nothing else.
func reading(err error) error {
	if err == nil || errors.Is(err, errDamaged) || errors.Is(err, store.ErrNotFound) {
		return err
	}
	return Failed(err)
}
