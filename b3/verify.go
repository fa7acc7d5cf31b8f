// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
	"sync/atomic"

	"lukechampine.com/blake3/guts"
)

// ErrMismatch says that bytes, or the tree beside them, do not belong to the
// address.
var ErrMismatch = errors.New("b3: bytes do not match the address")

// A tile is the subtree above 64 groups (1 MiB): its parents stand together in
// the tree, in less than a page, and are read at once. Each is verified when it
// is first needed.
const (
	tileLog    = 6
	tileGroups = 1 << tileLog
)

// Bounds of what a Verifier remembers: some 32 KiB of tiles and 32 KiB of parents
// above tiles.
const (
	keepTiles   = 8
	keepParents = 256
)

// Verifier checks groups of an object against its address by means of its
// outboard tree. It reads one tile and the parents above it, O(log size) of them,
// and remembers a bounded number of those verified. It is safe for concurrent
// use where the tree's ReaderAt is.
type Verifier struct {
	root   Addr
	size   int64
	groups int64
	tree   io.ReaderAt

	mu      sync.Mutex
	parents map[int64][2]cv  // verified, by offset in the tree
	tiles   [keepTiles]*tile // nil: none here
	oldest  int
}

// tile is the tree above the m groups from s, at most tileGroups.
type tile struct {
	s, m    int64
	cv      cv   // its own, verified
	whole   bool // it is the object's whole tree
	parents []byte
	known   atomic.Uint64 // which parents are verified
}

// parent returns the parent above m groups, m >= 2, from at, whose chaining value
// is want, verified.
func (t *tile) parent(at, m int64, want *cv) ([]byte, error) {
	off := ParentOffset(at-t.s, m)
	p := t.parents[off : off+ParentBytes]
	if bit := uint64(1) << (off / ParentBytes); t.known.Load()&bit == 0 {
		l, r := getCV(p), getCV(p[Size:])
		if parentCV(&l, &r, t.whole && m == t.m) != *want {
			return nil, fmt.Errorf("%w: in the tree at %d", ErrMismatch, ParentOffset(at, m))
		}
		t.known.Or(bit)
	}
	return p, nil
}

// find returns the verified chaining value of the node above n groups from s,
// which is in the tile.
func (t *tile) find(s, n int64) (cv, error) {
	want := t.cv
	for at, m := t.s, t.m; at != s || m != n; {
		if n >= m {
			return want, noNode(s, n)
		}
		p, err := t.parent(at, m, &want)
		if err != nil {
			return want, err
		}
		if left := split(m); s < at+left {
			m, want = left, getCV(p)
		} else {
			at, m, want = at+left, m-left, getCV(p[Size:])
		}
	}
	return want, nil
}

func noNode(s, m int64) error { return fmt.Errorf("b3: no node above groups %d to %d", s, s+m) }

// NewVerifier returns a Verifier of the object with the address and size. The
// tree is not read, and may be nil, where size is at most GroupBytes.
func NewVerifier(root Addr, size int64, tree io.ReaderAt) *Verifier {
	return &Verifier{root: root, size: size, groups: Groups(size), tree: tree}
}

// Size returns the object's length in bytes.
func (v *Verifier) Size() int64 { return v.size }

// Verify checks data, which is whole groups from group on (the object's last may
// be short). It returns nil if all belong to the object, else ErrMismatch, or the
// tree reader's error.
func (v *Verifier) Verify(group int64, data []byte) error {
	if group < 0 || group >= v.groups {
		return fmt.Errorf("%w: no group %d", ErrMismatch, group)
	}
	if rest := v.size - group*GroupBytes; int64(len(data)) > rest || (int64(len(data)) < rest && len(data)%GroupBytes != 0) {
		return fmt.Errorf("%w: %d bytes are no whole groups", ErrMismatch, len(data))
	}
	if v.groups == 1 {
		node := groupNode(data, 0)
		node.Flags |= guts.FlagRoot
		if guts.ChainingValue(node) != getCV(v.root[:]) {
			return fmt.Errorf("%w: in group 0", ErrMismatch)
		}
		return nil
	}
	var t *tile
	far := len(data) >= farBytes
	for len(data) > 0 {
		if t == nil || group >= t.s+t.m {
			var err error
			if t, err = v.tile(group >> tileLog); err != nil {
				return err
			}
		}
		want, err := t.find(group, 1)
		if err != nil {
			return err
		}
		p := data[:min(len(data), GroupBytes)]
		if far {
			fetch(p)
		}
		if guts.ChainingValue(groupNode(p, group)) != want {
			return fmt.Errorf("%w: in group %d", ErrMismatch, group)
		}
		data = data[len(p):]
		group++
	}
	return nil
}

// VerifyTop checks the tree's topmost parent, one read: that the tree begins to
// belong to the address. An object of one group has none.
func (v *Verifier) VerifyTop() error {
	if v.groups == 1 {
		return nil
	}
	_, err := v.parent(0, v.groups, v.rootCV())
	return err
}

// Parent returns the verified parent above the m groups, m >= 2, from group s,
// which must be a node of the tree; it is what a slice is made of.
func (v *Verifier) Parent(s, m int64) (p [ParentBytes]byte, err error) {
	if m < 2 || s < 0 || s >= v.groups {
		return p, noNode(s, m)
	}
	if m > tileGroups {
		want, err := v.descend(s, m)
		if err != nil {
			return p, err
		}
		pair, err := v.parent(s, m, want)
		putCV(p[:Size], &pair[0])
		putCV(p[Size:], &pair[1])
		return p, err
	}
	t, err := v.tile(s >> tileLog)
	if err != nil {
		return p, err
	}
	want, err := t.find(s, m)
	if err != nil {
		return p, err
	}
	b, err := t.parent(s, m, &want)
	copy(p[:], b)
	return p, err
}

func (v *Verifier) rootCV() cv { return getCV(v.root[:]) }

// descend returns the verified chaining value of the node above m groups from s.
func (v *Verifier) descend(s, m int64) (want cv, err error) {
	want = v.rootCV()
	for at, n := int64(0), v.groups; at != s || n != m; {
		if s < at || m < 1 || m >= n || s+m > at+n {
			return want, noNode(s, m)
		}
		pair, err := v.parent(at, n, want)
		if err != nil {
			return want, err
		}
		if left := split(n); s < at+left {
			n, want = left, pair[0]
		} else {
			at, n, want = at+left, n-left, pair[1]
		}
	}
	return want, nil
}

// parent returns the children's chaining values of the node above m groups from
// s, verified against its own.
func (v *Verifier) parent(s, m int64, want cv) (pair [2]cv, err error) {
	off := ParentOffset(s, m)
	v.mu.Lock()
	pair, ok := v.parents[off]
	v.mu.Unlock()
	if ok {
		return pair, nil
	}
	var b [ParentBytes]byte
	if err := v.read(b[:], off); err != nil {
		return pair, err
	}
	pair = [2]cv{getCV(b[:Size]), getCV(b[Size:])}
	if parentCV(&pair[0], &pair[1], m == v.groups) != want {
		return pair, fmt.Errorf("%w: in the tree at %d", ErrMismatch, off)
	}
	v.mu.Lock()
	if v.parents == nil || len(v.parents) >= keepParents {
		v.parents = make(map[int64][2]cv)
	}
	v.parents[off] = pair
	v.mu.Unlock()
	return pair, nil
}

func (v *Verifier) tile(index int64) (*tile, error) {
	s := index * tileGroups
	v.mu.Lock()
	for _, t := range v.tiles {
		if t != nil && t.s == s {
			v.mu.Unlock()
			return t, nil
		}
	}
	v.mu.Unlock()

	m := min(v.groups-s, tileGroups)
	want, err := v.descend(s, m)
	if err != nil {
		return nil, err
	}
	t := &tile{s: s, m: m, cv: want, whole: m == v.groups, parents: make([]byte, (m-1)*ParentBytes)}
	// The parents before a tile are those complete by its first group.
	if err := v.read(t.parents, (s-int64(bits.OnesCount64(uint64(s))))*ParentBytes); err != nil {
		return nil, err
	}
	v.mu.Lock()
	v.tiles[v.oldest] = t
	v.oldest = (v.oldest + 1) % keepTiles
	v.mu.Unlock()
	return t, nil
}

// read fills b from the tree. A tree that ends early is damage.
func (v *Verifier) read(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	n, err := v.tree.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the tree ends early", ErrMismatch)
	default:
		return err
	}
}
