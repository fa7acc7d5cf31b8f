// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import "github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"

// Counts tells what the topic holds at now.
func (t *Topic) Counts(now Time) Counts {
	t.advance(now)
	n := t.n
	n.Keys = t.seen.Keys(t.clock, t.window())
	if seq := t.firstLive(); seq != 0 {
		n.OldestUnacked = t.candidate(seq).Sent
	}
	return n
}

// Holds is what the topic has, as of when it was asked something last: messages, the
// dead, bytes of their records, how many are leased, idempotency keys.
func (t *Topic) Holds() (messages, dead, bytes, leased, keys int64) {
	return t.n.Ready + t.n.Delayed + t.n.Leased, t.n.Dead, t.n.Bytes, t.n.Leased, t.seen.Keys(t.clock, t.window())
}

// Peek appends up to limit messages from seq on, oldest first; next is where to go on, 0 at the end.
func (t *Topic) Peek(now Time, seq uint64, limit int, into []Peeked) (out []Peeked, next uint64) {
	t.advance(now)
	for seq = t.table.nextLive(seq); seq != 0 && limit > 0; limit-- {
		m := t.candidate(seq)
		p := Peeked{Seq: seq, At: m.At, Bytes: m.Bytes, Attempts: m.Attempt - 1, First: m.First, Sent: m.Sent, Expires: m.Sent.Add(t.cfg.Retention)}
		c, i := t.message(seq)
		var key uint64
		if h := c.extra(i); h != 0 {
			x := t.extras.get(h)
			if key, p.State = x.key, x.class; p.State == Leased || p.State == Delayed {
				p.Until = x.until
			}
			if x.expire != 0 {
				p.Expires = min(p.Expires, x.expire)
			}
		} else if p.Expires <= t.clock {
			p.State = Dying
		}
		p.Blocked = p.State == Ready && !t.first(seq, key)
		into = append(into, p)
		seq = t.table.nextLive(seq + 1)
	}
	return into, seq
}

// Jobs appends the topic's redrive jobs, oldest first: those that run, and the last few that are over.
func (t *Topic) Jobs(into []record.RedriveJob) []record.RedriveJob { return append(into, t.jobs...) }

// Place is where the log holds something that is still needed.
type Place struct {
	Seq   uint64 // of a message
	Num   uint64 // or of a dead letter
	At    uint64
	Bytes int64
}

// deadCursor marks a cursor among the dead letters.
const deadCursor = 1 << 63

// Holding appends up to limit places in that segment from cursor on (0: the
// beginning); next is where to go on, 0 at the end. It looks at no more than
// some hundred thousand messages at a time, so that out may be short, or
// empty, before the end. Each place is to be moved before the segment is dropped.
func (t *Topic) Holding(segment uint32, cursor uint64, limit int, into []Place) (out []Place, next uint64) {
	if cursor&deadCursor == 0 {
		end := max(cursor, t.table.first<<chunkBits) + 64*chunkLen
		for seq := t.table.nextLive(cursor); seq != 0; seq = t.table.nextLive(seq + 1) {
			c, i := t.message(seq)
			if c.ext == nil && c.segment > segment { // slots count up from there
				seq |= chunkLen - 1
				continue
			}
			p := t.place(c, i)
			if uint32(p.at>>32) == segment {
				if limit--; limit < 0 {
					return into, seq
				}
				into = append(into, Place{Seq: seq, At: p.at, Bytes: p.bytes()})
			}
			if seq >= end {
				return into, seq + 1
			}
		}
		cursor = deadCursor
	}
	for i, n := range t.dead.From(cursor &^ deadCursor) {
		l := n.L
		if l == nil || uint32(l.At>>32) != segment {
			continue
		}
		if limit--; limit < 0 || i >= 64*chunkLen {
			return into, deadCursor | l.Num
		}
		into = append(into, Place{Num: l.Num, At: l.At, Bytes: l.Bytes})
	}
	return into, 0
}

// Segments calls add with what each segment holds for this topic, some of
// them more than once: to rebuild the log's accounts at start.
func (t *Topic) Segments(add func(Freed)) {
	var e Effect
	flush := func(limit int) {
		if len(e.Placed) > limit {
			for _, f := range e.Placed {
				add(f)
			}
			e.Placed = e.Placed[:0]
		}
	}
	for seq := t.firstLive(); seq != 0; seq = t.table.nextLive(seq + 1) {
		c, i := t.message(seq)
		p := t.place(c, i)
		e.placed(p.at, p.bytes())
		flush(32)
	}
	for _, n := range t.dead.From(0) {
		if n.L != nil {
			e.placed(n.L.At, n.L.Bytes)
			flush(32)
		}
	}
	flush(0)
}
