// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Send makes messages durable, in order, and says for each what became of it. One
// that is refused does not keep the others back. The error is of the call as a
// whole: with it nothing is known of any message, but that a send repeated with
// its idempotency key has one effect.
//
// The topic is made where there is none.
func (b *Core) Send(ctx context.Context, ref queue.TopicRef, messages []Message) ([]Sent, error) {
	if len(messages) == 0 || len(messages) > b.cfg.Limits.MaxBatch {
		return nil, Refuse(ErrInvalid, "a batch has from 1 to "+Itoa(b.cfg.Limits.MaxBatch)+" messages", 0)
	}
	s := sendings.Get().(*sending)
	defer s.release()
	s.sent = make([]Sent, len(messages))
	b.prepare(s, ref, messages)
	for {
		t, err := b.ensure(ref)
		if err != nil {
			return nil, err
		}
		most := b.cfg.Tenant()
		b.freshen(t, &most)
		again, err := b.stageSends(t, s, &most)
		if err != nil {
			return nil, err
		}
		if !again {
			break
		}
		if err := b.judge(s); err != nil {
			return nil, err
		}
	}
	if err := b.settle(ctx, s.end); err != nil {
		return nil, err
	}
	b.tellSent(ref, s)
	return s.sent, nil
}

// sending is the work on one call of Send.
type sending struct {
	items  []sendItem
	sent   []Sent
	head   []byte
	places []uint64
	effect queue.Effect
	end    store.Pos // what the answer rests on
	judged []byte    // buffer for earlier records
}

// sendItem is one message on its way. Where done, its outcome is known.
type sendItem struct {
	rec       record.Send
	delay     time.Duration
	ttl       time.Duration
	done      bool
	suspects  []uint64 // places of records that may have used the key; to be read
	unrelated []uint64 // places that were read, and had not
}

// sendings keeps the memory of calls: a send of one message makes next to no garbage.
var sendings = sync.Pool{New: func() any { return new(sending) }}

func (s *sending) release() {
	for i := range s.items {
		s.items[i] = sendItem{}
	}
	s.items, s.sent, s.end = s.items[:0], nil, 0
	if cap(s.items) <= 1024 && cap(s.judged) <= 1<<20 {
		sendings.Put(s)
	}
}

// prepare does what needs no lock, above all the hashes.
func (b *Core) prepare(s *sending, ref queue.TopicRef, messages []Message) {
	wall := b.clock.Wall()
	s.items = slices.Grow(s.items[:0], len(messages))[:len(messages)]
	for i := range messages {
		m, it := &messages[i], &s.items[i]
		if err := b.shape(m); err != nil {
			s.sent[i].Err, it.done = err, true
			continue
		}
		it.delay, it.ttl = m.Delay, m.TTL
		if !m.DeliverAt.IsZero() {
			it.delay = max(it.delay, m.DeliverAt.Sub(wall))
		}
		it.rec = record.Send{
			ID: b.NewID(wall), Ref: ref, Wall: wall.UnixMilli(), Request: m.Request, Hash: b3.Sum(m.Payload),
			Key: []byte(m.Key), Idem: []byte(m.IdemKey), Corr: []byte(m.CorrID), Payload: m.Payload,
		}
		for name, value := range m.Attrs {
			it.rec.Attrs = append(it.rec.Attrs, record.Attr{Name: []byte(name), Value: []byte(value)})
		}
		slices.SortFunc(it.rec.Attrs, func(x, y record.Attr) int { return cmp.Compare(string(x.Name), string(y.Name)) })
	}
}

// shape refuses a message that no topic would take.
func (b *Core) shape(m *Message) error {
	size := int64(len(m.Payload))
	for name, value := range m.Attrs {
		if len(name) == 0 || len(name) > record.MaxAttrName || len(value) > record.MaxAttrValue {
			return Refuse(ErrInvalid, "an attribute's name has 1 to 64 bytes and its value at most 256", 0)
		}
		size += int64(len(name) + len(value))
	}
	switch {
	case size > b.cfg.Limits.MaxMessageBytes:
		return Refuse(ErrTooLarge, "a message has at most "+Itoa(b.cfg.Limits.MaxMessageBytes)+" bytes", 0)
	case len(m.Attrs) > record.MaxAttrs:
		return Refuse(ErrInvalid, "a message has at most 16 attributes", 0)
	case len(m.Key) > record.MaxKeyBytes:
		return Refuse(ErrInvalid, "an ordering key has at most 256 bytes", 0)
	case len(m.IdemKey) > record.MaxIdemBytes:
		return Refuse(ErrInvalid, "the idempotency key is too long", 0)
	case len(m.CorrID) > record.MaxCorrBytes:
		return Refuse(ErrInvalid, "the correlation id is too long", 0)
	case m.Delay < 0 || m.TTL < 0 || m.Delay > record.MaxRetention || m.TTL > record.MaxRetention:
		return Refuse(ErrInvalid, "delays and lives are from 0 to 366 days", 0)
	}
	return nil
}

// NewID makes a ULID: the wall clock's milliseconds, then 80 random bits.
func (b *Core) NewID(wall time.Time) (id queue.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(wall.UnixMilli())<<16|b.cfg.Rand()&0xffff)
	binary.BigEndian.PutUint64(id[8:], b.cfg.Rand())
	return id
}

// IDTime is the wall time within an id.
func IDTime(id queue.ID) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:]) >> 16)).UTC()
}

// stageSends decides about the messages that are left, in order, and stages those
// that are taken. Where one may be a duplicate it goes no further, so that order
// is kept: again says that judge has to read the suspects first.
func (b *Core) stageSends(t *Topic, s *sending, most *tenants.Load) (again bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return true, nil // it is made again
	}
	now := b.now()
	s.effect.Reset()
	ready := 0
	defer func() {
		b.applied(t, now, &s.effect, ready)
		s.end = max(s.end, t.rests())
	}()
	for i := range s.items {
		it := &s.items[i]
		if it.done {
			continue
		}
		if suspected(t, now, it, s) {
			again = true
		}
		if again {
			continue
		}
		it.rec.Now, it.rec.Topic, it.rec.Seq = now, t.number, t.q.NextSeq()
		it.rec.NotBefore, it.rec.Expire = 0, 0
		if it.delay > 0 {
			it.rec.NotBefore = now.Add(it.delay)
		}
		if it.ttl > 0 {
			it.rec.Expire = now.Add(it.ttl)
		}
		it.done = true
		if err := t.admit(now, &it.rec, most); err != nil {
			s.sent[i].Err = err
			continue
		}
		if err := b.stageSend(t, s, it); err != nil {
			if b.Failure() != nil {
				return false, err
			}
			s.sent[i].Err = err
			continue
		}
		s.sent[i].ID = it.rec.ID
		if it.rec.NotBefore == 0 {
			ready++
		}
	}
	return again, nil
}

// stageSend logs and applies one message that was admitted.
func (b *Core) stageSend(t *Topic, s *sending, it *sendItem) error {
	s.head = it.rec.AppendHead(s.head[:0])
	at, err := b.log.StageOne(false, s.head, it.rec.Payload)
	if err != nil {
		return b.Staging(err)
	}
	if err := t.q.Apply(&it.rec, uint64(at), &s.effect); err != nil {
		return b.fail(err)
	}
	return nil
}

// suspected looks for earlier uses of a message's idempotency key that nobody has
// read yet.
func suspected(t *Topic, now queue.Time, it *sendItem, s *sending) bool {
	if len(it.rec.Idem) == 0 {
		return false
	}
	it.suspects = it.suspects[:0]
	s.places = t.q.Seen(now, it.rec.Idem, s.places[:0])
	for _, p := range s.places {
		if !slices.Contains(it.unrelated, p) {
			it.suspects = append(it.suspects, p)
		}
	}
	return len(it.suspects) > 0
}

// judge reads what suspects there are. A record that cannot be read decides for
// the duplicate's disfavour: the key counts as unrelated, for an answer that names
// another message would be worse than a second copy.
func (b *Core) judge(s *sending) error {
	for i := range s.items {
		it := &s.items[i]
		for _, p := range it.suspects {
			if it.done {
				break
			}
			it.unrelated = append(it.unrelated, p)
			raw, err := b.log.Read(store.Pos(p), s.judged)
			if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrCorrupt) {
				continue // moved since, and the topic knows where to; or damaged
			}
			if err != nil {
				return Failed(err)
			}
			s.judged = raw
			earlier, err := record.Decode(raw)
			if err != nil {
				continue
			}
			switch verdict, id := record.Judge(earlier, it.rec.Idem, &it.rec.Request); verdict {
			case record.Duplicate:
				s.sent[i] = Sent{ID: id, Duplicate: true}
				it.done = true
			case record.Mismatch:
				s.sent[i] = Sent{Err: Refuse(ErrMismatch, "", 0)}
				it.done = true
			}
		}
		it.suspects = it.suspects[:0]
	}
	return nil
}

func (b *Core) tellSent(ref queue.TopicRef, s *sending) {
	var fresh, duplicates int64
	for i := range s.sent {
		switch {
		case s.sent[i].Duplicate:
			duplicates++
		case s.sent[i].Err == nil:
			fresh++
		}
	}
	if f := b.cfg.Events.Sent; f != nil && fresh > 0 {
		f(ref, fresh)
	}
	if f := b.cfg.Events.Duplicates; f != nil && duplicates > 0 {
		f(ref, duplicates)
	}
}
