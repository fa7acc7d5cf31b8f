// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	// groupBytes is what the object store verifies at a time.
	groupBytes = 16 << 10
	// firstBytes of a reply, at most, are verified before its head leaves.
	firstBytes = 64 << 10
	// smallBytes and less are answered as a body, which listeners send in one piece.
	smallBytes = 16 << 10
	// lookups bounds how often a read starts over because the bytes moved.
	lookups = 4
)

// fields are header values that every reply shares. They are never changed.
type fields struct {
	accept, cache, nosniff, sandbox, attachment []string
}

func makeFields() fields {
	return fields{
		accept:     []string{"bytes"},
		cache:      []string{"private, immutable, max-age=31536000"},
		nosniff:    []string{"nosniff"},
		sandbox:    []string{"sandbox"},
		attachment: []string{"attachment"},
	}
}

// header is what every answer about an object says of it.
func (s *Service) header(etag, ctype string) macronode.Header {
	h := macronode.Header{
		"Etag":                    {etag},
		"Accept-Ranges":           s.fields.accept,
		"Cache-Control":           s.fields.cache,
		"X-Content-Type-Options":  s.fields.nosniff,
		"Content-Security-Policy": s.fields.sandbox,
	}
	if !shown(ctype) {
		h["Content-Disposition"] = s.fields.attachment
	}
	return h
}

// shown reports whether a browser may show the type in place.
func shown(ctype string) bool {
	media, _, ok := strings.Cut(ctype, "/")
	return ok && (strings.EqualFold(media, "image") || strings.EqualFold(media, "audio") || strings.EqualFold(media, "video"))
}

// read is a GET or HEAD whose reference was found and whose preconditions hold.
type read struct {
	addr  b3.Addr
	etag  string
	ref   reference
	reply *macronode.Reply
}

func etagOf(addr b3.Addr) string { return `"` + addr.String() + `"` }

// find does what GET and HEAD share. A reply in the result is the answer.
func (s *Service) find(ctx context.Context, a *macronode.Admitted) (*read, error) {
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	r := &read{addr: addr, etag: etagOf(addr)}
	if r.ref, err = s.reference(ctx, a.Tenant.ID, addr); err != nil {
		return nil, err
	}
	c, err := preconditions(a.Header, r.etag)
	if err != nil {
		return nil, err
	}
	if c == notModified {
		// No length: that of a 304 would be the whole object's.
		r.reply = &macronode.Reply{Status: 304, Header: s.header(r.etag, r.ref.ctype), Length: -1}
	}
	return r, nil
}

// reference is the tenant's hold on addr, or NotFound.
func (s *Service) reference(ctx context.Context, t macronode.TenantID, addr b3.Addr) (ref reference, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error {
		ref, err = getReference(r, t, addr)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return reference{}, errNoObject()
	}
	return ref, s.metaError(err)
}

// stat answers HEAD: what GET says, without Range, which is GET's alone.
func (s *Service) stat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	r, err := s.find(ctx, a)
	if err != nil || r.reply != nil {
		return r.answer(), err
	}
	return &macronode.Reply{
		Status: 200, ContentType: r.ref.ctype, Header: s.header(r.etag, r.ref.ctype), Length: r.ref.size,
	}, nil
}

func (r *read) answer() *macronode.Reply {
	if r == nil {
		return nil
	}
	return r.reply
}

func (s *Service) get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	r, err := s.find(ctx, a)
	if err != nil || r.reply != nil {
		return r.answer(), err
	}
	var spans []span
	if h := a.Header["Range"]; len(h) == 1 && rangeCounts(a.Header, r.etag) {
		if spans, err = parseRanges(h[0], r.ref.size); err != nil {
			return nil, err
		}
	}
	p := plan(r, spans)
	if a.ReplyBytes != macronode.NoLimit && p.length > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", p.length, a.ReplyBytes)
	}
	reply := &macronode.Reply{Status: p.status, ContentType: p.ctype, Header: s.header(r.etag, r.ref.ctype), Length: p.length}
	if p.contentRange != "" {
		reply.Header.Set("Content-Range", p.contentRange)
	}
	if err := s.fetch(ctx, a.Tenant.ID, r, p, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// fetch opens the bytes and verifies their first piece. It starts over where
// the reference moved meanwhile, so that damage is told from a put or delete
// that came between.
func (s *Service) fetch(ctx context.Context, t macronode.TenantID, r *read, p *planned, reply *macronode.Reply) error {
	for try := 1; ; try++ {
		err := s.open(ctx, r, p, reply)
		if err == nil {
			return nil
		}
		now, lerr := s.reference(ctx, t, r.addr)
		if lerr != nil {
			return lerr
		}
		if now.loc == r.ref.loc || try == lookups {
			err = s.objectError(err)
			if macronode.KindOf(err) == macronode.Integrity {
				s.log.Error("stored bytes are damaged", "event", "object.damaged", "tenant", t.String(), "where", "head", "error", errors.Unwrap(err))
			}
			return err
		}
		r.ref = now
	}
}

// open makes reply's body: the bytes themselves where they are few, else a
// stream that has its first piece already.
func (s *Service) open(ctx context.Context, r *read, p *planned, reply *macronode.Reply) error {
	if len(p.parts) == 1 && p.parts[0].n <= smallBytes {
		o, err := s.objects.Open(ctx, r.ref.loc, r.addr, r.ref.size)
		if err != nil {
			return err
		}
		defer o.Close()
		b := make([]byte, p.parts[0].n)
		if err := readFull(o, b, p.parts[0].off); err != nil {
			return err
		}
		s.m.got.Add(float64(len(b)))
		reply.Body = b
		return nil
	}
	// The pin comes first: once it holds, the bytes stay for as long as the
	// stream wants them.
	if !s.pins.add(r.ref.loc) {
		return store.ErrNotFound
	}
	o, err := s.objects.Open(ctx, r.ref.loc, r.addr, r.ref.size)
	if err != nil {
		s.unpin(r.ref.loc)
		return err
	}
	b := &body{s: s, o: o, loc: r.ref.loc, parts: p.parts, tail: p.tail, first: s.firsts.Get().(*[]byte)}
	head := p.parts[0].span
	b.nfirst = int(min(head.n, firstBytes-head.off%groupBytes))
	if err := readFull(o, (*b.first)[:b.nfirst], head.off); err != nil {
		b.Close()
		return err
	}
	reply.Stream = b
	return nil
}

// unpin lets the bytes at l be removed, where they wait for that.
func (s *Service) unpin(l store.Loc) {
	if s.pins.drop(l) {
		s.wake()
	}
}

// readFull fills p, which lies inside the object.
func readFull(o store.Object, p []byte, off int64) error {
	n, err := o.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return errors.Join(store.ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return err
}
