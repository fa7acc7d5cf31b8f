// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// forest is a log in memory: its tiles, and its root at every size.
type forest struct {
	front  Frontier
	levels map[Tile][]byte // without width: as wide as they came
	roots  []Hash
}

func newForest() *forest {
	return &forest{levels: map[Tile][]byte{}, roots: []Hash{EmptyRoot}}
}

func (f *forest) add(entry []byte) {
	f.front.Add(LeafHash(entry), func(level int, n uint64, h Hash) {
		if level%tileBits == 0 {
			t := Tile{Level: level / tileBits, Index: n / TileWidth}
			f.levels[t] = append(f.levels[t], h[:]...)
		}
	})
	f.roots = append(f.roots, f.front.Root())
}

func (f *forest) ReadTile(t Tile) ([]byte, error) {
	data := f.levels[Tile{Level: t.Level, Index: t.Index}]
	if len(data) < t.Width*len(Hash{}) {
		return nil, fmt.Errorf("%w: %s is not there", ErrTile, t.Path())
	}
	return data[:t.Width*len(Hash{})], nil
}

func (f *forest) at(size uint64) Checkpoint {
	return Checkpoint{"log.example", size, f.roots[size]}
}

func entryOf(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

// TestTreeAgainstReference: roots are those of the reference implementation, which
// keeps every hash.
func TestTreeAgainstReference(t *testing.T) {
	var hashes []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = hashes[x]
		}
		return out, nil
	})
	f := newForest()
	for i := range 700 {
		more, err := tlog.StoredHashes(int64(i), entryOf(i), read)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
		f.add(entryOf(i))
		want, err := tlog.TreeHash(int64(i+1), read)
		if err != nil || f.front.Root() != want || f.front.Size() != uint64(i+1) {
			t.Fatalf("size %d: %v, root %v, not %v", i+1, err, f.front.Root(), want)
		}
	}
	for _, size := range []uint64{0, 1, 2, 255, 256, 257, 511, 512, 699, 700} {
		if got, err := RootOf(size, f); err != nil || got != f.roots[size] {
			t.Errorf("root of %d from tiles: %v", size, err)
		}
		edge, err := EdgeOf(size, f)
		if err != nil || edge.Root() != f.roots[size] || edge.Size() != size {
			t.Errorf("edge of %d from tiles: %v", size, err)
		}
	}
	if _, err := RootOf(701, f); err == nil {
		t.Error("a root of more than there is")
	}
}

// TestProofs: every proof holds for what it is of and for nothing else.
func TestProofs(t *testing.T) {
	f := newForest()
	const n = 600
	for i := range n {
		f.add(entryOf(i))
	}
	rapid.Check(t, func(r *rapid.T) {
		newer := rapid.Uint64Range(1, n).Draw(r, "newer")
		older := rapid.Uint64Range(0, newer).Draw(r, "older")
		seq := rapid.Uint64Range(0, newer-1).Draw(r, "seq")
		in, err := ProveInclusion(seq, newer, f)
		if err != nil || in.Check(f.at(newer), entryOf(int(seq))) != nil {
			r.Fatalf("entry %d in %d: %v", seq, newer, err)
		}
		if in.Check(f.at(newer), entryOf(int(seq)+1)) == nil {
			r.Fatal("another entry has the proof")
		}
		c, err := ProveConsistency(older, newer, f)
		if err != nil || c.Check(f.at(older), f.at(newer)) != nil {
			r.Fatalf("%d and %d: %v", older, newer, err)
		}
		lie := f.at(newer)
		lie.Root[7] ^= 1
		if in.Check(lie, entryOf(int(seq))) == nil || c.Check(f.at(older), lie) == nil && older > 0 {
			r.Fatal("a proof holds for another tree")
		}
		if older > 0 {
			lie = f.at(older)
			lie.Root[7] ^= 1
			if c.Check(lie, f.at(newer)) == nil {
				r.Fatal("a tree extends another that it does not begin with")
			}
		}
		if len(in.Path) > 0 {
			in.Path[0][0] ^= 1
			if in.Check(f.at(newer), entryOf(int(seq))) == nil {
				r.Fatal("a bad proof holds")
			}
		}
	})
	if _, err := ProveInclusion(n, n, f); !errors.Is(err, ErrProof) {
		t.Error(err)
	}
	if _, err := ProveConsistency(n, 3, f); !errors.Is(err, ErrProof) {
		t.Error(err)
	}
	zero := Consistency{Old: 0, New: 5}
	if zero.Check(Checkpoint{Size: 0, Root: f.roots[3]}, f.at(5)) == nil {
		t.Error("an empty tree may have any root")
	}
	same := Consistency{Old: 5, New: 5}
	if same.Check(f.at(5), Checkpoint{Size: 5, Root: f.roots[4]}) == nil {
		t.Error("two trees of one size")
	}
}

func TestTilePaths(t *testing.T) {
	for _, c := range []struct {
		t    Tile
		path string
	}{
		{Tile{Level: 0, Index: 0, Width: 256}, "tile/0/000"},
		{Tile{Level: 2, Index: 1234067, Width: 256}, "tile/2/x001/x234/067"},
		{Tile{Level: 0, Index: 1000, Width: 7}, "tile/0/x001/000.p/7"},
		{Tile{Entries: true, Index: 273, Width: 112}, "tile/entries/273.p/112"},
		{Tile{Level: 63, Index: 999, Width: 1}, "tile/63/999.p/1"},
	} {
		if c.t.Path() != c.path {
			t.Errorf("%+v is %s", c.t, c.t.Path())
		}
		level := c.path[5:]
		for i := range level {
			if level[i] == '/' {
				got, err := ParseTile(level[:i], level[i+1:])
				if err != nil || got != c.t {
					t.Errorf("%s: %+v, %v", c.path, got, err)
				}
				break
			}
		}
	}
	for _, c := range [][2]string{
		{"00", "000"}, {"64", "000"}, {"-1", "000"}, {"x", "000"}, {"0", ""}, {"0", "0"}, {"0", "00"}, {"0", "0000"}, {"0", "x000/001"}, {"0", "001/001"},
		{"0", "x001"}, {"0", "000.p/0"}, {"0", "000.p/256"}, {"0", "000.p/01"}, {"0", "000.p/"}, {"0", "000.p/1/2"}, {"0", "../000"}, {"0", "x1000/000"}, {"0", "xx01/000"},
		{"0", "x999/x999/x999/x999/x999/999"}, {"0", "+01"}, {"Entries", "000"},
	} {
		if got, err := ParseTile(c[0], c[1]); !errors.Is(err, ErrTile) {
			t.Errorf("%q %q: %+v, %v", c[0], c[1], got, err)
		}
	}
	// The example of the format: 70 000 entries.
	for _, c := range []struct {
		level int
		index uint64
		want  int
	}{{0, 272, 256}, {0, 273, 112}, {0, 274, 0}, {1, 0, 256}, {1, 1, 17}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}, {3, 0, 0}, {63, 0, 0}} {
		if got := WidthIn(70000, c.level, c.index); got != c.want {
			t.Errorf("tile %d/%d is %d wide", c.level, c.index, got)
		}
	}
}

func TestBundles(t *testing.T) {
	var b []byte
	for i := range 3 {
		b = AppendEntry(b, entryOf(i))
	}
	got, err := SplitBundle(b)
	if err != nil || len(got) != 3 || string(got[2]) != "entry 2" {
		t.Fatalf("%d: %v", len(got), err)
	}
	for cut := 1; cut < len(b); cut++ {
		if got, err := SplitBundle(b[:cut]); err == nil && cut%9 != 0 {
			t.Errorf("cut at %d: %d entries", cut, len(got))
		}
	}
	for range 254 {
		b = AppendEntry(b, nil)
	}
	if _, err := SplitBundle(b); err == nil {
		t.Error("a bundle of 257")
	}
}

func FuzzTile(f *testing.F) {
	f.Add("0", "x001/234.p/5")
	f.Add("entries", "000")
	f.Fuzz(func(t *testing.T, level, rest string) {
		if tile, err := ParseTile(level, rest); err == nil && tile.Path() != "tile/"+level+"/"+rest {
			t.Errorf("%q %q is %+v, and that %s", level, rest, tile, tile.Path())
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add(AppendEntry(nil, []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := SplitBundle(b)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = AppendEntry(again, e)
		}
		if string(again) != string(b) {
			t.Error("another bundle")
		}
	})
}
