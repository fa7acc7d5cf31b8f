// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapcall

import (
	"errors"
	"io"
	"sync"

	"github.com/rustyonions/macronode"
)

var (
	errShort = errors.New("oapcall: the reply ended before its announced length")
	errLong  = errors.New("oapcall: the reply is longer than announced")
)

const (
	// bufferBytes is how many bytes of small writes wait to leave together.
	bufferBytes = 64 << 10
	// direct is the size from which a write is not worth copying into a buffer.
	direct = 16 << 10
)

// Sink takes the body of an answer, in chunks of any size, and puts the head
// before the first. end says that nothing follows; a nil p with end unset is the
// head alone, once. A Sink that keeps bytes back is a macronode.Flusher too.
type Sink interface {
	Push(p []byte, end bool) (int, error)
}

// Buffers lends Outputs what they gather small writes in. The zero value is
// ready; one serves a listener.
type Buffers struct{ pool sync.Pool }

// Output is what a Stream writes to. The head leaves with the first bytes, so
// that a stream that fails before them can still be answered with an error. What
// fails later is told as such, so no bytes are held back for it.
type Output struct {
	to      Sink
	buffers *Buffers
	left    int64   // of the announced length; negative: none announced
	buf     *[]byte // what was written and not sent; nil: nothing
	began   bool
	ended   bool  // the last bytes are out
	err     error // the wire's, not the stream's
}

var (
	_ macronode.Flusher  = (*Output)(nil)
	_ macronode.Finisher = (*Output)(nil)
	_ io.ReaderFrom      = (*Output)(nil)
)

// Send makes o write all of s to a sink. length is what was announced, or
// negative. The error is the stream's own, or the sink's, or that the length was
// wrong; s is not closed.
func (o *Output) Send(to Sink, buffers *Buffers, length int64, s io.WriterTo) error {
	*o = Output{to: to, buffers: buffers, left: length}
	_, err := s.WriteTo(o)
	return o.close(err)
}

// take holds n bytes more against the announced length.
func (o *Output) take(n int) error {
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
func (o *Output) Write(p []byte) (int, error) {
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
func (o *Output) Finish(p []byte) (int, error) {
	if err := o.take(len(p)); err != nil {
		return 0, err
	}
	if err := o.drain(); err != nil {
		return 0, err
	}
	return o.push(p, o.left <= 0) // close says what is wrong
}

// ReadFrom copies r by way of the buffer.
func (o *Output) ReadFrom(r io.Reader) (n int64, err error) {
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
func (o *Output) Flush() error {
	err := o.drain()
	if err == nil && !o.began {
		_, err = o.push(nil, false)
	}
	if f, ok := o.to.(macronode.Flusher); ok && err == nil {
		if err = f.Flush(); err != nil {
			o.err = err
		}
	}
	return err
}

func (o *Output) buffer() *[]byte {
	if o.buf == nil {
		if b, ok := o.buffers.pool.Get().(*[]byte); ok {
			o.buf = b
		} else {
			b := make([]byte, 0, bufferBytes)
			o.buf = &b
		}
	}
	return o.buf
}

// drain sends what is buffered.
func (o *Output) drain() error {
	if o.err == nil && o.buf != nil && len(*o.buf) > 0 {
		_, err := o.push(*o.buf, false)
		*o.buf = (*o.buf)[:0]
		return err
	}
	return o.err
}

// push hands p on.
func (o *Output) push(p []byte, end bool) (int, error) {
	o.began, o.ended = true, o.ended || end
	n, err := o.to.Push(p, end)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, o.err
}

// close ends the reply: streamErr is what WriteTo returned.
func (o *Output) close(streamErr error) error {
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
		o.buffers.pool.Put(o.buf)
		o.buf = nil
	}
	return err
}
