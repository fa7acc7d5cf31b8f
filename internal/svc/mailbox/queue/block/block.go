// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package block is the frame of snapshots: blocks of length (4 bytes, of the
// content), kind (1), content, CRC-32C of kind and content (4); little endian
// throughout.
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxBytes is the longest content of a block.
const MaxBytes = 1 << 20

// ErrDamaged is whatever may be wrong with a snapshot.
var ErrDamaged = errors.New("damaged mailbox snapshot")

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Writer writes blocks, each in one Write. The first error stays.
type Writer struct {
	W   io.Writer
	B   []byte // the block being made; what uses it appends
	Err error
}

// Begin begins a block.
func (w *Writer) Begin(kind byte) { w.B = append(w.B[:0], 0, 0, 0, 0, kind) }

// End writes it.
func (w *Writer) End() {
	le.PutUint32(w.B, uint32(len(w.B)-5))
	w.B = le.AppendUint32(w.B, crc32.Checksum(w.B[4:], castagnoli))
	if w.Err == nil {
		_, w.Err = w.W.Write(w.B)
	}
}

// Full ends the block and begins another of its kind once half a block is in it.
func (w *Writer) Full(kind byte) {
	if len(w.B) > MaxBytes/2 {
		w.End()
		w.Begin(kind)
	}
}

// U64 appends numbers.
func (w *Writer) U64(s ...uint64) {
	for _, n := range s {
		w.B = le.AppendUint64(w.B, n)
	}
}

// U32 appends numbers.
func (w *Writer) U32(s ...uint32) {
	for _, n := range s {
		w.B = le.AppendUint32(w.B, n)
	}
}

// Flag appends a byte: 1 if on.
func (w *Writer) Flag(on bool) {
	if on {
		w.B = append(w.B, 1)
	} else {
		w.B = append(w.B, 0)
	}
}

// Reader reads blocks.
type Reader struct {
	R   io.Reader
	B   []byte // what is left of the block; overwritten by the next
	buf []byte
}

// Next reads the next block into B. ErrDamaged.
func (r *Reader) Next() (kind byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r.R, head[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n := int(le.Uint32(head[:]))
	if n > MaxBytes {
		return 0, fmt.Errorf("%w: a block of %d bytes", ErrDamaged, n)
	}
	if cap(r.buf) < n+4 {
		r.buf = make([]byte, n+4)
	}
	r.buf = r.buf[:n+4]
	if _, err := io.ReadFull(r.R, r.buf); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sum := crc32.Update(crc32.Checksum(head[4:], castagnoli), castagnoli, r.buf[:n])
	if sum != le.Uint32(r.buf[n:]) {
		return 0, fmt.Errorf("%w: checksum of a block", ErrDamaged)
	}
	r.B = r.buf[:n]
	return head[4], nil
}

// Has reports whether n bytes are left. Who takes more than there is, panics.
func (r *Reader) Has(n int) bool { return len(r.B) >= n }

// Take takes n bytes.
func (r *Reader) Take(n int) []byte {
	s := r.B[:n]
	r.B = r.B[n:]
	return s
}

// U64 takes a number.
func (r *Reader) U64() uint64 { return le.Uint64(r.Take(8)) }

// U32 takes a number.
func (r *Reader) U32() uint32 { return le.Uint32(r.Take(4)) }

// U16 takes a number.
func (r *Reader) U16() int { return int(le.Uint16(r.Take(2))) }

// U8 takes a byte.
func (r *Reader) U8() byte { return r.Take(1)[0] }
