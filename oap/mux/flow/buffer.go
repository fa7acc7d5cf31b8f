// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"sync"

	"github.com/rustyonions/macronode/oap"
)

const (
	// BlockBytes holds a frame with a full chunk, and the beginning of the next.
	BlockBytes = 66 << 10
	// wholeBytes is from where on a payload keeps the block that it was read
	// into, and is written from where it is; smaller ones are copied.
	WholeBytes = 16 << 10
)

var classes = [...]int{2 << 10, WholeBytes + 128, BlockBytes}

// buffers are shared by all sessions, by size.
var buffers [len(classes)]sync.Pool

// Buffer is storage of one of the classes, or of another size.
type Buffer struct {
	B     []byte
	class int // -1: not pooled
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
		return &Buffer{make([]byte, n, size), i}
	}
	return &Buffer{make([]byte, n), -1}
}

// Free gives the buffer back; nobody may use it any more.
func (b *Buffer) Free() {
	if b != nil && b.class >= 0 {
		buffers[b.class].Put(b)
	}
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
