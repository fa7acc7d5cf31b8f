// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// lookAt bounds how many letters one call of Dead passes over.
const lookAt = 4096

// Dead appends up to limit dead letters with a number from num on that f
// chooses, oldest first; next is where to go on, 0 at the end. It looks at
// no more than a few thousand at a time, so that out may be short, or empty, before the end.
func (t *Topic) Dead(f *record.DeadFilter, num uint64, limit int, into []DeadLetter) (out []DeadLetter, next uint64) {
	if len(f.IDs) > 0 {
		return t.deadByIDs(f, num, limit, into)
	}
	for i, e := range t.dead.From(num) {
		if limit <= 0 || i == lookAt {
			return into, e.Num
		}
		if e.L != nil && matches(f, e.L) {
			into = append(into, *e.L)
			limit--
		}
	}
	return into, 0
}

// deadByIDs looks up the few that are named.
func (t *Topic) deadByIDs(f *record.DeadFilter, num uint64, limit int, into []DeadLetter) ([]DeadLetter, uint64) {
	var nums []uint64
	for _, id := range f.IDs {
		if n, ok := t.dead.Number(id); ok && n >= num && matches(f, t.dead.Get(n)) {
			nums = append(nums, n)
		}
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)
	for i, n := range nums {
		if i == limit {
			return into, n
		}
		into = append(into, *t.dead.Get(n))
	}
	return into, 0
}

func matches(f *record.DeadFilter, l *DeadLetter) bool {
	return (f.Why == record.WhyNone || f.Why == l.Why) && (f.After == 0 || l.Died >= f.After) && (f.Before == 0 || l.Died < f.Before)
}

// DeadByID returns the dead letter with that message id. ErrNotDead.
func (t *Topic) DeadByID(id ID) (DeadLetter, error) {
	if num, ok := t.dead.Number(id); ok {
		return *t.dead.Get(num), nil
	}
	return DeadLetter{}, ErrNotDead
}

// bury puts a message into the dead-letter queue.
func (t *Topic) bury(r *record.Dead) {
	l := &DeadLetter{
		ID: r.ID, Why: r.Why, From: r.Topic, At: r.At, Attempts: r.Attempts, Base: r.Base, First: r.First, Died: t.latest, Key: r.Key,
		Detail: string(r.Detail), History: copyEvents(r.History),
		Bytes: int64(units(int(r.Size))) * 8,
	}
	t.dead.Add(l)
	t.n.Dead++
	t.n.Bytes += l.Bytes
}

func copyEvents(s []Event) []Event {
	out := slices.Clone(s)
	for i := range out {
		out[i].Reason = slices.Clone(out[i].Reason)
	}
	return out
}

// unbury takes a dead letter out; nil if it is not there.
func (t *Topic) unbury(num uint64) *DeadLetter {
	l := t.dead.Remove(num)
	if l != nil {
		t.n.Dead--
		t.n.Bytes -= l.Bytes
	}
	return l
}

// endDead ends dead letters for good.
func (t *Topic) endDead(num uint64, ended *int64, e *Effect) bool {
	l := t.unbury(num)
	if l == nil {
		return false
	}
	*ended++
	e.freed(l.At, l.Bytes)
	return true
}
