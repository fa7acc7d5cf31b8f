// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	// maxPutReply bounds the answer to a put, which counts against max_bytes.
	maxPutReply = 128
	// roomStep is how many bytes an upload takes between looks at what the
	// tenant has left. The look at the end is the one that counts.
	roomStep = 32 << 20
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
	held  bool  // the tenant has the object already: it costs no quota
	room  int64 // decoded bytes that the quota leaves, as last looked at
	next  int64 // where to look again
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
	if err := u.look(ctx); err != nil {
		return nil, err
	}
	if a.Length > 0 && coding == identity && a.Length > u.room {
		return nil, u.overQuota()
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

// look finds out what the quota leaves, and refuses where that is no object.
func (u *upload) look(ctx context.Context) error {
	t := u.a.Tenant
	var have usage
	err := u.s.kv.View(ctx, func(r store.Reader) (err error) {
		if u.want != nil {
			_, err := getReference(r, t.ID, *u.want)
			if u.held = err == nil; !u.held && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		have, err = getUsage(r, t.ID)
		return err
	})
	if err != nil {
		return u.s.metaError(err)
	}
	if u.held {
		u.room, u.next = u.src.limits.MaxObjectBytes, u.src.limits.MaxObjectBytes
		return nil
	}
	u.room = have.room(&t.Quota)
	u.next = u.src.out + roomStep
	return have.fits(&t.Quota, 0)
}

func (u *upload) overQuota() error {
	return macronode.Errorf(macronode.QuotaBytes, "the tenant may store %d bytes", u.a.Tenant.Quota.StoredBytes)
}

// receive moves the body into a new object, in steps of one chunk. A first
// chunk that is refused leaves no trace on the disk.
func (u *upload) receive(ctx context.Context) error {
	if err := u.src.open(); err != nil {
		return err
	}
	buf := u.src.limits.chunks.Get().(*[]byte)
	defer u.src.limits.chunks.Put(buf)
	for last := false; !last; {
		var n int
		var err error
		if n, last, err = u.src.fill(*buf); err != nil {
			return err
		}
		if u.src.out >= u.next && !last {
			if err := u.look(ctx); err != nil {
				return err
			}
		}
		if u.src.out > u.room {
			return u.overQuota()
		}
		if err := ctx.Err(); err != nil {
			return store.Refusal(err)
		}
		if err := u.write(ctx, (*buf)[:n], last); err != nil {
			return err
		}
	}
	return u.answerable(u.src.wire.n)
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
	defer s.window.leave(s.window.enter())
	loc, addr, size, err := u.w.Commit()
	if err != nil {
		return nil, s.writeError(err)
	}
	// From here on the work is done whether or not the client still waits.
	ctx = context.WithoutCancel(ctx)
	if _, err := u.claim.Match(u.fingerprint(addr, size)); err != nil {
		s.discard(ctx, loc)
		return nil, err
	}
	if u.want != nil && addr != *u.want {
		s.discard(ctx, loc)
		return nil, s.claimError(u.claim.Fail(ctx, u.a, macronode.Errorf(macronode.BadDigest, "the bytes have the address %s", addr)))
	}
	ref := reference{size: size, created: s.now().UnixMilli(), loc: loc, ctype: u.ctype}
	var existed bool
	var reply *macronode.Reply
	var refusal error // the closure's own: then the commit is known not to be
	err = s.kv.Update(ctx, func(tx store.Tx) error {
		existed, refusal = putReference(tx, t, addr, ref)
		if refusal == nil {
			reply = putReply(addr, size, existed)
			refusal = u.claim.Keep(tx, reply)
		}
		return refusal
	})
	if err != nil {
		if refusal != nil || errors.Is(err, store.ErrFull) {
			s.discard(ctx, loc)
		}
		// Otherwise the outcome is not known before the next start, whose
		// sweep removes the bytes if nothing refers to them.
		return nil, s.metaError(err)
	}
	s.m.put.Add(float64(size))
	if existed {
		s.wake()
	}
	return reply, nil
}

// discard removes bytes that were committed and are not wanted.
func (s *Service) discard(ctx context.Context, loc store.Loc) {
	err := s.objects.Remove(ctx, loc)
	if err == nil {
		return
	}
	// They are queued, or else found by the sweep of the next start.
	err2 := s.kv.Reclaim(ctx, func(tx store.Tx) error { return letGo(tx, loc) })
	s.log.Warn("unwanted bytes were not removed at once", "event", "object.discard", "error", err, "queued", err2 == nil)
	s.wake()
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
