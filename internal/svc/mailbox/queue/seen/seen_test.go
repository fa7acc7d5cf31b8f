// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seen

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

const window = 300_000

func print(i int) uint64 { return Fingerprint(strconv.AppendInt(nil, int64(i), 10)) }

// TestManyKeys adds enough for pages to grow, split and drop what is over, with
// snapshots meanwhile, beside a map.
func TestManyKeys(t *testing.T) {
	var tb Table
	type key struct {
		print uint64
		at    uint64
		time  record.Time
	}
	var all []key
	var frozen []*Table
	var frozenAt []int
	rng := rand.New(rand.NewPCG(1, 2))
	now := record.Time(1)
	for i := range 60_000 {
		now += record.Time(rng.IntN(20))
		at := uint64(i+1) << 3
		tb.Add(print(i), at, now, window)
		all = append(all, key{print(i), at, now})
		if i%7919 == 0 {
			frozen = append(frozen, tb.Freeze())
			frozenAt = append(frozenAt, i)
		}
		if i%997 == 0 {
			j := rng.IntN(i + 1)
			k := &all[j]
			if moved := tb.Replace(k.print, k.at, at+1, now, window); moved != (now-k.time < window) && now-k.time > window+window/marksIn {
				t.Fatalf("key of %d ms ago: moved %v", now-k.time, moved)
			} else if moved {
				k.at, k.time = at+1, now
			}
		}
	}
	for _, k := range all {
		got := tb.Find(k.print, now, window, nil)
		switch age := int64(now - k.time); {
		case age < window && !slices.Equal(got, []uint64{k.at}):
			t.Fatalf("a key of %d ms ago is at %v, not at %d", age, got, k.at)
		case age > window+window/marksIn && len(got) > 0:
			t.Fatalf("a key of %d ms ago is still known", age)
		}
	}
	if tb.depth == 0 {
		t.Error("no page was split")
	}
	slots := 0
	last := (*page)(nil)
	for _, p := range tb.dir {
		if p != last {
			slots += len(p.slots)
		}
		last = p
	}
	if keys := tb.Keys(now, window); keys < 20_000 || int64(slots) > 4*keys {
		t.Errorf("room for %d keys, %d are remembered", slots, keys)
	}
	for i, f := range frozen {
		n := frozenAt[i]
		if !slices.Equal(f.Find(print(n), f.marks[len(f.marks)-1].Last, window, nil), []uint64{uint64(n+1) << 3}) {
			t.Errorf("the table frozen after %d keys does not know the last", n)
		}
		if n+1 < len(all) && len(f.Find(print(n+1), f.marks[len(f.marks)-1].Last, window, nil)) > 0 {
			t.Errorf("the table frozen after %d keys knows the next", n)
		}
	}
	var back Table
	back.Load(tb.Marks())
	tb.Each(func(print, at uint64) {
		if !back.LoadKey(print, at) {
			t.Fatal("a key is not taken back")
		}
	})
	if !maps.Equal(content(&tb), content(&back)) || back.Keys(now, window) != tb.Keys(now, window) {
		t.Error("the table read back is another")
	}
}

func content(t *Table) map[entry]int {
	m := map[entry]int{}
	t.Each(func(print, at uint64) { m[entry{print, at}]++ })
	return m
}

// TestSameFingerprint: keys that nobody can tell apart are all found; so are very many that begin alike.
func TestSameFingerprint(t *testing.T) {
	var tb Table
	tb.Add(5, 8, 1, window)
	tb.Add(5, 16, 2, window)
	if got := tb.Find(5, 2, window, nil); !slices.Equal(got, []uint64{8, 16}) {
		t.Errorf("%v", got)
	}
	for i := range uint64(3 * maxPage) {
		tb.Add(7<<50|i, 24+i*8, 3, window)
	}
	for i := range uint64(3 * maxPage) {
		if got := tb.Find(7<<50|i, 3, window, nil); len(got) != 1 || got[0] != 24+i*8 {
			t.Fatalf("key %d: %v", i, got)
		}
	}
	if len(tb.dir) > 1<<maxDepth {
		t.Error("the directory grows without end")
	}
}

// TestWindow: to the millisecond for a lone key; then its memory is given back.
func TestWindow(t *testing.T) {
	var tb Table
	tb.Add(1, 8, 100, window)
	if len(tb.Find(1, 100+window-1, window, nil)) != 1 || len(tb.Find(1, 100+window, window, nil)) != 0 {
		t.Error("a lone key is not known for the window")
	}
	if tb.Room(100, window) != 100+window || tb.Keys(100+window, window) != 0 {
		t.Error("when there is room")
	}
	if tb.Forget(100+window-1, window); len(tb.dir) == 0 {
		t.Error("forgotten too early")
	}
	if tb.Forget(100+window, window); len(tb.dir) != 0 {
		t.Error("not forgotten")
	}
	if got := tb.In(0, 100, window, nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	var tb Table
	b.ReportAllocs()
	for i := range b.N {
		tb.Add(uint64(i)*0x9e3779b97f4a7c15, uint64(i+1)<<3, record.Time(i/50), window)
	}
}
