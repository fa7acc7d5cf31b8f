// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"math"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
	"github.com/rustyonions/macronode/internal/svc/storage/partial"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// planned is the shape of a reply, before any byte is read.
type planned struct {
	status       int
	ctype        string
	contentRange string
	length       int64
	parts        []part
	tail         string
	one          [1]part // backs parts where there is one
}

// part is a span of the object with what stands before it.
type part struct {
	partial.Span
	head string
}

// shape plans the reply for the spans asked for; none means the whole.
func (p *planned) shape(ref *refs.Reference, spans []partial.Span) {
	*p = planned{status: 206, ctype: ref.ContentType}
	p.parts = p.one[:]
	switch len(spans) {
	case 0:
		p.status, p.length = 200, ref.Size
		p.one[0].Span = partial.Span{N: ref.Size}
		return
	case 1:
		p.length, p.contentRange = spans[0].N, spans[0].ContentRange(ref.Size)
		p.one[0].Span = spans[0]
		return
	}
	// The boundary is random, so that no stored bytes can pass for it.
	var random [16]byte
	_, _ = rand.Read(random[:]) // it does not fail
	boundary := hex.EncodeToString(random[:])
	p.ctype, p.tail = "multipart/byteranges; boundary="+boundary, "\r\n--"+boundary+"--\r\n"
	p.parts = make([]part, 0, len(spans))
	delimiter := "--" + boundary
	for _, s := range spans {
		head := delimiter + "\r\nContent-Type: " + ref.ContentType + "\r\nContent-Range: " + s.ContentRange(ref.Size) + "\r\n\r\n"
		p.parts = append(p.parts, part{s, head})
		p.length += int64(len(head)) + s.N
		delimiter = "\r\n--" + boundary
	}
	p.length += int64(len(p.tail))
}

// reader gives the verified bytes of one object, kept ones where they are at
// hand. It is used by one goroutine.
type reader struct {
	s    *Service
	r    *read
	o    store.Object // nil until something had to be read
	held hot.Ref      // what next returned last, where it is the cache's
	mem  *[]byte      // where it is not
}

// next returns bytes from off on, at least one and none from end on. They hold
// until the next call.
func (c *reader) next(ctx context.Context, off, end int64) ([]byte, error) {
	c.held.Release()
	start := off - off%pieceBytes
	whole := min(pieceBytes, c.r.ref.Size-start)
	from, to := off-start, min(end-start, whole)
	key := hot.Key{Tenant: c.r.tenant, Addr: c.r.addr, Piece: uint32(start / pieceBytes)}
	cached := c.s.hot != nil && start/pieceBytes <= math.MaxUint32
	if cached {
		if ref, ok := c.s.hot.Get(key); ok {
			c.held = ref
			return ref.Bytes()[from:to], nil
		}
	}
	if c.o == nil {
		o, err := c.s.objects.Open(ctx, c.r.ref.Loc, c.r.addr, c.r.ref.Size)
		if err != nil {
			return nil, err
		}
		c.o = o
	}
	if cached {
		if slot, ok := c.s.hot.Reserve(key, int(whole), c.r.ref.Size); ok {
			if readFull(c.o, slot.Bytes(), start) == nil {
				c.held = slot.Publish()
				return c.held.Bytes()[from:to], nil
			}
			slot.Drop() // damage beside the bytes that are asked for is not theirs
		}
	}
	if c.mem == nil {
		c.mem = c.s.pieces.Get().(*[]byte)
	}
	low := from - from%groupBytes
	p := (*c.mem)[:min(to+groupBytes-1-(to+groupBytes-1)%groupBytes, whole)-low]
	if err := readFull(c.o, p, start+low); err != nil {
		return nil, err
	}
	return p[from-low : to-low], nil
}

func (c *reader) close() {
	c.held.Release()
	if c.mem != nil {
		c.s.pieces.Put(c.mem)
		c.mem = nil
	}
	if c.o != nil {
		_ = c.o.Close() // it was only read
		c.o = nil
	}
}

// body is the stream of an object's bytes. The first piece is verified and at
// hand; the rest is verified as it goes.
type body struct {
	reader
	ctx   context.Context // of the call, which lasts as long as the stream
	ready []byte
	parts []part
	tail  string
}

var _ macronode.Stream = (*body)(nil)

// WriteTo implements macronode.Stream.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	var sent int64 // of the object's own bytes
	defer func() { b.s.m.got.Add(float64(sent)) }()
	for i, p := range b.parts {
		m, err := io.WriteString(w, p.head)
		if n += int64(m); err != nil {
			return n, err
		}
		for off, end := p.Off, p.Off+p.N; off < end; {
			piece := b.ready
			if b.ready = nil; piece == nil {
				if piece, err = b.next(b.ctx, off, end); err != nil {
					return n, b.failed(err)
				}
			}
			off += int64(len(piece))
			if off == end && i == len(b.parts)-1 && b.tail == "" {
				m, err = finish(w, piece)
			} else {
				m, err = w.Write(piece)
			}
			n, sent = n+int64(m), sent+int64(m)
			if err != nil {
				return n, err
			}
		}
	}
	m, err := io.WriteString(w, b.tail)
	return n + int64(m), err
}

// finish writes the last bytes, which are verified like the rest.
func finish(w io.Writer, p []byte) (int, error) {
	if f, ok := w.(macronode.Finisher); ok {
		return f.Finish(p)
	}
	return w.Write(p)
}

// failed tells damage from a client that went away.
func (b *body) failed(err error) error {
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	b.s.suspected(b.r.ref.Loc, err)
	return b.s.objectError(err)
}

// Close implements macronode.Stream.
func (b *body) Close() error {
	b.close()
	b.s.unpin(b.r.ref.Loc)
	return nil
}
