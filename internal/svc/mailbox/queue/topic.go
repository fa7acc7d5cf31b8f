// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/letters"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/seen"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/timer"
)

// Topic is one topic's state. It is not safe for concurrent use.
type Topic struct {
	// What records made of it.
	num     uint32
	ref     TopicRef
	cfg     Config
	applied uint64
	latest  Time // of a record
	lease   uint64
	next    uint64
	n       Counts // Ready, Delayed and Leased follow from clock
	table   table
	extras  slab
	keys    map[uint64]chain
	dead    letters.List
	jobs    []record.RedriveJob
	seen    seen.Table
	deleted bool

	// What follows from that and the time.
	clock   Time // the latest that anyone asked at
	timers  timer.Heap
	timed   int // extras whose timer counts
	spent   []uint64
	expired []uint64
	low     uint64 // no message below is ready
	oldest  uint64 // no message below is live
	plain   uint64 // no message below is live and without an extra
	lone    uint64 // in an ordered topic: the first live message without a key; 0 none
}

// chain is the messages of one ordering key, in order.
type chain struct{ head, tail uint64 }

// New makes the topic that r, logged at place at, begins.
func New(r *record.TopicPut, at uint64) (*Topic, error) {
	if r.Topic == 0 || at == 0 {
		return nil, ErrRecord
	}
	if err := r.Config.Validate(); err != nil {
		return nil, err
	}
	t := &Topic{num: r.Topic, ref: r.Ref, cfg: r.Config, applied: at, latest: r.Now, clock: r.Now, next: 1, keys: make(map[uint64]chain)}
	t.dead.Next = 1
	return t, nil
}

// Number tells the topic from all others of the node, for ever.
func (t *Topic) Number() uint32 { return t.num }

// Ref returns the topic's name.
func (t *Topic) Ref() TopicRef { return t.ref }

// Config returns the topic's config.
func (t *Topic) Config() Config { return t.cfg }

// Applied returns the place of the last record that was applied: a reader of the log may begin after the lowest of all topics.
func (t *Topic) Applied() uint64 { return t.applied }

// Latest returns the latest time in a record that was applied.
func (t *Topic) Latest() Time { return t.latest }

// MaxLease returns the highest lease given: after a restart, the node's next one is above those of all topics.
func (t *Topic) MaxLease() uint64 { return t.lease }

// NextSeq returns the number that the next Send or Redrive into this topic takes.
func (t *Topic) NextSeq() uint64 { return t.next }

// Admit reports whether the message may be sent: ErrTooLarge, ErrExpires (it
// would be over before it is due), ErrDepth, ErrBytes, ErrAge; with an idempotency
// key, which Seen does not know, also ErrDedupFull.
func (t *Topic) Admit(now Time, s *record.Send) error {
	t.advance(now)
	ends := now.Add(t.cfg.Retention)
	if s.Expire != 0 {
		ends = min(ends, s.Expire)
	}
	switch {
	case s.Len() > record.MaxRecordBytes:
		return ErrTooLarge
	case s.NotBefore >= ends || ends <= now:
		return ErrExpires
	case t.n.Ready+t.n.Delayed+t.n.Leased+t.n.Dead >= t.cfg.MaxDepth:
		return ErrDepth
	case t.n.Bytes+int64(units(s.Len()))*8 > t.cfg.MaxBytes:
		return ErrBytes
	case t.cfg.MaxAge > 0 && t.age() >= t.cfg.MaxAge:
		return ErrAge
	case len(s.Idem) > 0 && t.seen.Keys(now, t.window()) >= t.cfg.MaxKeys:
		return ErrDedupFull
	}
	return nil
}

// age is how long the oldest message waits that nobody acknowledged.
func (t *Topic) age() time.Duration {
	if seq := t.firstLive(); seq != 0 {
		return t.clock.Sub(t.candidate(seq).Sent)
	}
	return 0
}

func (t *Topic) window() int64 { return t.cfg.ReplayWindow.Milliseconds() }

// KeyRoom returns when, after ErrDedupFull, the next idempotency keys are forgotten.
func (t *Topic) KeyRoom(now Time) Time { return t.seen.Room(now, t.window()) }

// Seen appends to into the places of records that may have used the
// idempotency key within the replay window: mostly none or one. The caller
// reads each (a Send, Move or Remember), and record.Judge tells whether it is
// a duplicate, a mismatch, or another key with the same fingerprint.
func (t *Topic) Seen(now Time, key []byte, into []uint64) []uint64 {
	return t.seen.Find(seen.Fingerprint(key), now, t.window(), into)
}

// Remembered appends the places in that segment which are there for the sake
// of an idempotency key alone or also: each needs a Remember (or a Move of its
// message, which does as well) before the segment is dropped. It looks at all keys.
func (t *Topic) Remembered(now Time, segment uint32, into []uint64) []uint64 {
	return t.seen.In(segment, now, t.window(), into)
}

// KeyHash returns what the state keeps of an ordering key: 0 for none. Two
// keys with the same hash wait for each other, which keeps both their orders.
func KeyHash(key []byte) uint64 {
	if len(key) == 0 {
		return 0
	}
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return max(h, 1)
}

// message finds a live message; c is nil if there is none.
func (t *Topic) message(seq uint64) (c *chunk, i int) {
	i = int(seq & (chunkLen - 1))
	if c = t.table.at(seq); c == nil || !c.lives.has(i) {
		return nil, 0
	}
	return c, i
}

func (t *Topic) place(c *chunk, i int) place {
	if h := c.extra(i); h != 0 {
		if x := t.extras.get(h); x.isWide {
			return x.wide
		}
	}
	return c.unpack(c.slots[i])
}

// classify says where a message with an extra is at now, and when that may change by itself.
func (t *Topic) classify(x *extra, sent, now Time) (State, Time) {
	ends := sent.Add(t.cfg.Retention)
	if x.expire != 0 {
		ends = min(ends, x.expire)
	}
	over := int64(x.attempts)-int64(x.base) >= t.cfg.MaxAttempts
	switch {
	case x.state == stLeased && x.until > now:
		return Leased, x.until
	case x.state != stReady && over:
		return Dying, 0
	case ends <= now:
		return Dying, 0
	case x.state == stWaiting && x.until > now:
		return Delayed, min(x.until, ends)
	}
	return Ready, ends
}

// isSpent tells the two ways of dying apart: by attempts, or by time.
func (t *Topic) isSpent(x *extra) bool {
	return x.state != stReady && int64(x.attempts)-int64(x.base) >= t.cfg.MaxAttempts
}

func (t *Topic) tally(s State, x *extra, by int64) {
	switch {
	case s == Ready:
		t.n.Ready += by
	case s == Leased || x.state == stLeased:
		t.n.Leased += by
	default:
		t.n.Delayed += by
	}
}

// edit returns a message's extra to change; one is made where there is none. settle must follow.
func (t *Topic) edit(seq uint64) (uint32, *extra) {
	i := int(seq & (chunkLen - 1))
	if h := t.table.at(seq).extra(i); h != 0 {
		x := t.extras.edit(h)
		t.tally(x.class, x, -1)
		return h, x
	}
	h, x := t.extras.alloc(seq)
	t.table.edit(seq).setExtra(i, h)
	t.n.Ready--
	return h, x
}

// settle puts a message where its changed extra says that it belongs.
func (t *Topic) settle(x *extra) {
	c := t.table.at(x.seq)
	i := int(x.seq & (chunkLen - 1))
	p := x.wide
	if !x.isWide {
		p = c.unpack(c.slots[i])
	}
	class, change := t.classify(x, p.sent, t.clock)
	t.tally(class, x, 1)
	if class == Dying && x.class != Dying {
		if t.isSpent(x) {
			t.spent = append(t.spent, x.seq)
		} else {
			t.expired = append(t.expired, x.seq)
		}
	}
	x.class = class
	t.setReady(x.seq, class == Ready && t.first(x.seq, x.key))
	t.setTimer(x, change)
}

func (t *Topic) setTimer(x *extra, change Time) {
	if x.timer != 0 {
		t.timed--
	}
	if change != 0 {
		t.timed++
		if change != x.timer {
			t.timers.Push(timer.Entry{At: change, Seq: x.seq})
		}
	}
	x.timer = change
	if len(t.timers) > 2*t.timed+256 {
		t.timers.Keep(t.counts)
	}
}

// counts reports whether a timer is still the one of its message.
func (t *Topic) counts(e timer.Entry) bool {
	c, i := t.message(e.Seq)
	if c == nil {
		return false
	}
	h := c.extra(i)
	return h != 0 && t.extras.get(h).timer == e.At
}

// first reports whether a message may go before all others of its key.
func (t *Topic) first(seq, key uint64) bool {
	if key != 0 {
		return t.keys[key].head == seq
	}
	return !t.cfg.Ordered || t.lone == seq
}

func (t *Topic) setReady(seq uint64, on bool) {
	t.table.setReady(seq, on)
	if on && seq < t.low {
		t.low = seq
	}
}

// resettle looks at a message again, because of the time or of its neighbours.
func (t *Topic) resettle(seq uint64) {
	c, i := t.message(seq)
	if c == nil {
		return
	}
	if c.extra(i) == 0 {
		t.setReady(seq, t.first(seq, 0))
		return
	}
	_, x := t.edit(seq)
	t.settle(x)
}

// advance brings what follows from the time up to now.
func (t *Topic) advance(now Time) {
	t.clock = max(t.clock, now)
	for len(t.timers) > 0 && t.timers[0].At <= t.clock {
		if e := t.timers.Pop(); t.counts(e) {
			t.resettle(e.Seq)
		}
	}
}

// push makes a message at the end of the queue.
func (t *Topic) push(seq uint64, p place, fill func(x *extra)) {
	t.next = seq + 1
	p.sent = t.latest
	_, fits := t.table.add(seq, p)
	t.n.Ready++
	t.n.Bytes += p.bytes()
	if fill == nil && fits {
		if t.cfg.Ordered && t.lone == 0 {
			t.lone = seq
		}
		t.setReady(seq, t.first(seq, 0))
		return
	}
	_, x := t.edit(seq)
	if fill != nil {
		fill(x)
	}
	if !fits {
		x.wide, x.isWide = p, true
	}
	if x.key != 0 {
		t.chain(x)
	} else if t.cfg.Ordered && t.lone == 0 {
		t.lone = seq
	}
	t.settle(x)
}

// chain puts a message behind the others of its key.
func (t *Topic) chain(x *extra) {
	k, ok := t.keys[x.key]
	x.prev, x.next = 0, 0
	if !ok {
		k.head = x.seq
	} else {
		x.prev = k.tail
		t.linked(k.tail).next = x.seq
	}
	k.tail = x.seq
	t.keys[x.key] = k
}

// linked returns the extra of a message that is in a chain, to change its links.
func (t *Topic) linked(seq uint64) *extra {
	return t.extras.edit(t.table.at(seq).extra(int(seq & (chunkLen - 1))))
}

// unchain takes a message out of its key's order; the next of the key may be ready then.
func (t *Topic) unchain(prev, next, key uint64) {
	k := t.keys[key]
	if prev != 0 {
		t.linked(prev).next = next
	} else {
		k.head = next
	}
	if next != 0 {
		t.linked(next).prev = prev
	} else {
		k.tail = prev
	}
	if k.head == 0 {
		delete(t.keys, key)
		return
	}
	t.keys[key] = k
	if prev == 0 {
		t.resettle(next)
	}
}

// pull takes a live message out of the queue, and says where its record is.
func (t *Topic) pull(seq uint64) place {
	c, i := t.message(seq)
	p := t.place(c, i)
	t.n.Bytes -= p.bytes()
	h := c.extra(i)
	var key, prev, next uint64
	if h == 0 {
		t.n.Ready--
	} else {
		x := t.extras.get(h)
		t.tally(x.class, x, -1)
		if x.timer != 0 {
			t.timed--
		}
		key, prev, next = x.key, x.prev, x.next
		t.table.edit(seq).setExtra(i, 0)
		t.extras.release(h)
	}
	t.table.drop(seq)
	if key != 0 {
		t.unchain(prev, next, key)
	} else if seq == t.lone {
		t.findLone(seq + 1)
		if t.lone != 0 {
			t.resettle(t.lone)
		}
	}
	return p
}

// findLone looks for the first message without a key from seq on.
func (t *Topic) findLone(seq uint64) {
	t.lone = 0
	if !t.cfg.Ordered {
		return
	}
	for seq = t.table.nextLive(seq); seq != 0; seq = t.table.nextLive(seq + 1) {
		c, i := t.message(seq)
		if h := c.extra(i); h == 0 || t.extras.get(h).key == 0 {
			t.lone = seq
			return
		}
	}
}

// rebuild makes anew all that follows from the records and the time: after a
// change of config, or from a snapshot.
func (t *Topic) rebuild() {
	t.n.Ready, t.n.Delayed, t.n.Leased = 0, 0, 0
	t.timers, t.timed, t.spent, t.expired = t.timers[:0], 0, nil, nil
	t.low, t.oldest, t.plain = 0, 0, 0
	clear(t.table.has)
	t.findLone(1)
	for n, c := range t.table.list {
		if c == nil {
			continue
		}
		base := (t.table.first + uint64(n)) << chunkBits
		c = t.table.edit(base)
		c.readies, c.ready = bitset{}, 0
		t.n.Ready += int64(c.live)
		if !t.cfg.Ordered {
			t.allReady(n, c)
		} else if i := int(t.lone & (chunkLen - 1)); t.lone != 0 && t.lone-uint64(i) == base && c.extra(i) == 0 {
			t.setReady(t.lone, true)
		}
		for _, h := range c.ext {
			if h == 0 {
				continue
			}
			x := t.extras.edit(h)
			x.class, x.timer = Ready, 0
			t.n.Ready--
			t.settle(x)
		}
	}
}

// allReady makes the messages of a chunk ready that have no extra.
func (t *Topic) allReady(n int, c *chunk) {
	c.readies, c.ready = c.lives, c.live
	for i, h := range c.ext {
		if h != 0 && c.readies.has(i) {
			c.readies.clear(i)
			c.ready--
		}
	}
	if c.ready > 0 {
		t.table.has[n>>6] |= 1 << (n & 63)
	}
}

func (e *Effect) freed(at uint64, bytes int64)  { e.Freed = add(e.Freed, at, bytes) }
func (e *Effect) placed(at uint64, bytes int64) { e.Placed = add(e.Placed, at, bytes) }

// add counts a message to its segment: mostly that of the one before.
func add(s []Freed, at uint64, bytes int64) []Freed {
	segment := uint32(at >> 32)
	for i := len(s) - 1; i >= max(0, len(s)-8); i-- {
		if s[i].Segment == segment {
			s[i].Messages++
			s[i].Bytes += bytes
			return s
		}
	}
	return append(s, Freed{segment, 1, bytes})
}
