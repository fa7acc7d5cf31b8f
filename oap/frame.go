// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"io"
	"slices"
)

// Frame is a header with what follows it. Len and CapLen follow from Cap and
// Payload when a frame is encoded.
type Frame struct {
	Header
	Cap     []byte
	Payload []byte
}

// Decode reads b, which must be one whole frame and nothing else. Cap and
// Payload alias b. Errors are of type *Error.
func Decode(b []byte, maxFrame int) (Frame, error) {
	h, err := ParseHeader(b, maxFrame)
	if err != nil {
		return Frame{Header: h}, err
	}
	if int(h.Len) != len(b) {
		return Frame{Header: h}, errLen
	}
	return h.frame(b), nil
}

// Cut takes the first frame off b, which may hold part of one, one or many. It
// returns the frame and how many bytes it has; 0 and no error where b does not
// hold all of it yet, and then the header if that is whole (else Len is 0), so
// that the reader knows how much to wait for. Cap and Payload alias b. Errors
// are of type *Error.
func Cut(b []byte, maxFrame int) (Frame, int, error) {
	if len(b) < HeaderBytes {
		return Frame{}, 0, nil
	}
	h, err := ParseHeader(b, maxFrame)
	if err != nil || int(h.Len) > len(b) {
		return Frame{Header: h}, 0, err
	}
	n := int(h.Len)
	return h.frame(b[:n:n]), n, nil
}

// frame cuts b, a whole frame of header h.
func (h *Header) frame(b []byte) Frame {
	end := HeaderBytes + int(h.CapLen)
	return Frame{Header: *h, Cap: b[HeaderBytes:end:end], Payload: b[end:]}
}

// Append writes f behind b, with Len and CapLen as Cap and Payload say. On an
// error, which is a fault of the frame (see ParseHeader), b is returned as it
// was.
func Append(b []byte, f *Frame) ([]byte, error) {
	if n := HeaderBytes + len(f.Cap) + len(f.Payload); n <= MaxFrameBytes {
		b = slices.Grow(b, n)
	}
	b, err := AppendHeader(b, f.Header, len(f.Cap), len(f.Payload))
	if err != nil {
		return b, err
	}
	b = append(b, f.Cap...)
	return append(b, f.Payload...), nil
}

const (
	// firstRead is what a Reader sets aside before it has seen a payload.
	firstRead = 4 << 10
	// keepBytes is the most that a Reader keeps between frames; data frames of
	// the usual chunk size fit.
	keepBytes = 256 << 10
	// maxEmptyReads ends a reader that gives neither bytes nor an error.
	maxEmptyReads = 100
)

// Reader cuts frames from a stream of bytes. Its buffer grows with what has
// arrived (at most to twice that), never with what a header announces.
type Reader struct {
	r        io.Reader
	maxFrame int
	buf      []byte // storage; buf[start:end] is read and not yet given out
	start    int
	end      int
}

// NewReader reads frames of at most maxFrame bytes from r; values outside
// (0, MaxFrameBytes] mean MaxFrameBytes.
func NewReader(r io.Reader, maxFrame int) *Reader {
	return &Reader{r: r, maxFrame: maxFrame}
}

// Buffered is how many bytes are read but not yet given out as frames.
func (r *Reader) Buffered() int { return r.end - r.start }

// Next returns the next frame, which is valid until the call after it.
// io.EOF says that the stream ended between frames, io.ErrUnexpectedEOF that
// it ended within one; an *Error refuses the frame, whose header is returned as
// far as it was read, and the Reader is of no more use. Other errors are the
// underlying reader's; after one that is temporary Next may be called again.
func (r *Reader) Next() (Frame, error) {
	if err := r.fill(HeaderBytes); err != nil {
		return Frame{}, err
	}
	h, err := ParseHeader(r.buf[r.start:r.end], r.maxFrame)
	if err != nil {
		return Frame{Header: h}, err
	}
	n := int(h.Len)
	if err := r.fill(n); err != nil {
		return Frame{Header: h}, err
	}
	b := r.buf[r.start : r.start+n : r.start+n]
	r.start += n
	return h.frame(b), nil
}

// fill reads until n bytes are there.
func (r *Reader) fill(n int) error {
	for empty := 0; r.Buffered() < n; {
		r.makeRoom()
		m, err := r.r.Read(r.buf[r.end:])
		r.end += m
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			err = io.ErrNoProgress
		}
		if err == nil || r.Buffered() >= n {
			continue
		}
		if err == io.EOF && r.Buffered() > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// makeRoom leaves at least one free byte behind end.
func (r *Reader) makeRoom() {
	have := r.Buffered()
	if have == 0 {
		r.start, r.end = 0, 0
		if len(r.buf) > keepBytes {
			r.buf = nil
		}
	}
	switch {
	case r.end < len(r.buf):
	case r.start > 0:
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	default:
		grown := make([]byte, max(firstRead, min(2*len(r.buf), MaxFrameBytes+firstRead)))
		copy(grown, r.buf[:have])
		r.buf = grown
	}
}
