// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"io"

	"github.com/rustyonions/macronode"
)

// bodyReader bounds and counts a request's body.
type bodyReader struct {
	r           io.Reader
	left, bound int64
	read        int64
	kind        macronode.Kind
	place       Place // told of the waits for the client; may be nil
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		// One byte more tells a body that fits exactly from one that does not.
		var one [1]byte
		n, err := io.ReadFull(fromClient{b.r, b.place}, one[:])
		if n > 0 {
			return 0, macronode.Errorf(b.kind, "the body may have %d bytes", b.bound)
		}
		return 0, err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := fromClient{b.r, b.place}.Read(p)
	b.left -= int64(n)
	b.read += int64(n)
	return n, err
}

// boundedStream breaks a reply off that exceeds what the capability allows.
type boundedStream struct {
	macronode.Stream
	left int64
}

func (s *boundedStream) WriteTo(w io.Writer) (int64, error) {
	return s.Stream.WriteTo(&boundedWriter{w: w, left: s.left})
}

type boundedWriter struct {
	w    io.Writer
	left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, macronode.Errorf(macronode.TooLarge, "the capability's max_bytes is used up")
	}
	b.left -= int64(len(p))
	return b.w.Write(p)
}

func (b *boundedWriter) Flush() error {
	if f, ok := b.w.(macronode.Flusher); ok {
		return f.Flush()
	}
	return nil
}

// countedStream knows how much of a reply went out, whole or not, and tells the
// place which time was the client's.
type countedStream struct {
	macronode.Stream
	n  int64
	to toClient // its place may be nil
}

func (s *countedStream) WriteTo(w io.Writer) (int64, error) {
	if s.to.place != nil {
		s.to.w = w
		w = &s.to
	}
	n, err := s.Stream.WriteTo(w)
	s.n = n
	return n, err
}

// fromClient is the client as it sends; place may be nil.
type fromClient struct {
	r     io.Reader
	place Place
}

func (c fromClient) Read(p []byte) (int, error) {
	if c.place == nil {
		return c.r.Read(p)
	}
	c.place.Await()
	defer c.place.Resume() // a reader may panic; then the call still ends in order
	return c.r.Read(p)
}

// toClient is the client as it takes a reply.
type toClient struct {
	w     io.Writer
	place Place
}

func (c *toClient) Write(p []byte) (int, error) {
	c.place.Await()
	defer c.place.Resume()
	return c.w.Write(p)
}

// Flush implements macronode.Flusher.
func (c *toClient) Flush() error {
	f, ok := c.w.(macronode.Flusher)
	if !ok {
		return nil
	}
	c.place.Await()
	defer c.place.Resume()
	return f.Flush()
}

// Finish implements macronode.Finisher.
func (c *toClient) Finish(p []byte) (int, error) {
	f, ok := c.w.(macronode.Finisher)
	if !ok {
		return c.Write(p)
	}
	c.place.Await()
	defer c.place.Resume()
	return f.Finish(p)
}
