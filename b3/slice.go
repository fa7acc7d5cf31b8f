// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"lukechampine.com/blake3/guts"
)

// Slices.
//
// A slice is what somebody who knows nothing but an address needs to verify a
// range of an object: the object's length, 8 bytes little-endian, then the part
// of its tree that touches the range, in pre-order: each parent (64 bytes) before
// its children, the bytes themselves as leaves. It is the slice of Bao's combined
// encoding. Leaves are chunks of 1 KiB (group 0, Bao's own) or groups of 16 KiB
// (group 4), so a slice holds up to a leaf more than the range at either end.
//
// A range of no bytes counts as one byte. What a range has past the object's end
// does not count, and one that begins there is the last leaf. The slice of a
// whole object is its combined encoding.

// SliceMediaType is the content type of slices, less its parameter "group".
const SliceMediaType = "application/vnd.bao"

// The leaves of a slice have 2^group KiB.
const (
	SliceChunks = 0 // 1 KiB, as other implementations of Bao have
	SliceGroups = 4 // GroupBytes
)

// sliceHeader is the length of the length.
const sliceHeader = 8

// ErrSlice says that no slice has such a group, offset or length.
var ErrSlice = errors.New("b3: no such slice")

// SliceSource is an object that slices can be made of. ReadAt and Parent must
// verify what they return: what they return is sent on.
type SliceSource interface {
	io.ReaderAt
	Size() int64
	// Parent returns the parent above the m 16 KiB groups, m >= 2, from group s.
	Parent(s, m int64) ([ParentBytes]byte, error)
}

// span is the leaves of an object, and those of them that touch a range.
type span struct {
	size        int64 // of the object
	leaf        int64 // bytes of a leaf
	leaves      int64 // at least 1
	first, last int64 // leaves that touch the range, both included
}

func newSpan(size int64, group int, off, n int64) (s span, err error) {
	if size < 0 || off < 0 || n < 0 || (group != SliceChunks && group != SliceGroups) {
		return s, fmt.Errorf("%w: %d bytes from %d of %d, group %d", ErrSlice, n, off, size, group)
	}
	s = span{size: size, leaf: guts.ChunkSize << group, leaves: 1}
	if size > s.leaf {
		s.leaves = (size-1)/s.leaf + 1
	}
	if off >= size {
		s.first, s.last = s.leaves-1, s.leaves-1
		return s, nil
	}
	n = min(max(n, 1), size-off)
	s.first, s.last = off/s.leaf, (off+n-1)/s.leaf
	return s, nil
}

// touches reports whether any of the m leaves from at are in the slice.
func (s *span) touches(at, m int64) bool { return at <= s.last && at+m > s.first }

// end returns where the leaf's bytes end.
func (s *span) end(leaf int64) int64 {
	if leaf >= s.leaves-1 {
		return s.size
	}
	return (leaf + 1) * s.leaf
}

// parents counts the parents above m leaves from at that are in the slice, in
// O(log m): most nodes are in it with all their leaves or not at all.
func (s *span) parents(at, m int64) int64 {
	switch {
	case m < 2 || !s.touches(at, m):
		return 0
	case s.first <= at && at+m-1 <= s.last:
		return m - 1
	}
	l := split(m)
	return 1 + s.parents(at, l) + s.parents(at+l, m-l)
}

// SliceBytes returns the length of a slice of the n bytes from off of an object
// of size bytes; -1 where there is no such slice.
func SliceBytes(size int64, group int, off, n int64) int64 {
	s, err := newSpan(size, group, off, n)
	if err != nil {
		return -1
	}
	parents, data := s.parents(0, s.leaves), s.end(s.last)-s.first*s.leaf
	if parents > (math.MaxInt64-sliceHeader-data)/ParentBytes {
		return -1
	}
	return sliceHeader + parents*ParentBytes + data
}

// writeBytes is how much of a slice is gathered before it is written.
const writeBytes = 64 << 10

var writeBuffers = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// WriteSlice writes the slice of the n bytes from off, SliceBytes of them, and
// returns how many it wrote. It reads src in whole groups and keeps some 64 KiB.
// Nothing is written before the first group was read, so that a damaged beginning
// leaves w untouched. After an error the slice is cut off and of no use behind
// what was written.
func WriteSlice(w io.Writer, src SliceSource, group int, off, n int64) (int64, error) {
	s, err := newSpan(src.Size(), group, off, n)
	if err != nil {
		return 0, err
	}
	buf := writeBuffers.Get().(*[writeBytes]byte)
	defer writeBuffers.Put(buf)
	sw := &sliceWriter{span: s, w: w, src: src, buf: buf[:0]}
	if group == SliceChunks {
		sw.chunks = &chunkGroup{index: -1}
	}
	sw.buf = binary.LittleEndian.AppendUint64(sw.buf, uint64(s.size))
	if err := sw.node(0, s.leaves); err != nil {
		return sw.n, err
	}
	return sw.n, sw.flush()
}

type sliceWriter struct {
	span
	w      io.Writer
	src    SliceSource
	buf    []byte // not yet written, of writeBytes
	n      int64  // written
	chunks *chunkGroup
}

// node writes the subtree above m leaves from at.
func (w *sliceWriter) node(at, m int64) error {
	if !w.touches(at, m) {
		return nil
	}
	if m == 1 {
		return w.leafBytes(at)
	}
	p, err := w.parent(at, m)
	if err != nil {
		return err
	}
	if err := w.room(ParentBytes); err != nil {
		return err
	}
	w.buf = append(w.buf, p[:]...)
	l := split(m)
	if err := w.node(at, l); err != nil {
		return err
	}
	return w.node(at+l, m-l)
}

func (w *sliceWriter) parent(at, m int64) (p [ParentBytes]byte, err error) {
	if w.chunks == nil {
		return w.src.Parent(at, m)
	}
	if m > guts.MaxSIMD {
		return w.src.Parent(at/guts.MaxSIMD, (m-1)/guts.MaxSIMD+1)
	}
	if err := w.chunks.load(w, at/guts.MaxSIMD); err != nil {
		return p, err
	}
	return w.chunks.parent(int(at%guts.MaxSIMD), int(m)), nil
}

func (w *sliceWriter) leafBytes(at int64) error {
	n := int(w.end(at) - at*w.leaf)
	if err := w.room(n); err != nil {
		return err
	}
	to := w.buf[len(w.buf) : len(w.buf)+n]
	if w.chunks == nil {
		if err := readAt(w.src, to, at*w.leaf); err != nil {
			return err
		}
	} else {
		if err := w.chunks.load(w, at/guts.MaxSIMD); err != nil {
			return err
		}
		copy(to, w.chunks.data[at%guts.MaxSIMD*guts.ChunkSize:])
	}
	w.buf = w.buf[:len(w.buf)+n]
	return nil
}

// room makes room for n bytes in buf. The first group is in buf before there is
// need to flush: a header and the parents above one group are below 4 KiB.
func (w *sliceWriter) room(n int) error {
	if cap(w.buf)-len(w.buf) >= n {
		return nil
	}
	return w.flush()
}

func (w *sliceWriter) flush() error {
	n, err := w.w.Write(w.buf)
	w.n += int64(n)
	if err == nil && n < len(w.buf) {
		err = io.ErrShortWrite
	}
	w.buf = w.buf[:0]
	return err
}

// readAt fills p from off.
func readAt(src io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := src.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// chunkGroup is a group of 16 chunks and the tree above them, which no outboard
// tree holds: it is made from the bytes.
type chunkGroup struct {
	index int64 // -1: none is loaded
	data  [GroupBytes]byte
	cvs   [guts.MaxSIMD]cv
}

func (c *chunkGroup) load(w *sliceWriter, index int64) error {
	if c.index == index {
		return nil
	}
	c.index = -1
	n := min(GroupBytes, w.size-index*GroupBytes)
	if err := readAt(w.src, c.data[:n], index*GroupBytes); err != nil {
		return err
	}
	for i, at := 0, int64(0); at < n; i, at = i+1, at+guts.ChunkSize {
		chunk := c.data[at:min(at+guts.ChunkSize, n)]
		c.cvs[i] = guts.ChainingValue(guts.CompressChunk(chunk, &guts.IV, uint64(index*guts.MaxSIMD)+uint64(i), 0))
	}
	c.index = index
	return nil
}

// parent returns the parent above m chunks, m >= 2, from the group's chunk at.
func (c *chunkGroup) parent(at, m int) (p [ParentBytes]byte) {
	l := int(split(int64(m)))
	left, right := c.cv(at, l), c.cv(at+l, m-l)
	putCV(p[:Size], &left)
	putCV(p[Size:], &right)
	return p
}

func (c *chunkGroup) cv(at, m int) cv {
	if m == 1 {
		return c.cvs[at]
	}
	l := int(split(int64(m)))
	left, right := c.cv(at, l), c.cv(at+l, m-l)
	return parentCV(&left, &right, false)
}
