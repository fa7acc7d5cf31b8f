// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import "math/bits"

const (
	chunkBits  = 11
	chunkLen   = 1 << chunkBits
	chunkWords = chunkLen / 64
)

// slot is where a message's record is, how long it is and when it was sent, in
// twelve bytes, relative to its chunk: offset/8 in 27 bits, bytes/8 in 22,
// segment in 18, time in 29. What does not fit has it all in its extra.
type slot struct{ a, b, c uint32 }

const (
	offsetBits, sizeBits, segmentBits = 27, 22, 18
	timeBits                          = 96 - offsetBits - sizeBits - segmentBits
)

// place is what a slot says.
type place struct {
	at    uint64
	units uint32 // bytes/8, rounded up
	sent  Time
}

func (p place) bytes() int64 { return int64(p.units) * 8 }

func units(bytes int) uint32 { return uint32((bytes + 7) / 8) }

// bitset has a bit for each message of a chunk.
type bitset [chunkWords]uint64

func (b *bitset) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b *bitset) set(i int)      { b[i>>6] |= 1 << (i & 63) }
func (b *bitset) clear(i int)    { b[i>>6] &^= 1 << (i & 63) }

// next returns the first bit from i on; false if there is none.
func (b *bitset) next(i int) (int, bool) {
	if i >= chunkLen {
		return 0, false
	}
	w := i >> 6
	if word := b[w] >> (i & 63); word != 0 {
		return i + bits.TrailingZeros64(word), true
	}
	for w++; w < chunkWords; w++ {
		if b[w] != 0 {
			return w<<6 + bits.TrailingZeros64(b[w]), true
		}
	}
	return 0, false
}

// chunk holds the messages of chunkLen neighbouring seqs. Slots hold no
// pointers, so that millions of them cost the garbage collector nothing.
type chunk struct {
	epoch   uint64 // of the table when it was made or copied: an older one is shared with a snapshot
	own     uint64 // the same of its slots: they are only added to, unless messages are moved
	segment uint32 // what slots count from
	live    int32
	ready   int32
	sent    Time
	lives   bitset
	readies bitset // live, ready, and the first of its key: what a receiver may have
	slots   []slot
	ext     []uint32 // extras of slots that have one; may be shorter than slots, or nil
}

func (c *chunk) pack(p place) (slot, bool) {
	segment, off := uint32(p.at>>32), uint32(p.at)
	ds, dt := uint64(segment)-uint64(c.segment), uint64(p.sent-c.sent)
	if segment < c.segment || p.sent < c.sent || ds >= 1<<segmentBits || dt >= 1<<timeBits || off&7 != 0 || off>>3 >= 1<<offsetBits || p.units >= 1<<sizeBits {
		return slot{}, false
	}
	return slot{
		a: off>>3 | uint32(dt>>24)<<offsetBits,
		b: p.units | uint32(dt>>14&0x3ff)<<sizeBits,
		c: uint32(ds) | uint32(dt&0x3fff)<<segmentBits,
	}, true
}

func (c *chunk) unpack(s slot) place {
	dt := uint64(s.a>>offsetBits)<<24 | uint64(s.b>>sizeBits)<<14 | uint64(s.c>>segmentBits)
	return place{
		at:    uint64(c.segment+s.c&(1<<segmentBits-1))<<32 | uint64(s.a&(1<<offsetBits-1))<<3,
		units: s.b & (1<<sizeBits - 1),
		sent:  c.sent + Time(dt),
	}
}

func (c *chunk) extra(i int) uint32 {
	if i < len(c.ext) {
		return c.ext[i]
	}
	return 0
}

func (c *chunk) setExtra(i int, h uint32) {
	if i >= cap(c.ext) {
		c.growExtras()
	}
	c.ext = c.ext[:max(i+1, len(c.ext))]
	c.ext[i] = h
}

// growExtras makes room for as many as there is room for slots. What is behind the end stays zero.
func (c *chunk) growExtras() {
	grown := make([]uint32, len(c.ext), cap(c.slots))
	copy(grown, c.ext)
	c.ext = grown
}

// table finds chunks by seq.
type table struct {
	epoch uint64
	first uint64   // number (seq>>chunkBits) of list[0]: a multiple of 64
	list  []*chunk // nil where all are gone
	has   []uint64 // bit n: list[n] has ready ones
	alive []uint64 // bit n: list[n] has live ones
}

// at returns the chunk of seq, to read; nil if there is none.
func (t *table) at(seq uint64) *chunk {
	n := seq>>chunkBits - t.first
	if n >= uint64(len(t.list)) {
		return nil // also below first: n wrapped around
	}
	return t.list[n]
}

// edit returns the chunk of seq, to change; it is there. A copy is made where a snapshot has it.
func (t *table) edit(seq uint64) *chunk {
	n := seq>>chunkBits - t.first
	c := t.list[n]
	if c.epoch != t.epoch {
		own := *c // slots stay shared: those that a snapshot knows never change in place
		own.epoch = t.epoch
		if c = &own; c.ext != nil {
			c.growExtras()
		}
		t.list[n] = c
	}
	return c
}

// add makes a message at the end. It returns its chunk, and false where the place does not fit a slot.
func (t *table) add(seq uint64, p place) (*chunk, bool) {
	num := seq >> chunkBits
	if len(t.list) == 0 {
		t.first = num &^ 63
	}
	for t.first+uint64(len(t.list)) <= num {
		t.grow()
	}
	if n := num - t.first; t.list[n] == nil {
		c := &chunk{epoch: t.epoch, own: t.epoch, segment: uint32(p.at >> 32), sent: p.sent}
		if n > 0 && t.list[n-1] != nil {
			c.slots = make([]slot, 0, chunkLen) // it will be filled
		}
		t.list[n] = c
	}
	c := t.edit(seq)
	i := int(seq & (chunkLen - 1))
	for len(c.slots) < i {
		c.slots = append(c.slots, slot{}) // seqs whose records were lost
	}
	s, ok := c.pack(p)
	c.slots = append(c.slots[:i], s)
	c.lives.set(i)
	if c.live++; c.live == 1 {
		t.alive[(num-t.first)>>6] |= 1 << ((num - t.first) & 63)
	}
	return c, ok
}

func (t *table) grow() {
	if len(t.list)&63 == 0 {
		t.has = append(t.has, 0)
		t.alive = append(t.alive, 0)
	}
	t.list = append(t.list, nil)
}

// replace writes another slot where one was; a snapshot keeps the old.
func (c *chunk) replace(i int, s slot) {
	if c.own != c.epoch {
		c.slots = append(make([]slot, 0, cap(c.slots)), c.slots...)
		c.own = c.epoch
	}
	c.slots[i] = s
}

// drop ends a message, and its chunk when it was the last.
func (t *table) drop(seq uint64) {
	t.setReady(seq, false)
	c := t.edit(seq)
	c.lives.clear(int(seq & (chunkLen - 1)))
	if c.live--; c.live > 0 {
		return
	}
	n := seq>>chunkBits - t.first
	t.alive[n>>6] &^= 1 << (n & 63)
	if n == uint64(len(t.list))-1 && len(c.slots) < chunkLen {
		return // more will come into it
	}
	t.list[n] = nil
	t.trim()
}

// trim forgets what is gone at the beginning, 64 chunks at a time.
func (t *table) trim() {
	for len(t.list) > 64 {
		if t.alive[0] != 0 {
			return
		}
		t.list, t.has, t.alive, t.first = t.list[64:], t.has[1:], t.alive[1:], t.first+64
	}
}

// setReady says whether a receiver may have the message.
func (t *table) setReady(seq uint64, on bool) {
	i, n := int(seq&(chunkLen-1)), seq>>chunkBits-t.first
	if t.list[n].readies.has(i) == on {
		return
	}
	c := t.edit(seq)
	if on {
		c.readies.set(i)
		if c.ready++; c.ready == 1 {
			t.has[n>>6] |= 1 << (n & 63)
		}
		return
	}
	c.readies.clear(i)
	if c.ready--; c.ready == 0 {
		t.has[n>>6] &^= 1 << (n & 63)
	}
}

// nextReady returns the first message from seq on that a receiver may have; 0 if there is none.
func (t *table) nextReady(seq uint64) uint64 {
	num := max(seq>>chunkBits, t.first)
	if num > seq>>chunkBits {
		seq = num << chunkBits
	}
	for n := num - t.first; n < uint64(len(t.list)); {
		if c := t.list[n]; c != nil && c.ready > 0 {
			if i, ok := c.readies.next(int(seq & (chunkLen - 1))); ok {
				return (t.first+n)<<chunkBits + uint64(i)
			}
		}
		var ok bool
		if n, ok = nextBit(t.has, n+1); !ok {
			return 0
		}
		seq = (t.first + n) << chunkBits
	}
	return 0
}

func nextBit(set []uint64, n uint64) (uint64, bool) {
	for w := n >> 6; w < uint64(len(set)); w++ {
		word := set[w]
		if w == n>>6 {
			word &= ^uint64(0) << (n & 63)
		}
		if word != 0 {
			return w<<6 + uint64(bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// nextLive returns the first message from seq on; 0 if there is none.
func (t *table) nextLive(seq uint64) uint64 {
	num := max(seq>>chunkBits, t.first)
	if num > seq>>chunkBits {
		seq = num << chunkBits
	}
	for n := num - t.first; n < uint64(len(t.list)); {
		if c := t.list[n]; c != nil && c.live > 0 {
			if i, ok := c.lives.next(int(seq & (chunkLen - 1))); ok {
				return (t.first+n)<<chunkBits + uint64(i)
			}
		}
		var ok bool
		if n, ok = nextBit(t.alive, n+1); !ok {
			return 0
		}
		seq = (t.first + n) << chunkBits
	}
	return 0
}
