// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package hot

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

const (
	// MinBytes is the smallest cache that keeps anything.
	MinBytes = 2 << 20
	// maxBytes keeps places within their 48 bits, with room to spare.
	maxBytes = 1 << 44

	// Segments hold a power of two of pieces with their headers.
	bigSegment, smallSegment = 2<<20 + 4<<10, 512<<10 + 4<<10
	// bigFrom is the size from which segments are big.
	bigFrom = 32 << 20
	// wishes is how often an entry must be wanted to come in, bigWishes where it
	// is of an object that takes half of the cache or more.
	wishes, bigWishes = 2, 4
	// tries bounds how many segments are recycled for one entry.
	tries = 4
	// bytesPerCounter: the sketch has a counter for each so many bytes.
	bytesPerCounter = 256
	minCounters     = 1 << 12
)

// Key names an entry. Piece counts from 0 in steps that are the caller's.
type Key struct {
	Tenant macronode.TenantID
	Addr   b3.Addr
	Piece  uint32
}

// Cache keeps verified bytes. It is safe for concurrent use. A nil Cache keeps
// nothing.
type Cache struct {
	seed     maphash.Seed
	segBytes int
	free     func() error // gives the arena back

	hits, misses, held atomic.Int64
	closed             atomic.Bool

	mu      sync.Mutex
	arena   []byte
	segs    []segment
	cur     int               // the segment that is appended to
	hand    int               // the segment that was looked at last for room
	index   map[uint64]uint64 // place and hits by the key's hash
	filling map[uint64]struct{}
	sketch  sketch
	freed   bool
}

// segment is a part of the arena.
type segment struct {
	// pins count its readers, and slots that are being filled. They grow under
	// the cache's lock alone.
	pins atomic.Int32
	used int // bytes appended
	// bar is what newcomers are held against, as it was found in the sketch's
	// epoch barred; 0: it is to be found.
	bar, barred int
}

// A place is an offset in the arena, a multiple of headerBytes. The low bits
// that are free so say how often the entry was read since its segment's turn.
const (
	hitMask = 3
	offMask = ^uint64(headerBytes - 1)
)

// New returns a cache of at most so many bytes, rounded down to whole segments;
// nil for less than MinBytes.
func New(bytes int64) (*Cache, error) {
	if bytes < 0 || bytes > maxBytes {
		return nil, fmt.Errorf("hot: a cache has 0 to %d bytes, not %d", int64(maxBytes), bytes)
	}
	if bytes < MinBytes {
		return nil, nil
	}
	segBytes := smallSegment
	if bytes >= bigFrom {
		segBytes = bigSegment
	}
	arena, whole, err := mapArena(int(bytes) / segBytes * segBytes)
	if err != nil {
		return nil, err
	}
	return newCache(arena, segBytes, func() error { return unmapArena(whole) }), nil
}

func newCache(arena []byte, segBytes int, free func() error) *Cache {
	counters := minCounters
	for counters < len(arena)/bytesPerCounter {
		counters *= 2
	}
	return &Cache{
		seed: maphash.MakeSeed(), segBytes: segBytes, free: free, arena: arena, segs: make([]segment, len(arena)/segBytes),
		index: make(map[uint64]uint64), filling: make(map[uint64]struct{}), sketch: newSketch(counters),
	}
}

// Ref is bytes that stay as they are until Release.
type Ref struct {
	c   *Cache
	seg *segment
	p   []byte
}

// Bytes are read, never written. They are not to be touched after Release.
func (r *Ref) Bytes() []byte { return r.p }

// Release lets the bytes go; once for each Ref. A zero Ref has none.
func (r *Ref) Release() {
	if r.seg == nil {
		return
	}
	r.c.unpin(r.seg)
	*r = Ref{}
}

// unpin ends a reader. The last one of a closed cache gives the memory back.
func (c *Cache) unpin(s *segment) {
	// Close sets closed and then looks at the pins; here it is the other way
	// round, so one of the two sees that it is the last.
	if s.pins.Add(-1) == 0 && c.closed.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.giveBack()
	}
}

func (c *Cache) hash(k *Key) uint64 { return maphash.Comparable(c.seed, *k) }

// Get returns the bytes of k where they are held, and remembers that they were
// wanted.
func (c *Cache) Get(k Key) (Ref, bool) {
	if c == nil {
		return Ref{}, false
	}
	h := c.hash(&k)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sketch.add(h)
	place, ok := c.index[h]
	off := int(place & offMask)
	if !ok || !headerIs(c.arena[off:], &k) {
		c.misses.Add(1)
		return Ref{}, false
	}
	if place&hitMask < hitMask {
		c.index[h] = place + 1
	}
	c.hits.Add(1)
	return c.ref(off), true
}

// ref pins the entry at off. The lock is held.
func (c *Cache) ref(off int) Ref {
	s := &c.segs[off/c.segBytes]
	s.pins.Add(1)
	n := headerLen(c.arena[off:])
	at := off + headerBytes
	return Ref{c: c, seg: s, p: c.arena[at : at+n : at+n]}
}

// Slot is room for an entry that nobody sees before Publish.
type Slot struct {
	ref  Ref
	hash uint64
	off  int
}

// Bytes is the room, of the length reserved, to be filled.
func (s *Slot) Bytes() []byte { return s.ref.p }

// Reserve returns room for the n bytes of k, a part of an object of so many,
// where they are wanted often enough to be kept, and nobody else is about to
// bring them. It is to be called after a Get that found nothing. Publish or Drop
// follows.
func (c *Cache) Reserve(k Key, n int, object int64) (Slot, bool) {
	if c == nil || n <= 0 || room(n) > c.segBytes {
		return Slot{}, false
	}
	h := c.hash(&k)
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := c.sketch.estimate(h)
	if c.closed.Load() || wanted < wishes {
		return Slot{}, false
	}
	// Who reads more than there is room for from end to end gains nothing.
	if object > int64(len(c.arena)/2) && wanted < bigWishes {
		return Slot{}, false
	}
	if _, ok := c.filling[h]; ok {
		return Slot{}, false
	}
	if _, ok := c.index[h]; ok { // of k meanwhile, or of another key
		return Slot{}, false
	}
	if c.segs[c.cur].used+room(n) > c.segBytes && !c.turn(room(n), wanted) {
		return Slot{}, false
	}
	s := &c.segs[c.cur]
	off := c.cur*c.segBytes + s.used
	s.used += room(n)
	putHeader(c.arena[off:], &k, n, h)
	c.filling[h] = struct{}{}
	return Slot{ref: c.ref(off), hash: h, off: off}, true
}

// Publish makes what s was filled with an entry. The bytes must be verified.
// The Ref returned is to be released.
func (s *Slot) Publish() Ref {
	c := s.ref.c
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.filling, s.hash)
	if !c.closed.Load() {
		c.index[s.hash] = uint64(s.off)
		c.held.Add(int64(len(s.ref.p)))
	}
	return s.ref
}

// Drop gives the room up.
func (s *Slot) Drop() {
	c := s.ref.c
	c.mu.Lock()
	delete(c.filling, s.hash)
	c.mu.Unlock()
	s.ref.Release()
}

// turn makes a segment the current one that has room for need bytes, unless
// what is there is wanted as much as the newcomer. The lock is held.
func (c *Cache) turn(need, wanted int) bool {
	for range tries {
		next := c.next()
		if next < 0 {
			return false
		}
		c.hand = next
		if c.segs[next].used > 0 && wanted <= c.bar(next) {
			continue
		}
		c.recycle(next)
		c.cur = next
		if c.segs[next].used+need <= c.segBytes {
			return true
		}
	}
	return false
}

// next is the first segment after the hand that nobody reads; -1: none.
func (c *Cache) next() int {
	for i := 1; i <= len(c.segs); i++ {
		if n := (c.hand + i) % len(c.segs); c.segs[n].pins.Load() == 0 {
			return n
		}
	}
	return -1
}

// bar is a quarter and one more than what a segment's entries are wanted, on
// average: what takes their place shall be wanted clearly more.
func (c *Cache) bar(seg int) int {
	s := &c.segs[seg]
	if s.bar == 0 || s.barred != c.sketch.epoch {
		sum, n := 0, 0
		for off := range c.entries(seg) {
			sum += c.sketch.estimate(headerHash(c.arena[off:]))
			n++
		}
		s.bar, s.barred = 1, c.sketch.epoch
		if n > 0 {
			s.bar = sum/n + sum/n/4 + 1
		}
	}
	return s.bar
}

// entries are the places of a segment's entries that can be found, in order.
// Each may be moved down once it was seen.
func (c *Cache) entries(seg int) func(yield func(off int) bool) {
	return func(yield func(off int) bool) {
		start := seg * c.segBytes
		for off, end := start, start+c.segs[seg].used; off < end; {
			size := room(headerLen(c.arena[off:]))
			if place, ok := c.index[headerHash(c.arena[off:])]; ok && int(place&offMask) == off && !yield(off) {
				return
			}
			off += size
		}
	}
}

// recycle moves what was read to the front of the segment, which nobody reads
// now, and forgets the rest.
func (c *Cache) recycle(seg int) {
	c.segs[seg].bar = 0
	to := seg * c.segBytes
	for off := range c.entries(seg) {
		b := c.arena[off:]
		h, n := headerHash(b), headerLen(b)
		place := c.index[h]
		if place&hitMask == 0 {
			delete(c.index, h)
			c.held.Add(-int64(n))
			continue
		}
		if to != off {
			copy(c.arena[to:], b[:headerBytes+n])
		}
		c.index[h] = uint64(to) | (place&hitMask - 1)
		to += room(n)
	}
	c.segs[seg].used = to - seg*c.segBytes
}

// Stats are hits and misses since New, and the bytes held now, without what
// their keeping takes.
type Stats struct{ Hits, Misses, Bytes int64 }

// Stats may be called at any time.
func (c *Cache) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	return Stats{Hits: c.hits.Load(), Misses: c.misses.Load(), Bytes: c.held.Load()}
}

// Close forgets all entries. The memory is given back once the last Ref is
// released.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed.Store(true)
	clear(c.index)
	c.held.Store(0)
	return c.giveBack()
}

// giveBack unmaps the arena once nobody is in it. The lock is held.
func (c *Cache) giveBack() error {
	if c.freed {
		return nil
	}
	for i := range c.segs {
		if c.segs[i].pins.Load() > 0 {
			return nil
		}
	}
	c.freed, c.arena = true, nil
	if err := c.free(); err != nil {
		return errors.Join(errors.New("hot: unmap"), err)
	}
	return nil
}
