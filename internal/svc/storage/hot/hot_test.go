// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package hot

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// onHeap is a cache whose arena the race detector sees.
func onHeap(segments, segBytes int) *Cache {
	return newCache(make([]byte, segments*segBytes), segBytes, func() error { return nil })
}

func key(tenant byte, object uint32, piece uint32) Key {
	k := Key{Tenant: macronode.TenantID{tenant}, Piece: piece}
	binary.LittleEndian.PutUint32(k.Addr[:], object)
	return k
}

// content is what the bytes of k are: no two keys share theirs.
func content(k Key, n int) []byte {
	b := make([]byte, n)
	id := append(append(append([]byte{}, k.Tenant[:2]...), k.Addr[:4]...), byte(k.Piece), byte(k.Piece>>8))
	for i := range b {
		b[i] = id[i%len(id)] ^ byte(i/len(id))
	}
	return b
}

// fetch reads k as a user of the cache does, and reports whether it was held.
func fetch(tb testing.TB, c *Cache, k Key, n int) (hit bool) {
	tb.Helper()
	r, hit := c.Get(k)
	if !hit {
		s, ok := c.Reserve(k, n, int64(n))
		if !ok {
			return false
		}
		copy(s.Bytes(), content(k, n))
		r = s.Publish()
	}
	if !bytes.Equal(r.Bytes(), content(k, n)) {
		tb.Fatalf("other bytes for %v", k)
	}
	r.Release()
	return hit
}

func TestSecondWish(t *testing.T) {
	c, err := New(MinBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := key(1, 1, 0)
	for i, want := range []bool{false, false, true, true} {
		if hit := fetch(t, c, k, 1000); hit != want {
			t.Errorf("read %d: held is %v", i, hit)
		}
	}
	if s := c.Stats(); s != (Stats{Hits: 2, Misses: 2, Bytes: 1000}) {
		t.Errorf("%+v", s)
	}
	// Another tenant's read of the same address is a first one.
	if fetch(t, c, key(2, 1, 0), 1000) {
		t.Error("held for another tenant")
	}
}

func TestOff(t *testing.T) {
	c, err := New(0)
	if c != nil || err != nil {
		t.Fatal(c, err)
	}
	for range 3 {
		if fetch(t, c, key(1, 1, 0), 10) {
			t.Error("held by no cache")
		}
	}
	if c.Stats() != (Stats{}) || c.Close() != nil {
		t.Error("no cache has something")
	}
	if c, err := New(MinBytes - 1); c != nil || err != nil {
		t.Error(c, err)
	}
	for _, n := range []int64{maxBytes + 1, -1} {
		if _, err := New(n); err == nil {
			t.Errorf("a cache of %d bytes", n)
		}
	}
}

// A long read that happens once leaves the cache, and the memory, as they were.
func TestScanPassesBy(t *testing.T) {
	c := onHeap(8, 64<<10)
	const n = 4 << 10
	for range 4 {
		for i := range uint32(100) {
			fetch(t, c, key(1, i, 0), n)
		}
	}
	held := c.Stats().Bytes
	if held != 100*n {
		t.Fatalf("%d bytes held", held)
	}
	for i := range uint32(400) {
		fetch(t, c, key(1, 1<<20, i), n)
	}
	for i := range uint32(100) {
		r, ok := c.Get(key(1, i, 0))
		if !ok {
			t.Errorf("object %d went", i)
		}
		r.Release()
	}
}

// Pieces of what the cache has no room for have to be wanted more often.
func TestBigObject(t *testing.T) {
	c := onHeap(8, 64<<10)
	for _, k := range []struct {
		object int64
		piece  uint32
		want   int // the wish that brings it in
	}{{256 << 10, 0, wishes}, {256<<10 + 1, 1, bigWishes}} {
		for wish := 1; wish <= bigWishes; wish++ {
			if _, ok := c.Get(key(1, 1, k.piece)); ok {
				t.Fatal("held")
			}
			s, ok := c.Reserve(key(1, 1, k.piece), 4<<10, k.object)
			if ok != (wish >= k.want) {
				t.Errorf("of %d bytes, wish %d: %v", k.object, wish, ok)
			}
			if ok {
				s.Drop()
			}
		}
	}
}

// What is wanted more takes the place of what was wanted once.
func TestChange(t *testing.T) {
	c := onHeap(8, 64<<10)
	for range 3 {
		for i := range uint32(200) {
			fetch(t, c, key(1, i, 0), 4<<10)
		}
	}
	hits := 0
	for range 60 {
		for i := range uint32(100) {
			if fetch(t, c, key(2, i, 0), 4<<10) {
				hits++
			}
		}
	}
	if hits < 3000 {
		t.Errorf("%d hits of 6000", hits)
	}
	if held := c.Stats().Bytes; held > 8*64<<10 {
		t.Errorf("%d bytes held", held)
	}
}

// Bytes stay under a reader however much comes after it, and the segment is
// used again once the reader is gone.
func TestPinned(t *testing.T) {
	c := onHeap(3, 16<<10)
	k := key(1, 1, 0)
	fetch(t, c, k, 8<<10)
	fetch(t, c, k, 8<<10)
	r, ok := c.Get(k)
	if !ok {
		t.Fatal("not held")
	}
	want := content(k, 8<<10)
	round := uint32(0)
	churn := func() (hits int) {
		round++
		for i := range uint32(100) {
			for range 5 * round {
				if fetch(t, c, key(2, round<<16+i, 0), 8<<10) {
					hits++
				}
			}
		}
		return hits
	}
	if churn() == 0 {
		t.Error("one reader keeps everybody out")
	}
	if !bytes.Equal(r.Bytes(), want) {
		t.Fatal("the bytes changed under a reader")
	}
	r.Release()
	churn()
	churn()
	if _, ok := c.Get(k); ok {
		t.Error("the segment was never recycled")
	}
}

// With a reader in every segment nothing is admitted, and all goes on.
func TestAllPinned(t *testing.T) {
	c := onHeap(2, 16<<10)
	var refs []Ref
	for i := range uint32(2) {
		k := key(1, i, 0)
		fetch(t, c, k, 15<<10)
		fetch(t, c, k, 15<<10)
		r, ok := c.Get(k)
		if !ok {
			t.Fatal("not held")
		}
		refs = append(refs, r)
	}
	for range 50 {
		fetch(t, c, key(2, 1, 0), 15<<10)
	}
	if _, ok := c.Get(key(2, 1, 0)); ok {
		t.Error("admitted over a reader")
	}
	for i := range refs {
		refs[i].Release()
		refs[i].Release() // does nothing
	}
	for range 50 {
		fetch(t, c, key(2, 1, 0), 15<<10)
	}
	if _, ok := c.Get(key(2, 1, 0)); !ok {
		t.Error("not admitted once the readers were gone")
	}
}

// A slot is invisible until it is published, given to one alone, and free again
// once dropped.
func TestSlot(t *testing.T) {
	c := onHeap(2, 16<<10)
	k := key(1, 1, 0)
	c.Get(k)
	c.Get(k)
	s, ok := c.Reserve(k, 100, int64(100))
	if !ok || len(s.Bytes()) != 100 {
		t.Fatal("no room")
	}
	if _, ok := c.Reserve(k, 100, int64(100)); ok {
		t.Error("two are to bring the same")
	}
	if _, ok := c.Get(k); ok {
		t.Error("seen before it was published")
	}
	s.Drop()
	if s, ok = c.Reserve(k, 100, int64(100)); !ok {
		t.Fatal("no room after a drop")
	}
	copy(s.Bytes(), content(k, 100))
	r := s.Publish()
	r.Release()
	if !fetch(t, c, k, 100) {
		t.Error("not held")
	}
	if _, ok := c.Reserve(k, 100, int64(100)); ok {
		t.Error("room for what is held")
	}
	for range 3 {
		c.Get(key(1, 2, 0))
	}
	for _, n := range []int{0, -1, 16 << 10} {
		if _, ok := c.Reserve(key(1, 2, 0), n, int64(n)); ok {
			t.Errorf("room for %d bytes", n)
		}
	}
}

// Close waits for nobody; the memory goes with the last reader.
func TestClose(t *testing.T) {
	freed := 0
	c := newCache(make([]byte, 64<<10), 16<<10, func() error { freed++; return nil })
	k := key(1, 1, 0)
	fetch(t, c, k, 100)
	fetch(t, c, k, 100)
	r, _ := c.Get(k)
	c.Get(key(1, 2, 0))
	c.Get(key(1, 2, 0))
	s, ok := c.Reserve(key(1, 2, 0), 100, int64(100))
	if !ok {
		t.Fatal("no room")
	}
	if err := c.Close(); err != nil || freed != 0 {
		t.Fatal(err, freed)
	}
	if _, ok := c.Get(k); ok {
		t.Error("held after the end")
	}
	if !bytes.Equal(r.Bytes(), content(k, 100)) {
		t.Error("the bytes changed")
	}
	r.Release()
	if freed != 0 {
		t.Error("freed under a slot")
	}
	late := s.Publish()
	late.Release()
	if freed != 1 || c.Stats().Bytes != 0 {
		t.Errorf("freed %d times, %d bytes held", freed, c.Stats().Bytes)
	}
	if err := c.Close(); err != nil || freed != 1 {
		t.Error(err, freed)
	}
}

// Whatever is done in whatever order: what the cache gives is what was
// published under that key, of the length it had, for as long as it is held; it
// never holds more than it has, and knows how much that is.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := onHeap(rapid.IntRange(1, 5).Draw(t, "segments"), 4<<10)
		size := func(k Key) int { return 1 + int(k.Addr[0])*97%(4<<10-headerBytes) }
		published := map[Key]bool{}
		type reader struct {
			k Key
			r Ref
		}
		var readers []reader
		keys := rapid.Custom(func(t *rapid.T) Key {
			return key(byte(rapid.IntRange(1, 2).Draw(t, "tenant")), uint32(rapid.IntRange(0, 30).Draw(t, "object")), uint32(rapid.IntRange(0, 1).Draw(t, "piece")))
		})
		check := func(t *rapid.T) {
			for _, rd := range readers {
				if !bytes.Equal(rd.r.Bytes(), content(rd.k, size(rd.k))) {
					t.Fatalf("the bytes of %v changed under a reader", rd.k)
				}
			}
			var held int64
			for h, place := range c.index {
				b := c.arena[place&offMask:]
				if headerHash(b) != h {
					t.Fatal("the index points elsewhere")
				}
				held += int64(headerLen(b))
			}
			if got := c.Stats().Bytes; got != held {
				t.Fatalf("%d bytes held, %d said", held, got)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"get": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				r, ok := c.Get(k)
				if ok && !published[k] {
					t.Fatalf("%v was never published", k)
				}
				if ok {
					readers = append(readers, reader{k, r})
				}
			},
			"bring": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				for range rapid.IntRange(1, 6).Draw(t, "wishes") {
					if r, ok := c.Get(k); ok {
						r.Release()
						return
					}
				}
				s, ok := c.Reserve(k, size(k), int64(size(k)))
				if !ok {
					return
				}
				copy(s.Bytes(), content(k, size(k)))
				if rapid.IntRange(0, 9).Draw(t, "drop") == 0 {
					s.Drop()
					return
				}
				published[k] = true
				readers = append(readers, reader{k, s.Publish()})
			},
			"release": func(t *rapid.T) {
				if len(readers) == 0 {
					return
				}
				i := rapid.IntRange(0, len(readers)-1).Draw(t, "reader")
				readers[i].r.Release()
				readers = append(readers[:i], readers[i+1:]...)
			},
		})
	})
}

// Readers and writers at once, on memory that the race detector watches.
func TestAtOnce(t *testing.T) {
	c := onHeap(4, 16<<10)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 3000 {
				k := key(1, uint32(rnd.ExpFloat64()*8), 0)
				n := 500 + int(k.Addr[0])*100
				fetch(t, c, k, n)
				c.Stats()
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Hits == 0 || s.Misses == 0 {
		t.Errorf("%+v", s)
	}
	for i := range c.segs {
		if c.segs[i].pins.Load() != 0 {
			t.Error("a pin was left")
		}
	}
}

func TestSketch(t *testing.T) {
	s := newSketch(64)
	h := uint64(5) | 9<<32
	for range 10 {
		s.add(h)
	}
	if got := s.estimate(h); got != 10 {
		t.Errorf("estimate %d of 10", got)
	}
	for i := range uint64(agePerCounter * 64) {
		s.add((i%20 + 20) | (i%17+40)<<32)
	}
	if got := s.estimate(h); s.epoch == 0 || got != 5 {
		t.Errorf("estimate %d after %d halvings", got, s.epoch)
	}
	for range 600 {
		s.add(h)
	}
	if got := s.estimate(h); got > 255 {
		t.Errorf("estimate %d", got)
	}
}

var sink byte

func BenchmarkGet(b *testing.B) {
	c, err := New(64 << 20)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		for i := range uint32(1000) {
			fetch(b, c, key(1, i, 0), 1<<10)
		}
	}
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		r, ok := c.Get(key(1, i%1000, 0))
		if !ok {
			b.Fatal("not held")
		}
		sink = r.Bytes()[0]
		r.Release()
		i++
	}
}

// A miss that is not admitted, and one that is.
func BenchmarkMiss(b *testing.B) {
	c := onHeap(16, 256<<10)
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		if _, ok := c.Get(key(1, i, 0)); ok {
			b.Fatal("held")
		}
		c.Reserve(key(1, i, 0), 1<<10, int64(1<<10))
		i++
	}
}

func TestNoAllocation(t *testing.T) {
	c := onHeap(4, 64<<10)
	k := Key{Tenant: macronode.TenantID{1}, Addr: b3.Addr{2}}
	fetch(t, c, k, 1000)
	fetch(t, c, k, 1000)
	if n := testing.AllocsPerRun(100, func() {
		r, _ := c.Get(k)
		sink = r.Bytes()[0]
		r.Release()
	}); n != 0 {
		t.Errorf("%v allocations a hit", n)
	}
}

// Newcomers that are wanted no more than what is there stay outside, also where
// they are wanted more than once.
func TestBar(t *testing.T) {
	c := onHeap(4, 16<<10)
	for range 12 {
		for i := range uint32(12) {
			fetch(t, c, key(1, i, 0), 4<<10)
		}
	}
	for range 6 {
		for i := range uint32(50) {
			if fetch(t, c, key(2, i, 0), 4<<10) && i > 3 {
				t.Errorf("object %d came in", i)
			}
		}
	}
	for i := range uint32(12) {
		if !fetch(t, c, key(1, i, 0), 4<<10) {
			t.Errorf("object %d went", i)
		}
	}
	// What a segment's entries are wanted is found anew for other entries.
	before := c.bar(0)
	for range 4 { // until nothing in it was read since
		c.recycle(0)
	}
	c.cur = 0
	for range wishes {
		fetch(t, c, key(3, 1, 0), 4<<10)
	}
	if after := c.bar(0); after >= before {
		t.Errorf("the bar was %d and is %d", before, after)
	}
}

// Of two keys of one hash the second is not the first.
func TestCollision(t *testing.T) {
	c := onHeap(2, 16<<10)
	one, two := key(1, 1, 0), key(2, 1, 0)
	for range wishes {
		fetch(t, c, one, 100)
	}
	c.index[c.hash(&two)] = c.index[c.hash(&one)]
	if _, ok := c.Get(two); ok {
		t.Error("another tenant's bytes")
	}
	for range 3 {
		c.Get(two)
		if _, ok := c.Reserve(two, 100, 100); ok {
			t.Error("room for a second of the same hash")
		}
	}
}
