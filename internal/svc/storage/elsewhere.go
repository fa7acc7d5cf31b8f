// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/partial"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// Elsewhere is where a tenant's objects may be that this node does not have. What
// it returns is passed through, never kept: no reference comes of it, no quota is
// charged for storage, and no list shows it.
type Elsewhere interface {
	// Find returns the tenant's object where another place has it. first is what
	// is going to be read first, so that it can come with the answer. The error is
	// NotFound where nobody has it, another kind where somebody may but could not
	// deliver.
	Find(ctx context.Context, tenant macronode.TenantID, addr b3.Addr, first Want) (Remote, error)
	// Stored and Dropped say what changed here, after it is durable. They do not wait.
	Stored(tenant macronode.TenantID, addr b3.Addr)
	Dropped(tenant macronode.TenantID, addr b3.Addr)
}

// Want is a part of an object: N bytes from Off, as far as the object goes; N 0 is
// nothing. Group is that of the slice wanted, b3.SliceChunks or b3.SliceGroups, or
// PlainBytes.
type Want struct {
	Off, N int64
	Group  int
}

// PlainBytes is the Group of bytes without a tree.
const PlainBytes = noSlice

// Remote is an object at another place. Its length is proven by the address; its
// content type is the other's word.
type Remote interface {
	Size() int64
	ContentType() string
	// Open returns once the first group of w is verified. The stream writes
	// verified bytes alone, and fails where no more can be had.
	Open(ctx context.Context, w Want) (macronode.Stream, error)
	// Close gives up what Find began and nobody opened. Streams go on.
	Close() error
}

// nowhere is the Elsewhere of a node that is alone.
type nowhere struct{}

func (nowhere) Find(context.Context, macronode.TenantID, b3.Addr, Want) (Remote, error) {
	return nil, errNoObject()
}
func (nowhere) Stored(macronode.TenantID, b3.Addr)  {}
func (nowhere) Dropped(macronode.TenantID, b3.Addr) {}

// seek looks for an object that is not here.
func (s *Service) seek(ctx context.Context, a *macronode.Admitted, r *read, body bool) error {
	var first Want
	if body && len(a.Header["If-None-Match"]) == 0 && len(a.Header["If-Match"]) == 0 {
		first = firstWant(a.Header, r)
	}
	remote, err := s.elsewhere.Find(ctx, r.tenant, r.addr, first)
	if err != nil {
		return err
	}
	r.remote = remote
	r.ref = refs.Reference{Size: remote.Size(), ContentType: foreignType(remote.ContentType())}
	return nil
}

// firstWant guesses what the reply will begin with, before the object's length is
// known. A guess that is wrong costs one more question.
func firstWant(h macronode.Header, r *read) Want {
	w := Want{N: math.MaxInt64, Group: r.group}
	if v := h["Range"]; len(v) == 1 && partial.RangeCounts(h, r.etag) {
		spans, err := partial.Ranges(v[0], math.MaxInt64)
		if err != nil || len(spans) > 1 {
			return Want{}
		}
		if len(spans) == 1 {
			w.Off, w.N = spans[0].Off, spans[0].N
		}
	}
	return w
}

// foreignType is what another node says of a type, held to what a put may say.
func foreignType(t string) string {
	t, err := contentType(macronode.Header{"Content-Type": {t}})
	if err != nil {
		return defaultContentType
	}
	return t
}

// openRemote makes the reply's stream of what another node has.
func (s *Service) openRemote(ctx context.Context, r *read) error {
	b := &remoteBody{s: s, ctx: ctx, r: r, parts: r.plan.parts, tail: r.plan.tail}
	if err := b.open(); err != nil {
		return err
	}
	r.reply.Stream = b
	return nil
}

// remoteBody is the stream of a reply whose bytes are another node's. The first
// group is verified; the rest is as it comes.
type remoteBody struct {
	s     *Service
	ctx   context.Context // of the call, which lasts as long as the stream
	r     *read
	parts []part
	tail  string
	now   macronode.Stream // of parts[0]; nil: not open
}

var _ macronode.Stream = (*remoteBody)(nil)

func (b *remoteBody) open() (err error) {
	p := b.parts[0].Span
	b.now, err = b.r.remote.Open(b.ctx, Want{Off: p.Off, N: p.N, Group: b.r.group})
	return err
}

// WriteTo implements macronode.Stream.
func (b *remoteBody) WriteTo(w io.Writer) (n int64, err error) {
	for ; len(b.parts) > 0; b.parts = b.parts[1:] {
		m, err := io.WriteString(w, b.parts[0].head)
		if n += int64(m); err != nil {
			return n, err
		}
		if b.now == nil {
			if err := b.open(); err != nil {
				return n, err
			}
		}
		sent, err := b.now.WriteTo(w)
		n += sent
		b.s.m.got.Add(float64(sent))
		err = errors.Join(err, b.now.Close())
		if b.now = nil; err != nil {
			return n, err
		}
	}
	m, err := io.WriteString(w, b.tail)
	return n + int64(m), err
}

// Close implements macronode.Stream.
func (b *remoteBody) Close() error {
	if b.now == nil {
		return nil
	}
	now := b.now
	b.now = nil
	return now.Close()
}

// Local is a tenant's object that this node has. It is to be closed.
type Local struct {
	store.Object
	s     *Service
	loc   store.Loc
	ctype string
}

// Local opens the tenant's object if it is here, and asks nobody else: NotFound
// where it is not.
func (s *Service) Local(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (*Local, error) {
	r := &read{tenant: tenant, addr: addr}
	if err := s.locate(ctx, r); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		was := r.ref.Loc
		o, err := s.openPinned(ctx, r)
		if err == nil {
			return &Local{Object: o, s: s, loc: r.ref.Loc, ctype: r.ref.ContentType}, nil
		}
		if err := s.locate(ctx, r); err != nil {
			return nil, err
		}
		if r.ref.Loc == was || try == lookups {
			s.damaged(was, err)
			return nil, s.objectError(err)
		}
	}
}

// openPinned opens the bytes of r and keeps them from being removed.
func (s *Service) openPinned(ctx context.Context, r *read) (store.Object, error) {
	if !s.pins.Add(r.ref.Loc) {
		return nil, store.ErrNotFound
	}
	o, err := s.objects.Open(ctx, r.ref.Loc, r.addr, r.ref.Size)
	if err != nil {
		s.unpin(r.ref.Loc)
	}
	return o, err
}

// damaged has damage recorded, if err is that.
func (s *Service) damaged(l store.Loc, err error) {
	if errors.Is(err, store.ErrCorrupt) {
		s.suspected(l, err)
	}
}

// ContentType is what the object was said to be when it was put.
func (l *Local) ContentType() string { return l.ctype }

// WriteSlice writes a slice of the object, every byte verified, as b3.WriteSlice does.
func (l *Local) WriteSlice(w io.Writer, group int, off, n int64) (int64, error) {
	m, err := b3.WriteSlice(w, l.Object, group, off, n)
	l.s.m.got.Add(float64(m))
	if errors.Is(err, b3.ErrMismatch) {
		err = errors.Join(store.ErrCorrupt, err)
	}
	if errors.Is(err, store.ErrCorrupt) {
		l.s.suspected(l.loc, err)
		return m, l.s.objectError(err)
	}
	return m, err
}

// Close lets the bytes go.
func (l *Local) Close() error {
	err := l.Object.Close()
	l.s.unpin(l.loc)
	return err
}

// referencePage is how many references are looked at in one view.
const referencePage = 1024

// EachReference calls f with every reference there is, in the order of tenants,
// until f returns false. What changes meanwhile may or may not be seen.
func (s *Service) EachReference(ctx context.Context, f func(macronode.TenantID, b3.Addr) bool) error {
	lo, hi := []byte(refs.RefPrefix), refs.After([]byte(refs.RefPrefix))
	page := make([]refs.Owner, 0, referencePage)
	for {
		page = page[:0]
		err := s.kv.View(ctx, func(r store.Reader) error {
			page = page[:0]
			var bad error
			err := r.Scan(lo, hi, func(key, _ []byte) bool {
				var o refs.Owner
				if o, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad != nil {
					return false
				}
				page = append(page, o)
				return len(page) < referencePage
			})
			return errors.Join(bad, err)
		})
		if err != nil {
			return s.metaError(err)
		}
		for _, o := range page {
			if !f(o.Tenant, o.Addr) {
				return nil
			}
		}
		if len(page) < referencePage {
			return nil
		}
		lo = append(page[len(page)-1].Key(), 0)
	}
}
