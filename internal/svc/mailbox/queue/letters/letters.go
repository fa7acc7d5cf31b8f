// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package letters is a topic's dead-letter queue: messages by number and by id.
package letters

import (
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Letter is a message in a dead-letter queue. It is not changed once it is in
// a List: a snapshot may have it.
type Letter struct {
	Num      uint64 // place in this queue, increasing
	ID       record.ID
	Why      record.Why
	From     uint32 // topic it died in
	At       uint64
	Bytes    int64
	Attempts uint32
	Base     uint32 // attempts before the last redrive
	First    record.Time
	Died     record.Time
	Key      uint64
	Detail   string
	History  []record.Event
}

// Numbered is a place in the list; the letter is nil once it is gone.
type Numbered struct {
	Num uint64
	L   *Letter
}

// List is a dead-letter queue, oldest first. Not safe for concurrent use.
type List struct {
	Next uint64 // number that the next one gets
	list []Numbered
	byID map[record.ID]uint64
	from int // all before are gone
}

// Len returns how many there are.
func (d *List) Len() int { return len(d.byID) }

// index returns where a number is or would be, and whether its letter is there.
func (d *List) index(num uint64) (int, bool) {
	i, ok := slices.BinarySearchFunc(d.list, num, func(e Numbered, n uint64) int {
		switch {
		case e.Num < n:
			return -1
		case e.Num > n:
			return 1
		}
		return 0
	})
	return i, ok && d.list[i].L != nil
}

// Get returns the letter with that number; nil if there is none.
func (d *List) Get(num uint64) *Letter {
	if i, ok := d.index(num); ok {
		return d.list[i].L
	}
	return nil
}

// Add puts a letter at the end, and numbers it.
func (d *List) Add(l *Letter) {
	if d.byID == nil {
		d.byID = make(map[record.ID]uint64)
	}
	l.Num = d.Next
	d.Next++
	d.list = append(d.list, Numbered{l.Num, l})
	d.byID[l.ID] = l.Num
}

// Remove takes a letter out; nil if it is not there.
func (d *List) Remove(num uint64) *Letter {
	i, ok := d.index(num)
	if !ok {
		return nil
	}
	l := d.list[i].L
	d.list[i].L = nil
	delete(d.byID, l.ID)
	for d.from < len(d.list) && d.list[d.from].L == nil {
		d.from++
	}
	if len(d.byID) < len(d.list)/2 && len(d.list) > 16 {
		d.list = slices.DeleteFunc(d.list, func(e Numbered) bool { return e.L == nil })
		d.from = 0
	}
	return l
}

// Oldest returns the oldest letter; nil if there is none.
func (d *List) Oldest() *Letter {
	if d.from < len(d.list) {
		return d.list[d.from].L
	}
	return nil
}

// Cut returns the first number whose letter did not die at or before then; 0 if even the oldest did not.
func (d *List) Cut(then record.Time) uint64 {
	l := d.Oldest()
	if l == nil || l.Died > then {
		return 0
	}
	for _, e := range d.list[d.from:] {
		if e.L != nil && e.L.Died > then {
			return e.Num
		}
	}
	return d.Next
}

// Number returns the number of the letter with that id; false if there is none.
func (d *List) Number(id record.ID) (uint64, bool) {
	num, ok := d.byID[id]
	return num, ok
}

// Replace puts another letter where one with its number is.
func (d *List) Replace(l *Letter) {
	if i, ok := d.index(l.Num); ok {
		d.list[i].L = l
	}
}

// From returns the places from that number on: not to be changed, and of use until the next change.
func (d *List) From(num uint64) []Numbered {
	i, _ := d.index(num)
	return d.list[max(i, d.from):]
}

// Freeze returns the list as it is.
func (d *List) Freeze() []Numbered { return slices.Clone(d.list) }
