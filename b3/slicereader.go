// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"lukechampine.com/blake3/guts"
)

// maxSliceDepth is how many parents stand above a leaf at most: an int64 of bytes
// has fewer than 2^53 chunks.
const maxSliceDepth = 53

// SliceReader reads a slice and yields the bytes of its range, and none that is
// not verified: a leaf comes out whole or not at all. It keeps some 24 KiB,
// whatever the slice says of its length, and is not for concurrent use.
//
// What it proves: every byte it yields is the object's at that place; and where
// it ends before the range does, that the object ends there. The length at the
// slice's head is proven only once the object's last leaf was seen, see Size. A
// slice of the middle may carry another length than the object's and still
// prove its bytes.
type SliceReader struct {
	r      io.Reader
	root   Addr
	group  int
	off, n int64
	span   // once the header was read
	began  bool
	proven bool // size is
	err    error

	pending [maxSliceDepth + 1]sliceNode // verified, not yet read below; the next is the last
	depth   int
	before  []Subtree
	out     []byte // verified, not yet returned; in buf
	buf     [maxSliceDepth*ParentBytes + GroupBytes]byte
}

// sliceNode is the subtree above m leaves from at.
type sliceNode struct {
	cv    cv
	at, m int64
}

// DamageError is the ErrMismatch of a SliceReader that knows where it is. Nothing
// of those bytes was yielded, and everything before them in the range was.
type DamageError struct {
	Off, Len int64 // in the object
	Tree     bool  // the tree above them does not match, so they were not judged
}

func (e *DamageError) Error() string {
	where := "in"
	if e.Tree {
		where = "in the tree above"
	}
	return fmt.Sprintf("%v: %s the %d bytes from %d", ErrMismatch, where, e.Len, e.Off)
}

func (e *DamageError) Unwrap() error { return ErrMismatch }

// Subtree is the bytes below one node of an object's tree, and the node's
// chaining value, as SubtreeSum finds it. Len is a power of two of leaves, Off a
// multiple of it.
type Subtree struct {
	Off, Len int64
	CV       [Size]byte
}

// NewSliceReader returns a SliceReader of r, the slice of the n bytes from off of
// the object with the address. It takes r to its end: more bytes behind the slice
// are an error. An n past the object's end is allowed, and math.MaxInt64 is "to
// the end"; n 0 verifies one leaf and yields nothing.
//
// Where bytes do not match, reads fail with ErrMismatch; where r ends early, with
// io.ErrUnexpectedEOF; where r fails, with its error.
func NewSliceReader(r io.Reader, root Addr, group int, off, n int64) *SliceReader {
	s := &SliceReader{}
	s.Reset(r, root, group, off, n)
	return s
}

// Reset makes s what NewSliceReader returns.
func (s *SliceReader) Reset(r io.Reader, root Addr, group int, off, n int64) {
	s.r, s.root, s.group, s.off, s.n = r, root, group, off, n
	s.span, s.began, s.proven, s.err, s.depth, s.out = span{}, false, false, nil, 0, nil
	s.before = s.before[:0]
	if _, err := newSpan(0, group, off, n); err != nil {
		s.err = err
	}
}

// Size returns the object's length, and whether that is proven. Before it is, it
// is what the slice says, which may be a lie: good for a progress bar and for
// refusing what is too long, for no more. It is -1 before the first Read.
func (s *SliceReader) Size() (size int64, proven bool) {
	if !s.began {
		return -1, false
	}
	return s.size, s.proven
}

// Before returns the subtrees left of the range, in order. Together they are all
// of the object's bytes before the first leaf of the slice, so that who has those
// already can verify them. It knows them once something was read, and they are
// right where that brought no error.
func (s *SliceReader) Before() []Subtree { return s.before }

// Read yields bytes of the range.
func (s *SliceReader) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.out, s.err = s.leafBytes()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// WriteTo writes the range to w, a leaf at a time.
func (s *SliceReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(s.out) > 0 {
			n, err := w.Write(s.out)
			s.out = s.out[n:]
			total += int64(n)
			if err == nil && len(s.out) > 0 {
				err = io.ErrShortWrite
			}
			if err != nil {
				return total, err
			}
		}
		if s.err == io.EOF {
			return total, nil
		}
		if s.err != nil {
			return total, s.err
		}
		s.out, s.err = s.leafBytes()
	}
}

// leafBytes reads and verifies as far as the next leaf, and returns what of it is
// in the range.
func (s *SliceReader) leafBytes() ([]byte, error) {
	if !s.began {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	if s.depth == 0 {
		return nil, s.end()
	}
	s.depth--
	top := s.pending[s.depth]
	parents, leaf := s.way(top)
	from, to := leaf*s.leaf, s.span.end(leaf)
	want := parents*ParentBytes + int(to-from)
	got, err := io.ReadFull(s.r, s.buf[:want])
	if err == io.EOF && want > 0 {
		err = io.ErrUnexpectedEOF
	}
	// What came is judged also where it is not all: a wrong length makes the
	// reader wait for bytes that a true one would not.
	below, ok := s.descend(top, parents, got)
	if !ok {
		return nil, &DamageError{Off: from, Len: to - from, Tree: true}
	}
	if err != nil {
		return nil, err
	}
	data := s.buf[parents*ParentBytes : want]
	if s.leafCV(data, leaf) != below {
		return nil, &DamageError{Off: from, Len: to - from}
	}
	if leaf == s.leaves-1 {
		s.proven = true
	}
	// The range may begin behind the object's end, and then holds nothing.
	lo, hi := min(max(s.off, from), to), to
	if s.n < to-s.off {
		hi = max(s.off+s.n, lo)
	}
	return data[lo-from : hi-from], nil
}

func (s *SliceReader) begin() error {
	if _, err := io.ReadFull(s.r, s.buf[:sliceHeader]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	size := binary.LittleEndian.Uint64(s.buf[:])
	if size > math.MaxInt64 {
		return fmt.Errorf("%w: no object has %d bytes", ErrMismatch, size)
	}
	var err error
	if s.span, err = newSpan(int64(size), s.group, s.off, s.n); err != nil {
		return err
	}
	s.began = true
	s.pending[0], s.depth = sliceNode{cv: getCV(s.root[:]), m: s.leaves}, 1
	return nil
}

// way returns how many parents stand between a node and its first leaf in the
// slice, and that leaf.
func (s *SliceReader) way(n sliceNode) (parents int, leaf int64) {
	for ; n.m > 1; parents++ {
		if l := split(n.m); n.at+l > s.first {
			n.m = l
		} else {
			n.at, n.m = n.at+l, n.m-l
		}
	}
	return parents, n.at
}

// descend verifies the parents on that way, which are the first in buf, of which
// got bytes are there, and returns the leaf's chaining value. What lies right of
// the way is kept for later.
func (s *SliceReader) descend(n sliceNode, parents, got int) (cv, bool) {
	for i := range min(parents, got/ParentBytes) {
		p := s.buf[i*ParentBytes:]
		left, right := getCV(p), getCV(p[Size:])
		if parentCV(&left, &right, n.m == s.leaves) != n.cv {
			return cv{}, false
		}
		l := split(n.m)
		if n.at+l > s.first {
			if n.at+l <= s.last {
				s.pending[s.depth] = sliceNode{right, n.at + l, n.m - l}
				s.depth++
			}
			n.cv, n.m = left, l
		} else {
			skipped := Subtree{Off: n.at * s.leaf, Len: l * s.leaf}
			putCV(skipped.CV[:], &left)
			s.before = append(s.before, skipped)
			n.cv, n.at, n.m = right, n.at+l, n.m-l
		}
	}
	return n.cv, true
}

func (s *SliceReader) leafCV(p []byte, leaf int64) cv {
	var node guts.Node
	if s.group == SliceChunks {
		node = guts.CompressChunk(p, &guts.IV, uint64(leaf), 0)
	} else {
		node = groupNode(p, leaf)
	}
	if s.leaves == 1 {
		node.Flags |= guts.FlagRoot
	}
	return guts.ChainingValue(node)
}

// end makes sure that nothing follows.
func (s *SliceReader) end() error {
	n, err := io.ReadFull(s.r, s.buf[:1])
	if n > 0 {
		return fmt.Errorf("%w: there are bytes behind the slice", ErrMismatch)
	}
	return err
}

var _ interface {
	io.Reader
	io.WriterTo
} = (*SliceReader)(nil)
