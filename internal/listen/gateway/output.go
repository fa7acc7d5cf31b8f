// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"io"

	"github.com/rustyonions/macronode"
)

// bufferBytes is the size of the pooled buffers that gather small writes, and
// of the largest single write on HTTP/2, where each has a time limit of its own.
const bufferBytes = 64 << 10

// direct is the size from which a write is not worth copying into a buffer.
const direct = 16 << 10

// output is what a Stream writes to. The head leaves with the first bytes, so
// that a stream that fails before them can still be answered with an error.
type output struct {
	x      *exchange
	status int
	left   int64         // of the announced length; negative: none announced
	buf    *bufio.Writer // nil until a small write
	err    error         // the wire's, not the stream's
}

var (
	_ macronode.Flusher  = (*output)(nil)
	_ macronode.Finisher = (*output)(nil)
	_ io.ReaderFrom      = (*output)(nil)
)

// Write sends p or keeps it in the buffer.
func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	if o.left >= 0 {
		if int64(len(p)) > o.left {
			o.err = macronode.Wrap(macronode.Internal, "", errLong)
			return 0, o.err
		}
		o.left -= int64(len(p))
	}
	if len(p) < direct {
		return o.buffer().Write(p)
	}
	if err := o.drain(); err != nil {
		return 0, err
	}
	// The last bytes stay back until the stream said that all is well: a reply
	// that fails at its very end must not look whole either.
	n, last := 0, 0
	if o.left == 0 {
		last = min(len(p), bufferBytes)
	}
	if last < len(p) {
		var err error
		if n, err = (*wire)(o).Write(p[:len(p)-last]); err != nil || last == 0 {
			return n, err
		}
	}
	m, err := o.buffer().Write(p[n:])
	return n + m, err
}

// Finish implements macronode.Finisher: nothing is held back.
func (o *output) Finish(p []byte) (int, error) {
	if o.err != nil || o.left != int64(len(p)) || len(p) < direct {
		return o.Write(p)
	}
	if err := o.drain(); err != nil {
		return 0, err
	}
	o.left = 0
	return (*wire)(o).Write(p)
}

// ReadFrom copies r by way of the pooled buffer.
func (o *output) ReadFrom(r io.Reader) (n int64, err error) {
	if o.err != nil {
		return 0, o.err
	}
	b := o.buffer()
	var one [1]byte
	for {
		if o.left == 0 {
			// What is buffered stays back; there must be no more to come.
			m, err := r.Read(one[:])
			if m > 0 {
				o.err = macronode.Wrap(macronode.Internal, "", errLong)
				return n, o.err
			}
			if err == io.EOF {
				return n, nil
			}
			if err != nil {
				return n, err
			}
			continue
		}
		if b.Available() == 0 {
			if err := b.Flush(); err != nil {
				return n, err
			}
		}
		room := b.AvailableBuffer()
		m, err := r.Read(room[:cap(room)])
		if o.left >= 0 {
			if int64(m) > o.left {
				o.err = macronode.Wrap(macronode.Internal, "", errLong)
				return n, o.err
			}
			o.left -= int64(m)
		}
		n += int64(m)
		if _, err := b.Write(room[:m]); err != nil {
			return n, err
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Flush sends what is buffered, and the head where nothing was sent yet.
func (o *output) Flush() error {
	if err := o.drain(); err != nil {
		return err
	}
	o.start()
	o.x.watch()
	err := o.x.ctl.FlushError()
	o.x.unwatch()
	return o.fail(err)
}

func (o *output) buffer() *bufio.Writer {
	if o.buf == nil {
		if b, ok := o.x.s.pool.Get().(*bufio.Writer); ok {
			b.Reset((*wire)(o))
			o.buf = b
		} else {
			o.buf = bufio.NewWriterSize((*wire)(o), bufferBytes)
		}
	}
	return o.buf
}

// drain empties the buffer onto the wire.
func (o *output) drain() error {
	if o.err == nil && o.buf != nil && o.buf.Buffered() > 0 {
		return o.buf.Flush()
	}
	return o.err
}

// start sends the head, in front of the first bytes.
func (o *output) start() {
	if !o.x.began {
		o.x.replied, o.x.began = true, true
		o.x.bound()
		o.x.w.WriteHeader(o.status)
	}
}

func (o *output) fail(err error) error {
	if err != nil && o.err == nil {
		o.err = o.x.gone(err)
	}
	return o.err
}

// close ends the reply: streamErr is what WriteTo returned. The error it
// returns is the stream's own, or the wire's, or that the length was wrong.
func (o *output) close(streamErr error) error {
	err := streamErr
	if o.err != nil {
		err = o.err
	}
	if err == nil {
		if err = o.drain(); err == nil && o.left > 0 {
			err = macronode.Wrap(macronode.Internal, "", errShort)
		}
	}
	if err == nil {
		o.start()
		if !o.x.h2 {
			err = o.fail(o.x.ctl.FlushError())
		}
	}
	if o.buf != nil {
		o.buf.Reset(nil)
		o.x.s.pool.Put(o.buf)
		o.buf = nil
	}
	return err
}

// wire is output below its buffer.
type wire output

func (w *wire) Write(p []byte) (n int, err error) {
	o := (*output)(w)
	if !o.x.h2 {
		return w.write1(p)
	}
	o.start()
	for len(p) > 0 && err == nil {
		var m int
		o.x.watch()
		m, err = o.x.w.Write(p[:min(len(p), bufferBytes)])
		o.x.unwatch()
		n += m
		p = p[m:]
	}
	return n, o.fail(err)
}

// write1 writes on HTTP/1, where the connection sees to it that bytes move.
func (w *wire) write1(p []byte) (n int, err error) {
	o := (*output)(w)
	first := !o.x.began
	o.start()
	if first && o.left >= 0 && len(p) >= direct && !o.x.call.Peer.TLS {
		// net/http would cut off as much of p as its buffer has room for and
		// send that with the head, and the rest then: as the head alone is
		// flushed, p goes past the buffer.
		o.x.conn.Hold()
		err = o.x.ctl.FlushError()
	}
	if err == nil {
		n, err = o.x.w.Write(p)
	}
	return n, o.fail(err)
}
