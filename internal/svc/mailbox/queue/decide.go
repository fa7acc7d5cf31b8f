// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import "github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"

// Receivable appends to into messages that may be leased at now, oldest
// first: at most max, at most maxBytes of records in sum (but always one), and
// no more than the topic may have in flight. Of each ordering key it gives the
// oldest message alone, and none while that is leased or delayed. A Lease for
// any of them, in any order, may follow.
func (t *Topic) Receivable(now Time, max int, maxBytes int64, into []Candidate) []Candidate {
	t.advance(now)
	start := len(into)
	if room := t.cfg.MaxInFlight - t.n.Leased; int64(max) > room {
		max = int(room)
	}
	seq := t.table.nextReady(t.low)
	if t.low = seq; seq == 0 {
		t.low = t.next
	}
	for seq != 0 && len(into)-start < max {
		m := t.candidate(seq)
		if m.Attempt == 1 && m.Sent.Add(t.cfg.Retention) <= t.clock {
			seq = t.table.nextReady(t.cut()) // those with an extra are not ready any more
			continue
		}
		if len(into) > start && m.Bytes > maxBytes {
			break
		}
		maxBytes -= m.Bytes
		into = append(into, m)
		seq = t.table.nextReady(seq + 1)
	}
	return into
}

func (t *Topic) candidate(seq uint64) Candidate {
	c, i := t.message(seq)
	p := t.place(c, i)
	m := Candidate{Seq: seq, At: p.at, Bytes: p.bytes(), Attempt: 1, First: p.sent, Sent: p.sent}
	if h := c.extra(i); h != 0 {
		x := t.extras.get(h)
		m.Attempt = x.attempts + 1
		if x.first != 0 {
			m.First = x.first
		}
	}
	return m
}

// InFlightFull reports whether Receivable gives nothing because too much is leased.
func (t *Topic) InFlightFull(now Time) bool {
	t.advance(now)
	return t.n.Leased >= t.cfg.MaxInFlight
}

// CheckLease says what is held under the lease: ErrLeaseLost. Call it before
// an Ack, Nack or Extend, once for each item. Held.Attempt is the attempt under way.
func (t *Topic) CheckLease(now Time, seq, lease uint64) (Held, error) {
	c, i := t.message(seq)
	if c == nil || c.extra(i) == 0 {
		return Held{}, ErrLeaseLost
	}
	x := t.extras.get(c.extra(i))
	if x.lease != lease || x.state != stLeased || x.until <= max(now, t.clock) {
		return Held{}, ErrLeaseLost
	}
	m := t.candidate(seq)
	m.Attempt--
	return Held{Candidate: m, Lease: lease, Until: x.until}, nil
}

// Owned appends to into the messages that are under a lease of that owner at now,
// in no order. It looks at all that have ever been leased and are still there.
func (t *Topic) Owned(now Time, owner uint64, into []Held) []Held {
	t.advance(now)
	for _, p := range t.extras.pages {
		for i := range p.recs {
			if x := &p.recs[i]; x.owner == owner && x.seq != 0 && x.state == stLeased && x.until > t.clock {
				m := t.candidate(x.seq)
				m.Attempt--
				into = append(into, Held{Candidate: m, Lease: x.lease, Until: x.until})
			}
		}
	}
	return into
}

// firstPlain returns the first message without an extra; 0 if there is none.
func (t *Topic) firstPlain() uint64 {
	for seq := t.table.nextLive(t.plain); seq != 0; seq = t.table.nextLive(seq + 1) {
		t.plain = seq
		if c, i := t.message(seq); c.extra(i) == 0 {
			return seq
		}
	}
	t.plain = t.next
	return 0
}

// firstLive returns the first message; 0 if there is none.
func (t *Topic) firstLive() uint64 {
	seq := t.table.nextLive(t.oldest)
	if t.oldest = seq; seq == 0 {
		t.oldest = t.next
	}
	return seq
}

// cut returns the first seq from which on retention is not over; 0 if no
// message without an extra is below it. Later messages were sent later, so
// whole chunks are passed over.
func (t *Topic) cut() uint64 {
	first := t.firstPlain()
	then := t.clock.Add(-t.cfg.Retention)
	if first == 0 || t.candidate(first).Sent > then {
		return 0
	}
	var last *chunk
	var base uint64
	for n := first>>chunkBits - t.table.first; n < uint64(len(t.table.list)); n++ {
		c := t.table.list[n]
		if c == nil || c.live == 0 {
			continue
		}
		if c.sent > then {
			break
		}
		last, base = c, (t.table.first+n)<<chunkBits
	}
	for i, ok := last.lives.next(0); ok; i, ok = last.lives.next(i + 1) {
		if t.place(last, i).sent > then {
			return base + uint64(i)
		}
	}
	return min(base+chunkLen, t.next)
}

// Due returns what is to be recorded because of the time, at most max
// messages of each kind. The caller records it and asks again, until it is Empty.
func (t *Topic) Due(now Time, max int) Due {
	t.advance(now)
	var d Due
	d.Spent = t.dying(&t.spent, true, max)
	d.Expired = t.dying(&t.expired, false, max)
	if cut := t.cut(); cut != 0 {
		if t.cfg.KeepExpired {
			for seq := t.firstPlain(); seq != 0 && seq < cut && len(d.Expired) < max; seq = t.table.nextLive(seq + 1) {
				if c, i := t.message(seq); c.extra(i) == 0 {
					d.Expired = append(d.Expired, seq)
				}
			}
		} else {
			d.Cut = cut
		}
	}
	d.DeadCut = t.dead.Cut(t.clock.Add(-t.cfg.DeadRetention))
	d.More = len(d.Spent) >= max || len(d.Expired) >= max
	return d
}

// dying returns up to max of the list that still die for that reason.
func (t *Topic) dying(list *[]uint64, spent bool, max int) (out []uint64) {
	head := true
	for i, seq := range *list {
		if len(out) >= max {
			break
		}
		c, k := t.message(seq)
		if c != nil && c.extra(k) != 0 {
			if x := t.extras.get(c.extra(k)); x.class == Dying && t.isSpent(x) == spent {
				if head {
					*list, head = (*list)[i:], false
				}
				out = append(out, seq)
			}
		}
	}
	if head {
		*list = nil
	}
	return out
}

// NextChange returns the earliest time at which something becomes receivable
// or due; now, if something is due already; false if nothing will by itself.
func (t *Topic) NextChange(now Time) (Time, bool) {
	if d := t.Due(now, 1); !d.Empty() {
		return max(now, t.clock), true
	}
	var next Time
	earliest := func(at Time) {
		if next == 0 || at < next {
			next = at
		}
	}
	for len(t.timers) > 0 && !t.counts(t.timers[0]) {
		t.timers.Pop()
	}
	if len(t.timers) > 0 {
		earliest(t.timers[0].At)
	}
	if seq := t.firstPlain(); seq != 0 {
		earliest(t.candidate(seq).Sent.Add(t.cfg.Retention))
	}
	if l := t.dead.Oldest(); l != nil {
		earliest(l.Died.Add(t.cfg.DeadRetention))
	}
	return next, next != 0
}

const lapsed = "the visibility timeout ended without an answer"

// Kill makes the record that moves a message into the dead-letter queue of
// topic into (its own number, or that of Config.DLQ's topic). id is from the
// message's record; an empty detail means the last thing that went wrong.
// False if there is no such message.
func (t *Topic) Kill(now Time, seq uint64, id ID, why Why, into uint32, detail string) (record.Dead, bool) {
	c, i := t.message(seq)
	if c == nil {
		return record.Dead{}, false
	}
	m := t.candidate(seq)
	r := record.Dead{Head: record.Head{Now: now, Topic: t.num}, Seq: seq, ID: id, Why: why, Into: into,
		At: m.At, Size: uint32(m.Bytes), Attempts: m.Attempt - 1, First: m.First, Detail: []byte(detail)}
	if h := c.extra(i); h != 0 {
		x := t.extras.get(h)
		r.Base, r.Key = x.base, x.key
		r.History = t.events(h, x, now)
	}
	if n := len(r.History); detail == "" && n > 0 {
		if r.Detail = r.History[n-1].Reason; r.History[n-1].Lapsed {
			r.Detail = []byte(lapsed)
		}
	}
	r.Detail = record.CutReason(r.Detail, record.MaxReasonBytes)
	return r, true
}

// events returns what went wrong with a message up to now, a lapse that no record tells of included.
func (t *Topic) events(h uint32, x *extra, now Time) []Event {
	var s []Event
	if b := t.extras.history(h); b != nil {
		s, _ = record.DecodeEvents(b) // our own bytes: restored ones were checked
	}
	if x.state == stLeased && x.until <= now {
		s = append(s, Event{At: x.until, Attempt: x.attempts, Lapsed: true})
	}
	return s[max(0, len(s)-record.MaxEvents):]
}

// Revive makes the record that sends dead letter num back, into topic to:
// ErrNotDead; where that is another topic, also ErrDepth and ErrBytes.
func (t *Topic) Revive(now Time, num uint64, to *Topic) (record.Redrive, error) {
	l := t.dead.Get(num)
	if l == nil {
		return record.Redrive{}, ErrNotDead
	}
	if to != t {
		if to.n.Ready+to.n.Delayed+to.n.Leased+to.n.Dead >= to.cfg.MaxDepth {
			return record.Redrive{}, ErrDepth
		}
		if to.n.Bytes+l.Bytes > to.cfg.MaxBytes {
			return record.Redrive{}, ErrBytes
		}
	}
	return record.Redrive{Head: record.Head{Now: now, Topic: t.num}, Num: num, To: to.num, Seq: to.next, ID: l.ID, At: l.At, Size: uint32(l.Bytes),
		Attempts: l.Attempts, First: l.First, Key: l.Key, History: l.History}, nil
}
