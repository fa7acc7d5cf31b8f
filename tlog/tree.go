// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// LeafHash is of an entry: SHA-256 of a zero byte and the entry.
func LeafHash(entry []byte) Hash { return tlog.RecordHash(entry) }

// EmptyRoot is the root of a tree without entries.
var EmptyRoot = Hash(sha256.Sum256(nil))

// Frontier is the right edge of a tree: what must be remembered of it to grow it
// and to know its root. Its memory is that of 48 hashes at most. The zero value is the
// empty tree.
type Frontier struct {
	size uint64
	// peaks are the roots of the perfect subtrees that size is made of, the largest first.
	peaks []Hash
}

// NewFrontier returns the edge of a tree of this size, whose perfect subtrees
// have these roots, the largest first.
func NewFrontier(size uint64, peaks []Hash) (*Frontier, error) {
	if size > MaxTreeSize || len(peaks) != bits.OnesCount64(size) {
		return nil, fmt.Errorf("%w: %d hashes for the edge of %d entries", ErrInvalid, len(peaks), size)
	}
	return &Frontier{size, append([]Hash(nil), peaks...)}, nil
}

// Size is how many entries the tree has.
func (f *Frontier) Size() uint64 { return f.size }

// Peaks are the roots of the tree's perfect subtrees, the largest first.
func (f *Frontier) Peaks() []Hash { return append([]Hash(nil), f.peaks...) }

// Add appends an entry's leaf hash. complete, if not nil, is called for every
// subtree that it completes, from the leaf on: its level, its index there, its root.
func (f *Frontier) Add(leaf Hash, complete func(level int, index uint64, h Hash)) {
	h, level := leaf, 0
	for n := f.size; ; n >>= 1 {
		if complete != nil {
			complete(level, n, h)
		}
		if n&1 == 0 {
			break
		}
		h = tlog.NodeHash(f.peaks[len(f.peaks)-1], h)
		f.peaks = f.peaks[:len(f.peaks)-1]
		level++
	}
	f.peaks = append(f.peaks, h)
	f.size++
}

// addPerfect appends a perfect subtree of this level, at a place for one.
func (f *Frontier) addPerfect(level int, h Hash) {
	for n := f.size >> level; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(f.peaks[len(f.peaks)-1], h)
		f.peaks = f.peaks[:len(f.peaks)-1]
	}
	f.peaks = append(f.peaks, h)
	f.size += 1 << level
}

// perfect is the root of a perfect subtree of these leaves, a power of two, which
// are lost.
func perfect(leaves []Hash) Hash {
	for n := len(leaves); n > 1; n /= 2 {
		for i := range n / 2 {
			leaves[i] = tlog.NodeHash(leaves[2*i], leaves[2*i+1])
		}
	}
	return leaves[0]
}

// Root is the tree's root hash.
func (f *Frontier) Root() Hash {
	if f.size == 0 {
		return EmptyRoot
	}
	h := f.peaks[len(f.peaks)-1]
	for i := len(f.peaks) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.peaks[i], h)
	}
	return h
}

// Tiles reads the tiles of a log. Their bytes are not trusted.
type Tiles interface {
	// ReadTile returns Width hashes of 32 bytes. The tile is within the tree.
	ReadTile(t Tile) ([]byte, error)
}

// inner are the hashes in a tile by level: those that it holds, and those of the
// perfect subtrees above them, to the tile's root where it is full.
type inner [tileBits + 1][]Hash

// expand computes what lies above the hashes of a tile.
func expand(data []byte) *inner {
	t := &inner{make([]Hash, len(data)/tlog.HashSize)}
	for i := range t[0] {
		copy(t[0][i][:], data[i*tlog.HashSize:])
	}
	for level := 1; level < len(t); level++ {
		below := t[level-1]
		t[level] = make([]Hash, len(below)/2)
		for i := range t[level] {
			t[level][i] = tlog.NodeHash(below[2*i], below[2*i+1])
		}
	}
	return t
}

// Cached are Tiles of which those above the leaves are kept once they were read: proofs
// all over a log need few of them, again and again. It is for logs that only grow, and
// safe for use by many.
type Cached struct {
	Tiles
	mu   sync.Mutex
	kept map[Tile]*inner
}

// maxCached bounds the tiles that are kept: 16 KiB each.
const maxCached = 1024

// NewCached returns tiles with nothing kept yet.
func NewCached(tiles Tiles) *Cached { return &Cached{Tiles: tiles, kept: map[Tile]*inner{}} }

func (c *Cached) get(name Tile) *inner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[name]
}

func (c *Cached) put(name Tile, t *inner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.kept {
		if len(c.kept) < maxCached {
			break
		}
		delete(c.kept, old) // any
	}
	c.kept[name] = t
}

// reader reads the hashes that proofs are made of.
type reader struct {
	size   uint64
	tiles  Tiles
	cached *Cached // nil: none
	kept   map[Tile]*inner
}

// tile is the one with this name.
func (r *reader) tile(name Tile) (*inner, error) {
	if t, ok := r.kept[name]; ok {
		return t, nil
	}
	caches := r.cached != nil && name.Level > 0
	if caches {
		if t := r.cached.get(name); t != nil {
			return t, nil
		}
	}
	data, err := r.tiles.ReadTile(name)
	if err != nil {
		return nil, err
	}
	if len(data) != name.Width*tlog.HashSize {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrTile, name.Path(), len(data))
	}
	t := expand(data)
	r.kept[name] = t
	if caches {
		r.cached.put(name, t)
	}
	return t, nil
}

// ReadHashes implements the reader of golang.org/x/mod's proofs.
func (r *reader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		up := level % tileBits
		index := uint64(n) >> (tileBits - up) //nolint:gosec // of a tree within MaxTreeSize
		at := n - int64(index)<<(tileBits-up) //nolint:gosec // the same
		name := Tile{Level: level / tileBits, Index: index, Width: WidthIn(r.size, level/tileBits, index)}
		if at >= int64(name.Width>>up) {
			return nil, fmt.Errorf("%w: hash %d of level %d is outside a tree of %d", ErrTile, n, level, r.size)
		}
		t, err := r.tile(name)
		if err != nil {
			return nil, err
		}
		out[i] = t[up][at]
	}
	return out, nil
}

func newReader(size uint64, tiles Tiles) *reader {
	c, _ := tiles.(*Cached)
	return &reader{size, tiles, c, map[Tile]*inner{}}
}

// RootOf computes the root of a tree of this size from its tiles.
func RootOf(size uint64, tiles Tiles) (Hash, error) {
	if size == 0 {
		return EmptyRoot, nil
	}
	return tlog.TreeHash(int64(size), newReader(size, tiles)) //nolint:gosec // within MaxTreeSize
}

// EdgeOf reads the edge of a tree of this size from its tiles.
func EdgeOf(size uint64, tiles Tiles) (*Frontier, error) {
	if size > MaxTreeSize {
		return nil, fmt.Errorf("%w: %d entries", ErrInvalid, size)
	}
	var indexes []int64
	for at, left := uint64(0), size; left > 0; {
		level := bits.Len64(left) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, int64(at>>level))) //nolint:gosec // within MaxTreeSize
		at += 1 << level
		left &^= 1 << level
	}
	peaks, err := newReader(size, tiles).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	return NewFrontier(size, peaks)
}
