// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pack

import "io"

// ChunkBytes is the most that Chunks writes at once.
const ChunkBytes = 256 << 10

// MarkDead writes the state word, and the zeros behind it, of the record at off.
func MarkDead(file io.WriterAt, off int64) error {
	state := make([]byte, RecordHead-StateAt)
	copy(state, deadWord)
	if n, err := file.WriteAt(state, off+StateAt); err != nil {
		return err
	} else if n < len(state) {
		return io.ErrShortWrite
	}
	return nil
}

// Chunks gathers what goes to consecutive places of a file. After an error it
// writes nothing more; Flush tells it.
type Chunks struct {
	file io.WriterAt
	off  int64 // of buf
	buf  []byte
	err  error
}

// Reset begins at off of file. The memory is used again.
func (c *Chunks) Reset(file io.WriterAt, off int64) {
	if c.buf == nil {
		c.buf = make([]byte, 0, ChunkBytes)
	}
	*c = Chunks{file: file, off: off, buf: c.buf[:0]}
}

// End is the place of what comes next.
func (c *Chunks) End() int64 { return c.off + int64(len(c.buf)) }

// Put adds p.
func (c *Chunks) Put(p []byte) {
	for len(p) > 0 && c.err == nil {
		n := min(len(p), cap(c.buf)-len(c.buf))
		c.buf = append(c.buf, p[:n]...)
		p = p[n:]
		c.spill()
	}
}

// Zeros adds n zeros, none if n is negative.
func (c *Chunks) Zeros(n int64) {
	for n > 0 && c.err == nil {
		m := min(int(min(n, ChunkBytes)), cap(c.buf)-len(c.buf))
		c.buf = c.buf[:len(c.buf)+m]
		clear(c.buf[len(c.buf)-m:])
		n -= int64(m)
		c.spill()
	}
}

func (c *Chunks) spill() {
	if len(c.buf) == cap(c.buf) {
		_ = c.Flush() // c.err keeps it
	}
}

// Flush writes what is left, and returns the first error of all.
func (c *Chunks) Flush() error {
	if c.err != nil || len(c.buf) == 0 {
		return c.err
	}
	n, err := c.file.WriteAt(c.buf, c.off)
	if err == nil && n < len(c.buf) {
		err = io.ErrShortWrite
	}
	c.off += int64(len(c.buf))
	c.buf = c.buf[:0]
	c.err = err
	return err
}
