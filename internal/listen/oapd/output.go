// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"io"

	"github.com/rustyonions/macronode"
)

// direct is the size from which a write is not worth copying into a buffer.
const direct = 16 << 10

// output is what a Stream writes to. The head leaves with the first bytes, so
// that a stream that fails before them can still be answered with an error. What
// fails later is told as such, so no bytes are held back for it.
type output struct {
	x     *exchange
	left  int64   // of the announced length; negative: none announced
	buf   *[]byte // what was written and not sent; nil: nothing
	ended bool    // the last frame is out
	err   error   // the wire's, not the stream's
}

var (
	_ macronode.Flusher  = (*output)(nil)
	_ macronode.Finisher = (*output)(nil)
	_ io.ReaderFrom      = (*output)(nil)
)

// take holds n bytes more against the announced length.
func (o *output) take(n int) error {
	if o.err == nil && o.left >= 0 {
		if int64(n) > o.left {
			o.err = macronode.Wrap(macronode.Internal, "", errLong)
		} else {
			o.left -= int64(n)
		}
	}
	return o.err
}

// Write sends p or keeps it in the buffer.
func (o *output) Write(p []byte) (int, error) {
	if err := o.take(len(p)); err != nil {
		return 0, err
	}
	if len(p) >= direct {
		if err := o.drain(); err != nil {
			return 0, err
		}
		return o.push(p, false)
	}
	b := o.buffer()
	if len(*b)+len(p) > cap(*b) {
		if err := o.drain(); err != nil {
			return 0, err
		}
	}
	*b = append(*b, p...)
	return len(p), nil
}

// Finish implements macronode.Finisher: the end goes with the last bytes.
func (o *output) Finish(p []byte) (int, error) {
	if err := o.take(len(p)); err != nil {
		return 0, err
	}
	if err := o.drain(); err != nil {
		return 0, err
	}
	if o.left > 0 {
		return o.push(p, false) // close says what is wrong
	}
	return o.push(p, true)
}

// ReadFrom copies r by way of the buffer.
func (o *output) ReadFrom(r io.Reader) (n int64, err error) {
	if o.err != nil {
		return 0, o.err
	}
	b := o.buffer()
	for {
		if len(*b) == cap(*b) {
			if err := o.drain(); err != nil {
				return n, err
			}
		}
		have := len(*b)
		m, err := r.Read((*b)[have:cap(*b)])
		if bad := o.take(m); bad != nil {
			return n, bad
		}
		*b = (*b)[:have+m]
		n += int64(m)
		switch err {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, err
		}
	}
}

// Flush sends what is buffered, and the head where nothing was sent yet.
func (o *output) Flush() error {
	if o.buf != nil && len(*o.buf) > 0 {
		return o.drain()
	}
	if o.err == nil && !o.x.began {
		_, err := o.push(nil, false)
		return err
	}
	return o.err
}

func (o *output) buffer() *[]byte {
	if o.buf == nil {
		if b, ok := o.x.s.pool.Get().(*[]byte); ok {
			o.buf = b
		} else {
			b := make([]byte, 0, bufferBytes)
			o.buf = &b
		}
	}
	return o.buf
}

// drain sends what is buffered.
func (o *output) drain() error {
	if o.err == nil && o.buf != nil && len(*o.buf) > 0 {
		_, err := o.push(*o.buf, false)
		*o.buf = (*o.buf)[:0]
		return err
	}
	return o.err
}

// push sends p, with the head before it and the end behind it where they are due.
func (o *output) push(p []byte, end bool) (n int, err error) {
	n, err = o.x.push(p, end)
	if err != nil && o.err == nil {
		o.err = err
	}
	o.ended = o.ended || end
	return n, o.err
}

// close ends the reply: streamErr is what WriteTo returned. The error it returns
// is the stream's own, or the wire's, or that the length was wrong.
func (o *output) close(streamErr error) error {
	err := streamErr
	if o.err != nil {
		err = o.err
	}
	if err == nil && o.left > 0 {
		err = macronode.Wrap(macronode.Internal, "", errShort)
	}
	if err == nil && !o.ended {
		var last []byte
		if o.buf != nil {
			last = *o.buf
		}
		_, err = o.push(last, true)
	}
	if o.buf != nil {
		*o.buf = (*o.buf)[:0]
		o.x.s.pool.Put(o.buf)
		o.buf = nil
	}
	return err
}
