// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// letter is a dead letter. It is not changed once it is in the list: a snapshot may have it.
type letter struct {
	DeadLetter
	units uint32
}

// numbered is a place in the list; the letter is nil once it is gone.
type numbered struct {
	num uint64
	l   *letter
}

// letters is a dead-letter queue, oldest first.
type letters struct {
	next uint64 // number of the next
	list []numbered
	byID map[ID]uint64
	from int // all before are gone
}

func (d *letters) len() int { return len(d.byID) }

func (d *letters) index(num uint64) (int, bool) {
	i, ok := slices.BinarySearchFunc(d.list, num, func(e numbered, n uint64) int {
		switch {
		case e.num < n:
			return -1
		case e.num > n:
			return 1
		}
		return 0
	})
	return i, ok && d.list[i].l != nil
}

func (d *letters) get(num uint64) *letter {
	if i, ok := d.index(num); ok {
		return d.list[i].l
	}
	return nil
}

func (d *letters) add(l *letter) {
	if d.byID == nil {
		d.byID = make(map[ID]uint64)
	}
	l.Num = d.next
	d.next++
	d.list = append(d.list, numbered{l.Num, l})
	d.byID[l.ID] = l.Num
}

func (d *letters) remove(num uint64) *letter {
	i, ok := d.index(num)
	if !ok {
		return nil
	}
	l := d.list[i].l
	d.list[i].l = nil
	delete(d.byID, l.ID)
	for d.from < len(d.list) && d.list[d.from].l == nil {
		d.from++
	}
	if len(d.byID) < len(d.list)/2 && len(d.list) > 16 {
		d.list = slices.DeleteFunc(d.list, func(e numbered) bool { return e.l == nil })
		d.from = 0
	}
	return l
}

// oldest returns the oldest letter; nil if there is none.
func (d *letters) oldest() *letter {
	if d.from < len(d.list) {
		return d.list[d.from].l
	}
	return nil
}

// cut returns the first number whose letter did not die at or before then; 0 if even the oldest did not.
func (d *letters) cut(then Time) uint64 {
	l := d.oldest()
	if l == nil || l.Died > then {
		return 0
	}
	for _, e := range d.list[d.from:] {
		if e.l != nil && e.l.Died > then {
			return e.num
		}
	}
	return d.next
}

// lookAt bounds how many letters one call of Dead passes over.
const lookAt = 4096

// Dead appends up to limit dead letters with a number from num on that f
// chooses, oldest first; next is where to go on, 0 at the end. It looks at
// no more than a few thousand at a time, so that out may be short, or empty, before the end.
func (t *Topic) Dead(f *record.DeadFilter, num uint64, limit int, into []DeadLetter) (out []DeadLetter, next uint64) {
	if len(f.IDs) > 0 {
		return t.deadByIDs(f, num, limit, into)
	}
	i, _ := t.dead.index(num)
	i = max(i, t.dead.from)
	for end := i + lookAt; i < len(t.dead.list); i++ {
		e := t.dead.list[i]
		if limit <= 0 || i == end {
			return into, e.num
		}
		if e.l != nil && matches(f, e.l) {
			into = append(into, e.l.DeadLetter)
			limit--
		}
	}
	return into, 0
}

// deadByIDs looks up the few that are named.
func (t *Topic) deadByIDs(f *record.DeadFilter, num uint64, limit int, into []DeadLetter) ([]DeadLetter, uint64) {
	var nums []uint64
	for _, id := range f.IDs {
		if n, ok := t.dead.byID[id]; ok && n >= num && matches(f, t.dead.get(n)) {
			nums = append(nums, n)
		}
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)
	for i, n := range nums {
		if i == limit {
			return into, n
		}
		into = append(into, t.dead.get(n).DeadLetter)
	}
	return into, 0
}

func matches(f *record.DeadFilter, l *letter) bool {
	return (f.Why == record.WhyNone || f.Why == l.Why) && (f.After == 0 || l.Died >= f.After) && (f.Before == 0 || l.Died < f.Before)
}

// DeadByID returns the dead letter with that message id. ErrNotDead.
func (t *Topic) DeadByID(id ID) (DeadLetter, error) {
	if num, ok := t.dead.byID[id]; ok {
		return t.dead.get(num).DeadLetter, nil
	}
	return DeadLetter{}, ErrNotDead
}

// bury puts a message into the dead-letter queue.
func (t *Topic) bury(r *record.Dead) {
	l := &letter{units: units(int(r.Size)), DeadLetter: DeadLetter{
		ID: r.ID, Why: r.Why, From: r.Topic, At: r.At, Attempts: r.Attempts, Base: r.Base, First: r.First, Died: t.latest, Key: r.Key,
		Detail: string(r.Detail), History: copyEvents(r.History),
	}}
	l.Bytes = int64(l.units) * 8
	t.dead.add(l)
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
func (t *Topic) unbury(num uint64) *letter {
	l := t.dead.remove(num)
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
