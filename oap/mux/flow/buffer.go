// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode/oap"
)

const (
	// BlockBytes holds a frame with a full chunk, and the beginning of the next.
	BlockBytes = 66 << 10
	// wholeBytes is from where on a payload keeps the block that it was read
	// into, and is written from where it is; smaller ones are copied.
	WholeBytes = 16 << 10
	// JoinBytes holds two such frames, for connections that are written to in one
	// piece.
	JoinBytes = 2 * BlockBytes
	// SpanBytes holds four, for readers to which many come.
	SpanBytes = 4 * BlockBytes
)

var classes = [...]int{2 << 10, WholeBytes + 128, BlockBytes, JoinBytes, SpanBytes}

// buffers are shared by all sessions, by size.
var buffers [len(classes)]sync.Pool

// Buffer is storage of one of the classes, or of another size, and what may stand
// behind it that is somebody else's.
type Buffer struct {
	B     []byte
	Lent  []byte       // goes back to its owner with Free
	lent  *int         // how much of it is out, in buffers
	class int          // -1: not pooled
	more  atomic.Int32 // holders beside the first
}

// NewBuffer gives a buffer of length n.
func NewBuffer(n int) *Buffer {
	for i, size := range classes {
		if n > size {
			continue
		}
		if b, ok := buffers[i].Get().(*Buffer); ok {
			b.B = b.B[:n]
			return b
		}
		return &Buffer{B: make([]byte, n, size), class: i}
	}
	return &Buffer{B: make([]byte, n), class: -1}
}

// Free gives the buffer back; nobody may use it any more. Of one with something
// lent, this is under the lock that guards the owner's count.
func (b *Buffer) Free() {
	if b == nil || b.more.Add(-1) >= 0 {
		return
	}
	b.more.Store(0)
	if b.lent != nil {
		*b.lent--
		b.Lent, b.lent = nil, nil
	}
	if b.class >= 0 {
		buffers[b.class].Put(b)
	}
}

// Share gives b one more holder, each of which frees it once.
func (b *Buffer) Share() *Buffer {
	b.more.Add(1)
	return b
}

// Shared reports whether somebody holds b beside the caller.
func (b *Buffer) Shared() bool { return b.more.Load() > 0 }

// Size is how many bytes it has with what is lent.
func (b *Buffer) Size() int { return len(b.B) + len(b.Lent) }

// Lend is a buffer with room for a header, and p behind it, which stays where it
// is: out counts such buffers until they are freed.
func Lend(p []byte, out *int) *Buffer {
	b := NewBuffer(oap.HeaderBytes)
	*out++
	b.Lent, b.lent = p, out
	return b
}

// FrameBuffer is a buffer with room for a header, and the given parts after it.
func FrameBuffer(parts ...[]byte) *Buffer {
	n := oap.HeaderBytes
	for _, p := range parts {
		n += len(p)
	}
	b := NewBuffer(n)
	n = oap.HeaderBytes
	for _, p := range parts {
		n += copy(b.B[n:], p)
	}
	return b
}
