// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/etag"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/partial"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

const (
	// groupBytes is what the object store verifies at a time.
	groupBytes = 16 << 10
	// pieceBytes is the step in which objects are read and kept: of a reply, at
	// most so much is verified before its head leaves.
	pieceBytes = 128 << 10
	// smallBytes and less are answered as a body, which listeners send in one piece.
	smallBytes = 16 << 10
	// lookups bounds how often a read starts over because the bytes moved.
	lookups = 4
)

// fields are header values that every reply shares. They are never changed.
type fields struct {
	accept, cache, nosniff, sandbox, attachment, vary []string
}

func makeFields() fields {
	return fields{
		accept:     []string{"bytes"},
		cache:      []string{"private, immutable, max-age=31536000"},
		nosniff:    []string{"nosniff"},
		sandbox:    []string{"sandbox"},
		attachment: []string{"attachment"},
		vary:       []string{"Accept"},
	}
}

// header is what every answer about the object says of it.
func (s *Service) header(r *read) macronode.Header {
	r.tag[0] = r.etag
	h := macronode.Header{
		"Etag":                    r.tag[:],
		"Accept-Ranges":           s.fields.accept,
		"Cache-Control":           s.fields.cache,
		"X-Content-Type-Options":  s.fields.nosniff,
		"Content-Security-Policy": s.fields.sandbox,
		"Vary":                    s.fields.vary,
	}
	if !shown(r.ref.ContentType) {
		h["Content-Disposition"] = s.fields.attachment
	}
	return h
}

// shown reports whether a browser may show the type in place.
func shown(ctype string) bool {
	media, _, ok := strings.Cut(ctype, "/")
	return ok && (strings.EqualFold(media, "image") || strings.EqualFold(media, "audio") || strings.EqualFold(media, "video"))
}

// read is a GET or HEAD under way. It holds what its reply is made of, so
// that a small read is few allocations.
type read struct {
	tenant macronode.TenantID
	addr   b3.Addr
	etag   string
	group  int // of the slice asked for, or noSlice
	ref    refs.Reference
	remote Remote // nil: the object is here
	plan   planned
	reply  macronode.Reply
	tag    [1]string // backs the header
}

// close gives up what was begun at another node and is not being read.
func (r *read) close() {
	if r.remote != nil {
		_ = r.remote.Close()
	}
}

func etagOf(addr b3.Addr) string {
	b := make([]byte, 0, b3.TextLen+2)
	b = append(b, '"', 'b', '3', ':')
	b = hex.AppendEncode(b, addr[:])
	return string(append(b, '"'))
}

// find does what GET and HEAD share; body says that the object's bytes are wanted.
// Where done is true the reply is ready.
func (s *Service) find(ctx context.Context, a *macronode.Admitted, addr b3.Addr, body bool) (r *read, done bool, err error) {
	r = &read{tenant: a.Tenant.ID, addr: addr, etag: etagOf(addr), group: sliceGroup(a.Header)}
	if r.group != noSlice {
		r.etag = sliceTag(r.etag, r.group)
	}
	err = s.locate(ctx, r)
	if err != nil && macronode.KindOf(err) == macronode.NotFound {
		err = s.seek(ctx, a, r, body)
	}
	if err != nil {
		return nil, false, err
	}
	unchanged, err := etag.Preconditions(a.Header, r.etag)
	if err != nil {
		r.close()
		return nil, false, err
	}
	r.reply = macronode.Reply{Status: 200, ContentType: r.ref.ContentType, Header: s.header(r), Length: r.ref.Size}
	if unchanged {
		// No length: that of a 304 would be the whole object's.
		r.reply.Status, r.reply.ContentType, r.reply.Length = 304, "", -1
	}
	return r, unchanged, nil
}

// locate looks the tenant's reference up; NotFound where there is none.
func (s *Service) locate(ctx context.Context, r *read) error {
	err := s.kv.View(ctx, r.load)
	if errors.Is(err, store.ErrNotFound) {
		return errNoObject()
	}
	return s.metaError(err)
}

func (r *read) load(m store.Reader) (err error) {
	r.ref, err = refs.Get(m, refs.Owner{Tenant: r.tenant, Addr: r.addr})
	return err
}

func (s *Service) stat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	return s.Stat(ctx, a, addr)
}

// Stat answers HEAD of the caller's object addr: what GET says, without Range, which
// is GET's alone.
func (s *Service) Stat(ctx context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error) {
	r, done, err := s.find(ctx, a, addr, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if r.group != noSlice && !done {
		r.reply.Length, r.reply.ContentType = b3.SliceBytes(r.ref.Size, r.group, 0, r.ref.Size), sliceType(r.group)
	}
	return &r.reply, nil
}

func (s *Service) get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, a, addr)
}

// Get answers GET of the caller's object addr, whatever route the call came by. The
// reply's header is the caller's to change.
func (s *Service) Get(ctx context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error) {
	r, done, err := s.find(ctx, a, addr, true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if done {
		return &r.reply, nil
	}
	if r.group != noSlice {
		if err := s.asSlice(ctx, a, r); err != nil {
			return nil, err
		}
		return &r.reply, nil
	}
	var spans []partial.Span
	if h := a.Header["Range"]; len(h) == 1 && partial.RangeCounts(a.Header, r.etag) {
		if spans, err = partial.Ranges(h[0], r.ref.Size); err != nil {
			return nil, err
		}
	}
	r.plan.shape(&r.ref, spans)
	if a.ReplyBytes != macronode.NoLimit && r.plan.length > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", r.plan.length, a.ReplyBytes)
	}
	r.reply.Status, r.reply.ContentType, r.reply.Length = r.plan.status, r.plan.ctype, r.plan.length
	if r.plan.contentRange != "" {
		r.reply.Header.Set("Content-Range", r.plan.contentRange)
	}
	if err := s.fetch(ctx, r); err != nil {
		return nil, err
	}
	return &r.reply, nil
}

// fetch opens the bytes and verifies their first piece. It starts over where
// the reference moved meanwhile, so that damage is told from a put or delete
// that came between.
func (s *Service) fetch(ctx context.Context, r *read) error {
	if r.remote != nil {
		return s.openRemote(ctx, r)
	}
	for try := 1; ; try++ {
		err := s.open(ctx, r)
		if err == nil {
			return nil
		}
		was := r.ref.Loc
		if err := s.locate(ctx, r); err != nil {
			return err
		}
		if r.ref.Loc == was || try == lookups {
			e := s.objectError(err)
			if macronode.KindOf(e) == macronode.Integrity {
				s.suspected(r.ref.Loc, err)
			}
			return e
		}
	}
}

// open makes the reply's body: the bytes themselves where they are few, else a
// stream that has its first piece already.
func (s *Service) open(ctx context.Context, r *read) error {
	if r.group != noSlice {
		return s.openSlice(ctx, r)
	}
	head := r.plan.parts[0].Span
	if len(r.plan.parts) == 1 && head.N <= smallBytes {
		src := reader{s: s, r: r}
		defer src.close()
		b := make([]byte, head.N)
		for n := 0; n < len(b); {
			p, err := src.next(ctx, head.Off+int64(n), head.Off+head.N)
			if err != nil {
				return err
			}
			n += copy(b[n:], p)
		}
		s.m.got.Add(float64(len(b)))
		r.reply.Body = b
		return nil
	}
	// The pin comes first: once it holds, the bytes stay for as long as the
	// stream wants them.
	if !s.pins.Add(r.ref.Loc) {
		return store.ErrNotFound
	}
	b := &body{reader: reader{s: s, r: r}, ctx: ctx, parts: r.plan.parts, tail: r.plan.tail}
	var err error
	if b.ready, err = b.next(ctx, head.Off, head.Off+head.N); err != nil {
		b.Close()
		return err
	}
	r.reply.Stream = b
	return nil
}

// unpin lets the bytes at l be removed, where they wait for that.
func (s *Service) unpin(l store.Loc) {
	if s.pins.Drop(l) {
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
