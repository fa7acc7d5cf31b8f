// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
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

// body is the stream of an object's bytes. The first piece is verified and at
// hand; the rest is verified as it goes.
type body struct {
	s      *Service
	o      store.Object
	loc    store.Loc
	first  *[]byte
	nfirst int
	parts  []part
	tail   string
}

var _ macronode.Stream = (*body)(nil)

// WriteTo implements macronode.Stream.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	var sent int64 // of the object's own bytes
	defer func() { b.s.m.got.Add(float64(sent)) }()
	ready := (*b.first)[:b.nfirst]
	for _, p := range b.parts {
		m, err := io.WriteString(w, p.head)
		if n += int64(m); err != nil {
			return n, err
		}
		m, err = w.Write(ready)
		n, sent = n+int64(m), sent+int64(m)
		if err != nil {
			return n, err
		}
		rest := partial.Span{Off: p.Off + int64(len(ready)), N: p.N - int64(len(ready))}
		ready = nil
		if rest.N == 0 {
			continue
		}
		moved, err := b.o.WriteRange(w, rest.Off, rest.N)
		n, sent = n+moved, sent+moved
		if err != nil {
			return n, b.failed(err)
		}
		if moved < rest.N {
			return n, b.failed(errors.Join(store.ErrCorrupt, io.ErrUnexpectedEOF))
		}
	}
	m, err := io.WriteString(w, b.tail)
	return n + int64(m), err
}

// failed tells damage from a client that went away.
func (b *body) failed(err error) error {
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	b.s.log.Error("stored bytes are damaged", "event", "object.damaged", "where", "body", "error", err)
	return b.s.objectError(err)
}

// Close implements macronode.Stream.
func (b *body) Close() error {
	b.s.firsts.Put(b.first)
	b.first = nil
	err := b.o.Close()
	b.s.unpin(b.loc)
	return err
}
