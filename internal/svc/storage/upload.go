// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"errors"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
	"github.com/rustyonions/macronode/internal/svc/storage/reserve"
)

const (
	// maxPutReply bounds the answer to a put, which counts against max_bytes.
	maxPutReply = 128
	// reserveStep is how many bytes of its tenant's quota an upload reserves
	// ahead of the stream, at most.
	reserveStep = 4 << 20
	// headBytes is what an upload reads, at most, before it takes a chunk's memory.
	headBytes = 4<<10 + 1
)

func (s *Service) put(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	return s.store(ctx, a, &addr)
}

func (s *Service) post(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return s.store(ctx, a, nil)
}

func addrArg(a *macronode.Admitted) (b3.Addr, error) {
	addr, err := b3.Parse(a.Arg("addr"))
	if err != nil {
		return b3.Addr{}, macronode.Errorf(macronode.Malformed, "%w", err)
	}
	return addr, nil
}

// upload is one put under way. It belongs to the goroutine of the call.
type upload struct {
	s     *Service
	a     *macronode.Admitted
	want  *b3.Addr // nil: any bytes will do
	ctype string
	src   *source
	claim *idem.Claim
	hold  *reserve.Hold
	held  bool // the tenant has the object already: it costs no quota
	w     store.ObjectWriter
}

// store reads the call's body and keeps it as an object of the tenant.
func (s *Service) store(ctx context.Context, a *macronode.Admitted, want *b3.Addr) (*macronode.Reply, error) {
	u := &upload{s: s, a: a, want: want}
	var err error
	if u.ctype, err = contentType(a.Header); err != nil {
		return nil, err
	}
	if a.Header.Get("Content-Range") != "" {
		return nil, macronode.Errorf(macronode.Malformed, "an object is stored whole; Content-Range is not taken")
	}
	coding, err := contentCoding(a.Header)
	if err != nil {
		return nil, err
	}
	if u.claim, err = s.idem.Open(ctx, a); err != nil {
		return nil, s.claimError(err)
	}
	defer u.claim.Release()
	u.src = newSource(a, coding, s.limits.Load(), &s.decoders)
	defer u.src.Close()
	if u.claim.Recorded() {
		return u.replay()
	}
	if err := u.answerable(max(a.Length, 0)); err != nil {
		return nil, err
	}
	if u.hold, err = s.ledger.Open(ctx, a.Tenant.ID); err != nil {
		return nil, s.metaError(err)
	}
	defer u.hold.Release()
	if err := u.begin(ctx); err != nil {
		return nil, err
	}
	defer u.abort()
	if err := u.receive(ctx); err != nil {
		return nil, err
	}
	return u.commit(ctx)
}

// claimError passes on what idem.Open refused, and notices damage.
func (s *Service) claimError(err error) error {
	if errors.Is(err, store.ErrCorrupt) {
		s.fail(err)
	}
	return err
}

// begin reserves the object's place and its first bytes. One that the tenant is
// known to have needs neither.
func (u *upload) begin(ctx context.Context) error {
	if u.want != nil {
		var err error
		if u.held, err = u.s.has(ctx, refs.Owner{Tenant: u.a.Tenant.ID, Addr: *u.want}); err != nil || u.held {
			return err
		}
	}
	length := int64(0)
	if u.src.coding == identity {
		length = max(u.a.Length, 0)
	}
	return u.hold.Begin(&u.a.Tenant.Quota, length, reserveStep)
}

// has reports whether o has the object.
func (s *Service) has(ctx context.Context, o refs.Owner) (bool, error) {
	err := s.kv.View(ctx, func(r store.Reader) error {
		_, err := refs.Get(r, o)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, s.metaError(err)
}

// reserve sees to it that what came in so far is reserved, and some more where
// more is to come.
func (u *upload) reserve(last bool) error {
	need := u.src.out - u.hold.Bytes()
	if need <= 0 || u.held {
		return nil
	}
	want := need
	if !last {
		want = max(need, min(u.src.out, reserveStep))
		if left := u.a.Length - u.hold.Bytes(); u.src.coding == identity && u.a.Length >= 0 {
			want = max(need, min(left, reserveStep))
		}
	}
	return u.hold.Grow(&u.a.Tenant.Quota, need, want)
}

// receive moves the body into a new object, in steps of one chunk. A first
// chunk that is refused leaves no trace on the disk, and until a head of one came
// an upload holds little memory: thousands may dawdle.
func (u *upload) receive(ctx context.Context) error {
	if err := u.src.open(); err != nil {
		return err
	}
	head := u.s.heads.Get().(*[]byte)
	n, last, err := u.src.fill((*head)[:min(headBytes, u.src.limits.ChunkBytes)])
	if err != nil || last {
		if err == nil {
			err = u.take(ctx, (*head)[:n], true)
		}
		u.s.heads.Put(head)
		return cmp.Or(err, u.answerable(u.src.wire.n))
	}
	buf := u.src.limits.chunks.Get().(*[]byte)
	defer u.src.limits.chunks.Put(buf)
	have := copy(*buf, (*head)[:n])
	u.s.heads.Put(head)
	for !last {
		if n, last, err = u.src.fill((*buf)[have:]); err != nil {
			return err
		}
		if err := u.take(ctx, (*buf)[:have+n], last); err != nil {
			return err
		}
		have = 0
	}
	return u.answerable(u.src.wire.n)
}

// take keeps a chunk that has come in.
func (u *upload) take(ctx context.Context, p []byte, last bool) error {
	if err := u.reserve(last); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return store.Refusal(err)
	}
	return u.write(ctx, p, last)
}

// answerable refuses a call whose answer would exceed what max_bytes leaves
// after a body of n bytes: nothing must be stored that cannot be acknowledged.
func (u *upload) answerable(n int64) error {
	if r := u.a.ReplyBytes; r != macronode.NoLimit && r-n < maxPutReply {
		return macronode.Errorf(macronode.TooLarge, "the capability's max_bytes leaves no room for the answer")
	}
	return nil
}

func (u *upload) write(ctx context.Context, p []byte, last bool) (err error) {
	if u.w == nil {
		hint := int64(-1)
		if last {
			hint = u.src.out
		} else if u.src.coding == identity {
			hint = u.a.Length
		}
		if u.w, err = u.s.objects.Create(ctx, hint); err != nil {
			return u.s.writeError(err)
		}
	}
	if len(p) > 0 {
		if _, err := u.w.Write(p); err != nil {
			return u.s.writeError(err)
		}
	}
	return nil
}

// writeError is objectError for bytes on their way in, where damage is the
// store's failure and not the object's.
func (s *Service) writeError(err error) error {
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
		return macronode.Wrap(macronode.Internal, "", err)
	}
	return store.Refusal(err)
}

func (u *upload) abort() {
	if u.w != nil {
		u.w.Abort()
	}
}

// commit makes the bytes durable, and then the reference to them with all
// that depends on it.
func (u *upload) commit(ctx context.Context) (*macronode.Reply, error) {
	s, t := u.s, u.a.Tenant
	defer s.window.Leave(s.window.Enter())
	loc, addr, size, err := u.w.Commit()
	if err != nil {
		return nil, s.writeError(err)
	}
	// From here on the work is done whether or not the client still waits.
	ctx = context.WithoutCancel(ctx)
	if _, err := u.claim.Match(u.fingerprint(addr, size)); err != nil {
		s.collector.Discard(ctx, loc)
		return nil, err
	}
	if u.want != nil && addr != *u.want {
		s.collector.Discard(ctx, loc)
		return nil, s.claimError(u.claim.Fail(ctx, u.a, macronode.Errorf(macronode.BadDigest, "the bytes have the address %s", addr)))
	}
	ref := refs.Reference{Size: size, Created: s.now().UnixMilli(), Loc: loc, ContentType: u.ctype}
	var existed bool
	var reply *macronode.Reply
	var refusal error // the closure's own: then the commit is known not to be
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		existed, refusal = refs.Put(tx, refs.Owner{Tenant: t.ID, Addr: addr}, &t.Quota, ref)
		if refusal == nil {
			refusal = s.changes.Put(tx, t.ID, addr)
		}
		if refusal == nil {
			reply = putReply(addr, size, existed)
			refusal = u.claim.Keep(tx, reply)
		}
		return refusal
	})
	if err != nil {
		if refusal != nil || errors.Is(err, store.ErrFull) {
			s.collector.Discard(ctx, loc)
		} else {
			// The outcome is not known before the next start, whose sweep
			// removes the bytes if nothing refers to them.
			u.hold.Unsure()
		}
		return nil, s.metaError(err)
	}
	s.m.put.Add(float64(size))
	if existed {
		s.replaced()
	} else {
		u.hold.Settle(size, 1)
	}
	s.elsewhere.Stored(t.ID, addr)
	return reply, nil
}

// fingerprint is what makes two puts the same request: the bytes, what they
// were said to be, and where they were put. How they were encoded is not.
func (u *upload) fingerprint(addr b3.Addr, size int64) idem.Fingerprint {
	to := ""
	if u.want != nil {
		to = u.want.String()
	}
	return idem.Hash(to, u.ctype, string(addr[:]), strconv.FormatInt(size, 10))
}

// replay answers a call whose key has its answer: the body is read and hashed,
// not stored, to tell a retry from another request.
func (u *upload) replay() (*macronode.Reply, error) {
	if err := u.src.open(); err != nil {
		return nil, err
	}
	buf := u.src.limits.chunks.Get().(*[]byte)
	defer u.src.limits.chunks.Put(buf)
	h := b3.NewHasher(nil)
	for last := false; !last; {
		var n int
		var err error
		if n, last, err = u.src.fill(*buf); err != nil {
			return nil, err
		}
		if _, err := h.Write((*buf)[:n]); err != nil {
			return nil, macronode.Wrap(macronode.Internal, "", err)
		}
	}
	addr, err := h.Sum()
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return u.claim.Match(u.fingerprint(addr, u.src.out))
}

func putReply(addr b3.Addr, size int64, existed bool) *macronode.Reply {
	text := addr.String()
	b := make([]byte, 0, maxPutReply)
	b = append(b, `{"addr":"`...)
	b = append(b, text...)
	b = append(b, `","size":`...)
	b = strconv.AppendInt(b, size, 10)
	b = append(b, `,"existed":`...)
	b = strconv.AppendBool(b, existed)
	b = append(b, '}')
	status := 201
	if existed {
		status = 200
	}
	return &macronode.Reply{
		Status: status, ContentType: "application/json",
		Header: macronode.Header{"Location": {"/o/" + text}}, Body: b,
	}
}
