// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"lukechampine.com/blake3/guts"

	"github.com/rustyonions/macronode/b3/block"
)

// GroupBytes is the unit of verification: 16 chunks of 1 KiB, hashed at once.
const GroupBytes = guts.MaxSIMD * guts.ChunkSize

// ParentBytes is the length of a parent node in an outboard tree.
const ParentBytes = 2 * Size

// Outboard tree, format 1.
//
// A tree is the parents above the 16 KiB groups of an object and nothing else: no
// header, no length. A parent is the chaining values of its left and right child,
// 32 bytes each, as BLAKE3 defines them. Parents stand in post-order (left
// subtree, right subtree, parent), which is the order in which a stream of unknown
// length completes them. So the parent above the m groups from group s, m >= 2,
// is at index s - popcount(s) + m - 2: before it stand the s - popcount(s)
// parents complete by group s, and the m - 2 others of its own subtree. The
// root's parent is last. The parents of any subtree are adjacent.
//
// It is the tree of Bao with groups of 2^4 chunks, in the order of its post-order
// outboard, so that Bao slices can be cut from it.

// TreeFormat is the version of the outboard tree's format.
const TreeFormat = 1

// Groups returns the number of groups of an object of size bytes, at least 1.
func Groups(size int64) int64 {
	if size <= GroupBytes {
		return 1
	}
	return (size-1)/GroupBytes + 1
}

// TreeBytes returns the length of the outboard tree of an object of size bytes.
// It is 0 up to GroupBytes.
func TreeBytes(size int64) int64 { return (Groups(size) - 1) * ParentBytes }

// ParentOffset returns the place in an outboard tree of the parent above the m
// groups, m >= 2, that begin with group s.
func ParentOffset(s, m int64) int64 {
	return (s - int64(bits.OnesCount64(uint64(s))) + m - 2) * ParentBytes
}

// split returns how many of m groups, m >= 2, are below the left child: the
// largest power of two that is less than m.
func split(m int64) int64 { return 1 << (bits.Len64(uint64(m-1)) - 1) }

// cv is a chaining value.
type cv = [8]uint32

func getCV(b []byte) (c cv) {
	_ = b[Size-1]
	for i := range c {
		c[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return c
}

func putCV(b []byte, c *cv) {
	_ = b[Size-1]
	for i, w := range c {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
}

// farBytes is how long bytes must be to be taken for ones that the processor's
// cache does not hold.
const farBytes = 1 << 20

// fetch brings a group into the cache, in order. Hashing goes through its 16
// chunks side by side, which no prefetcher recognises: from memory that took half
// as long again.
//
//go:noinline
func fetch(p []byte) (sum byte) {
	for i := 0; i < len(p); i += 64 {
		sum ^= p[i]
	}
	return sum // so that the loads are not left out
}

// groupNode compresses a group, not more than GroupBytes, all but its last step.
func groupNode(p []byte, group int64) guts.Node {
	counter := uint64(group) * guts.MaxSIMD
	if len(p) == GroupBytes {
		return guts.CompressBuffer((*[GroupBytes]byte)(p), GroupBytes, &guts.IV, counter, 0)
	}
	if len(p) <= guts.ChunkSize {
		return guts.CompressChunk(p, &guts.IV, counter, 0)
	}
	// The vector code reads 16 chunks whatever the length says.
	var buf [GroupBytes]byte
	copy(buf[:], p)
	return guts.CompressBuffer(&buf, len(p), &guts.IV, counter, 0)
}

func parentCV(l, r *cv, root bool) cv {
	var flags uint32
	if root {
		flags = guts.FlagRoot
	}
	return guts.ChainingValue(guts.ParentNode(*l, *r, &guts.IV, flags))
}

// Hasher finds the address of a stream of unknown length, and writes its outboard
// tree on the way. Fastest are writes of 64 KiB and more in multiples of
// GroupBytes. It allocates nothing after NewHasher. It is not for concurrent use.
type Hasher struct {
	tree   io.Writer
	err    error // of tree
	groups int64 // added
	first  guts.Node
	// stack holds the chaining values of the complete subtrees so far, except
	// that the merges due after the last group wait for the next one, since the
	// last merge of all is the root's and differs.
	stack  [48]cv // 2^48 groups are more than an int64 of bytes
	depth  int
	parent [ParentBytes]byte
	buf    [GroupBytes]byte
	n      int // bytes in buf
}

// NewHasher returns a Hasher that writes the outboard tree to tree, one parent
// each call, or nowhere if tree is nil.
func NewHasher(tree io.Writer) *Hasher {
	return &Hasher{tree: tree}
}

// Reset makes h as NewHasher returned it, with another tree.
func (h *Hasher) Reset(tree io.Writer) {
	h.tree, h.err, h.groups, h.depth, h.n = tree, nil, 0, 0, 0
}

// Write adds bytes. Its error is the tree writer's, after which h is of no use.
func (h *Hasher) Write(p []byte) (int, error) {
	total := len(p)
	if h.n > 0 {
		m := copy(h.buf[h.n:], p)
		h.n += m
		p = p[m:]
		if h.n < GroupBytes {
			return total, h.err
		}
		h.add(h.buf[:])
		h.n = 0
	}
	far := len(p) >= farBytes
	for len(p) >= GroupBytes {
		if far {
			fetch(p[:GroupBytes])
		}
		h.add(p[:GroupBytes])
		p = p[GroupBytes:]
	}
	h.n = copy(h.buf[:], p)
	return total, h.err
}

func (h *Hasher) add(p []byte) {
	node := groupNode(p, h.groups)
	if h.groups == 0 {
		h.first = node // may turn out to be the root
		h.groups = 1
		return
	}
	if h.groups == 1 {
		h.push(guts.ChainingValue(h.first))
	}
	for h.depth > bits.OnesCount64(uint64(h.groups)) {
		h.merge(false)
	}
	h.push(guts.ChainingValue(node))
	h.groups++
}

func (h *Hasher) push(c cv) {
	h.stack[h.depth] = c
	h.depth++
}

func (h *Hasher) merge(root bool) {
	l, r := &h.stack[h.depth-2], &h.stack[h.depth-1]
	if h.tree != nil && h.err == nil {
		putCV(h.parent[:Size], l)
		putCV(h.parent[Size:], r)
		_, h.err = h.tree.Write(h.parent[:])
	}
	*l = parentCV(l, r, root)
	h.depth--
}

// Sum writes the rest of the tree and returns the address. After it only Reset
// may be called.
func (h *Hasher) Sum() (Addr, error) {
	if h.n > 0 || h.groups == 0 {
		h.add(h.buf[:h.n])
		h.n = 0
	}
	var root cv
	if h.groups == 1 {
		h.first.Flags |= guts.FlagRoot
		root = guts.ChainingValue(h.first)
	} else {
		for h.depth > 1 {
			h.merge(h.depth == 2)
		}
		root = h.stack[0]
	}
	var a Addr
	putCV(a[:], &root)
	return a, h.err
}

// Sum returns the address of p.
func Sum(p []byte) Addr {
	if len(p) <= block.MaxBytes {
		root := block.Sum(&guts.IV, 0, p)
		var a Addr
		putCV(a[:], &root)
		return a
	}
	if len(p) <= GroupBytes { // without the buffers of a Hasher
		node := groupNode(p, 0)
		node.Flags |= guts.FlagRoot
		root := guts.ChainingValue(node)
		var a Addr
		putCV(a[:], &root)
		return a
	}
	var h Hasher
	_, _ = h.Write(p) // only a tree fails
	a, _ := h.Sum()
	return a
}

// SubtreeSum returns the chaining value of the node above the n bytes that r
// holds next and that stand in an object from off, and are not all of it. It is
// of whole groups: n is a power of two of GroupBytes and off a multiple of n.
func SubtreeSum(r io.Reader, off, n int64) (sum [Size]byte, err error) {
	groups := n / GroupBytes
	if n < GroupBytes || n%GroupBytes != 0 || bits.OnesCount64(uint64(groups)) != 1 || off < 0 || off%n != 0 {
		return sum, fmt.Errorf("b3: no node is above %d bytes from %d", n, off)
	}
	var stack [48]cv
	depth := 0
	buf := make([]byte, min(n, 4*GroupBytes))
	for i := int64(0); i < groups; {
		if _, err := io.ReadFull(r, buf); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return sum, err
		}
		for p := buf; len(p) > 0; p = p[GroupBytes:] {
			stack[depth] = guts.ChainingValue(groupNode(p[:GroupBytes], off/GroupBytes+i))
			i++
			for range bits.TrailingZeros64(uint64(i)) {
				stack[depth-1] = parentCV(&stack[depth-1], &stack[depth], false)
				depth--
			}
			depth++
		}
	}
	putCV(sum[:], &stack[0])
	return sum, nil
}
