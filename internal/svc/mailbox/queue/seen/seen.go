// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package seen remembers which idempotency keys were used within a window of
// time, in sixteen bytes a key: a fingerprint, and the place in the log of the
// record that says the rest. Two keys may share a fingerprint; the record
// tells them apart.
package seen

import (
	"encoding/binary"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

type entry struct{ print, at uint64 } // at 0: empty

const (
	minPage  = 16
	maxPage  = 4096
	maxDepth = 14
	marksIn  = 16 // parts that a window is counted in
)

// page is a small hash table of its own, so that no growth takes long and a
// snapshot shares what does not change.
type page struct {
	epoch uint64
	depth uint8 // leading bits that its fingerprints share
	n     int
	slots []entry // a power of two
}

// Mark is a stretch of time: keys of places from At on, up to the next mark, came from Begin to Last.
type Mark struct {
	Begin, Last record.Time
	At          uint64
	Keys        int64
}

// Table is the keys of a topic. Not safe for concurrent use.
type Table struct {
	epoch uint64
	depth uint8
	dir   []*page // by leading bits
	marks []Mark  // oldest first
}

// Fingerprint returns 64 bits of the key's BLAKE3.
func Fingerprint(key []byte) uint64 {
	sum := blake3.Sum256(key)
	return binary.LittleEndian.Uint64(sum[:])
}

// current returns the first mark that is within the window at now.
func (t *Table) current(now record.Time, window int64) int {
	for i := range t.marks {
		if int64(now-t.marks[i].Last) < window {
			return i
		}
	}
	return len(t.marks)
}

func (t *Table) floor(now record.Time, window int64) uint64 {
	if i := t.current(now, window); i < len(t.marks) {
		return t.marks[i].At
	}
	return ^uint64(0)
}

// Keys returns how many keys are remembered at now; window is in milliseconds, here and below.
func (t *Table) Keys(now record.Time, window int64) (n int64) {
	for _, m := range t.marks[t.current(now, window):] {
		n += m.Keys
	}
	return n
}

// Room returns when the oldest keys are forgotten; now if there are none.
func (t *Table) Room(now record.Time, window int64) record.Time {
	if i := t.current(now, window); i < len(t.marks) {
		return t.marks[i].Last + record.Time(window)
	}
	return now
}

// Find appends the places of keys with that fingerprint.
func (t *Table) Find(print uint64, now record.Time, window int64, into []uint64) []uint64 {
	if len(t.dir) == 0 {
		return into
	}
	floor := t.floor(now, window)
	p := t.dir[t.dirIndex(print)]
	mask := uint64(len(p.slots) - 1)
	for i := print & mask; p.slots[i].at != 0; i = (i + 1) & mask {
		if e := p.slots[i]; e.print == print && e.at >= floor {
			into = append(into, e.at)
		}
	}
	return into
}

func (t *Table) dirIndex(print uint64) uint64 {
	if t.depth == 0 {
		return 0
	}
	return print >> (64 - t.depth)
}

// Add remembers a key used at now by the record at a place after all before.
func (t *Table) Add(print, at uint64, now record.Time, window int64) {
	t.Forget(now, window)
	t.marks = t.marks[t.current(now, window):]
	t.count(at, now, window)
	t.insert(entry{print, at}, t.marks[0].At)
}

func (t *Table) count(at uint64, now record.Time, window int64) {
	if n := len(t.marks); n == 0 || int64(now-t.marks[n-1].Begin) >= max(1, window/marksIn) {
		t.marks = append(t.marks, Mark{Begin: now, Last: now, At: at})
	}
	m := &t.marks[len(t.marks)-1]
	m.Last = now
	m.Keys++
}

// Replace moves a key to another place: false if it is not remembered at old.
func (t *Table) Replace(print, old, at uint64, now record.Time, window int64) bool {
	if len(t.dir) == 0 || old < t.floor(now, window) {
		return false
	}
	d := t.dirIndex(print)
	p := t.dir[d]
	mask := uint64(len(p.slots) - 1)
	for i := print & mask; p.slots[i].at != 0; i = (i + 1) & mask {
		if p.slots[i] != (entry{print, old}) {
			continue
		}
		for m := len(t.marks) - 1; m >= 0; m-- {
			if t.marks[m].At <= old {
				t.marks[m].Keys--
				break
			}
		}
		t.own(d).slots[i].at = at
		t.count(at, now, window)
		return true
	}
	return false
}

// own returns page d to change: a copy where a snapshot has it.
func (t *Table) own(d uint64) *page {
	p := t.dir[d]
	if p.epoch == t.epoch {
		return p
	}
	q := *p
	q.epoch = t.epoch
	q.slots = append([]entry(nil), p.slots...)
	t.put(&q, d)
	return &q
}

// put writes p wherever the directory has the page that d leads to.
func (t *Table) put(p *page, d uint64) {
	span := uint64(1) << (t.depth - p.depth)
	for i := d &^ (span - 1); span > 0; i, span = i+1, span-1 {
		t.dir[i] = p
	}
}

func (t *Table) insert(e entry, floor uint64) {
	if len(t.dir) == 0 {
		t.dir, t.depth = []*page{{epoch: t.epoch, slots: make([]entry, minPage)}}, 0
	}
	for {
		d := t.dirIndex(e.print)
		p := t.dir[d]
		if p.n < len(p.slots)-len(p.slots)/8 {
			t.own(d).add(e)
			return
		}
		t.room(d, floor)
	}
}

func (p *page) add(e entry) {
	mask := uint64(len(p.slots) - 1)
	i := e.print & mask
	for p.slots[i].at != 0 {
		i = (i + 1) & mask
	}
	p.slots[i] = e
	p.n++
}

// room makes room in page d: what is over goes; if that is too little, it doubles or is split in two.
func (t *Table) room(d, floor uint64) {
	p := t.dir[d]
	live := 0
	for _, e := range p.slots {
		if e.at >= floor && e.at != 0 {
			live++
		}
	}
	size, split := len(p.slots), false
	if live > size-size/4 {
		if split = size >= maxPage && p.depth < maxDepth; !split {
			size *= 2
		}
	}
	if !split {
		q := &page{epoch: t.epoch, depth: p.depth, slots: make([]entry, size)}
		for _, e := range p.slots {
			if e.at >= floor && e.at != 0 {
				q.add(e)
			}
		}
		t.put(q, d)
		return
	}
	if p.depth == t.depth {
		dir := make([]*page, 2*len(t.dir))
		for i := range dir {
			dir[i] = t.dir[i/2]
		}
		t.dir, t.depth = dir, t.depth+1
		d *= 2
	}
	depth := p.depth + 1
	halves := [2]*page{{epoch: t.epoch, depth: depth, slots: make([]entry, size)}, {epoch: t.epoch, depth: depth, slots: make([]entry, size)}}
	for _, e := range p.slots {
		if e.at >= floor && e.at != 0 {
			halves[e.print>>(64-depth)&1].add(e)
		}
	}
	span := uint64(1) << (t.depth - depth)
	d &^= 2*span - 1
	t.put(halves[0], d)
	t.put(halves[1], d+span)
}

// In appends the places in that segment that are remembered at now.
func (t *Table) In(segment uint32, now record.Time, window int64, into []uint64) []uint64 {
	floor := t.floor(now, window)
	t.each(func(e entry) {
		if e.at >= floor && uint32(e.at>>32) == segment {
			into = append(into, e.at)
		}
	})
	return into
}

func (t *Table) each(f func(entry)) {
	var last *page
	for _, p := range t.dir {
		if p == last {
			continue
		}
		last = p
		for _, e := range p.slots {
			if e.at != 0 {
				f(e)
			}
		}
	}
}

// Freeze returns the table as it is; this one goes on without changing it.
func (t *Table) Freeze() *Table {
	t.epoch++
	return &Table{depth: t.depth, dir: append([]*page(nil), t.dir...), marks: append([]Mark(nil), t.marks...)}
}

// Marks returns the stretches of time; they are not to be changed.
func (t *Table) Marks() []Mark { return t.marks }

// Each calls f for each key that no mark has left behind.
func (t *Table) Each(f func(print, at uint64)) {
	if len(t.marks) == 0 {
		return
	}
	t.each(func(e entry) {
		if e.at >= t.marks[0].At {
			f(e.print, e.at)
		}
	})
}

// Load puts back what Marks and Each gave: the marks first, in order.
func (t *Table) Load(marks []Mark) { t.marks = append([]Mark(nil), marks...) }

// LoadKey puts back a key; false if no mark covers it.
func (t *Table) LoadKey(print, at uint64) bool {
	if len(t.marks) == 0 || at < t.marks[0].At {
		return false
	}
	t.insert(entry{print, at}, t.marks[0].At)
	return true
}

// Forget drops everything once nothing is remembered any more at now.
func (t *Table) Forget(now record.Time, window int64) {
	if n := len(t.marks); n > 0 && int64(now-t.marks[n-1].Last) >= window {
		*t = Table{epoch: t.epoch}
	}
}
