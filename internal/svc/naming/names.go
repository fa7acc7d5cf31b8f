// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/etag"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
)

// cacheNames says that what is known of a name is asked for again each time, which
// its ETag makes cheap.
var cacheNames = []string{"private, no-cache"}

// shown answers with one version of a name.
func shown(a *macronode.Admitted, status int, name string, r *record) (*macronode.Reply, error) {
	reply, err := answer(a, status, appendDocument(make([]byte, 0, 256+len(name)+len(r.meta)), name, r))
	if err == nil {
		reply.Header = macronode.Header{"Etag": {tag(r.version)}, "Cache-Control": cacheNames}
	}
	return reply, err
}

func (s *Service) get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	name, err := s.nameArg(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs("name"); err != nil {
		return nil, err
	}
	r, err := s.lookup(ctx, a.Tenant.ID, name)
	if err != nil {
		return nil, err
	}
	unchanged, err := etag.Preconditions(a.Header, tag(r.version))
	if err != nil {
		return nil, err
	}
	if unchanged {
		return &macronode.Reply{Status: 304, Length: -1, Header: macronode.Header{"Etag": {tag(r.version)}, "Cache-Control": cacheNames}}, nil
	}
	return shown(a, 200, name, &r)
}

func (s *Service) put(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	name, err := s.nameArg(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs("name"); err != nil {
		return nil, err
	}
	v, err := parseSet(body)
	if err != nil {
		return nil, err
	}
	c := conditionOf(a.Header)
	event := macronode.AuditEvent{Stream: stream(a.Tenant.ID), Kind: "name.set", Actor: a.Actor(), Subject: a.Binding.Resource.Prefix() + "/" + name,
		Attrs: map[string]any{"addr": v.addr.String(), "ttl_s": int64(v.ttl)}}
	var reply *macronode.Reply
	out, err := s.change(ctx, a.Tenant.ID, name, c, event, s.kv.Update, func(w *write) (result, error) {
		out, err := w.set(v, c)
		if err != nil {
			return out, err
		}
		status := 201
		if out.existed {
			status = 200
		}
		if reply, err = shown(a, status, name, &out.record); err != nil {
			return out, err
		}
		if !out.existed {
			reply.Header["Location"] = []string{"/v1/names/" + escaped(name)}
		}
		return out, claim.Keep(w.tx, reply)
	})
	if err != nil {
		return nil, err
	}
	s.m.set.Inc()
	if !out.existed {
		s.m.names.Inc()
	}
	return reply, nil
}

func (s *Service) drop(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	name, err := s.nameArg(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs("name"); err != nil {
		return nil, err
	}
	if len(body) > 0 {
		return nil, macronode.Errorf(macronode.Malformed, "this call has no body")
	}
	c := conditionOf(a.Header)
	event := macronode.AuditEvent{Stream: stream(a.Tenant.ID), Kind: "name.delete", Actor: a.Actor(), Subject: a.Binding.Resource.Prefix() + "/" + name}
	reply := &macronode.Reply{Status: 204}
	// A full disk must not keep a name alive.
	_, err = s.change(ctx, a.Tenant.ID, name, c, event, s.kv.Reclaim, func(w *write) (result, error) {
		out, err := w.drop(c)
		if err != nil {
			return out, err
		}
		return out, claim.Keep(w.tx, reply)
	})
	if err != nil {
		return nil, err
	}
	s.m.deleted.Inc()
	s.m.names.Dec()
	return reply, nil
}

// change makes one change of a name: first it is judged whether it can be made, so
// that what cannot is not recorded; then it is recorded; then it is made, judged
// again in its transaction.
func (s *Service) change(ctx context.Context, t macronode.TenantID, name string, c condition, event macronode.AuditEvent,
	commit func(context.Context, func(store.Tx) error) error, do func(*write) (result, error)) (out result, err error) {
	var version uint64
	err = s.kv.View(ctx, func(r store.Reader) error {
		was, err := current(r, t, name)
		if err != nil {
			return err
		}
		if was != nil {
			version = was.version
		} else if event.Kind == "name.delete" && len(c.match) == 0 {
			return errNoName()
		}
		return c.judge(was)
	})
	if err != nil {
		return out, s.lost(err)
	}
	if event.Attrs == nil {
		event.Attrs = map[string]any{}
	}
	event.Attrs["from_version"] = int64(version) //nolint:gosec // far below
	if err := s.audit.Append(ctx, event); err != nil {
		return out, macronode.Wrap(macronode.Unavailable, "the audit log takes no records, so nothing was done", err)
	}
	limits := *s.limits.Load()
	now := s.now().UnixMilli()
	err = commit(ctx, func(tx store.Tx) (err error) {
		out, err = do(&write{s: s, tx: tx, tenant: t, name: name, now: now, max: limits})
		return err
	})
	if err != nil {
		err = s.lost(err)
		event.Reason = macronode.KindOf(err).String()
		s.audit.Record(event)
		return out, err
	}
	s.hub.wake(t)
	return out, nil
}

// lost counts what a condition refused.
func (s *Service) lost(err error) error {
	err = s.storeError(err)
	if macronode.KindOf(err) == macronode.PreconditionFailed {
		s.m.conflicts.Inc()
	}
	return err
}

func stream(t macronode.TenantID) string { return "tenant/" + t.String() }

// escaped is a name in a path: what is not ASCII in percent form.
func escaped(name string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(name))
	for i := range len(name) {
		if c := name[i]; c < 0x80 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func (s *Service) history(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	name, err := s.nameArg(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs("name", "cursor", "limit"); err != nil {
		return nil, err
	}
	limit, err := a.NumberArg("limit", defaultPage, 1, maxPage)
	if err != nil {
		return nil, err
	}
	lo := append(nameKey(a.Tenant.ID, keyHistory, name), 0)
	hi := after(lo)
	if c := a.Arg("cursor"); c != "" {
		last, err := strconv.ParseUint(c, 10, 64)
		if err != nil || last == 0 {
			return nil, badCursor()
		}
		lo = append(versionKey(a.Tenant.ID, name, last), 0)
	}
	p := page{limit: int(limit), open: `{"versions":[`}
	err = s.kv.View(ctx, func(r store.Reader) error {
		p.begin()
		return p.scan(r, lo, hi, func(k []byte) (string, string) {
			return name, strconv.FormatUint(^binary.BigEndian.Uint64(k[len(k)-8:]), 10)
		})
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	if p.n == 0 && a.Arg("cursor") == "" {
		return nil, errNoName()
	}
	return answer(a, 200, p.end(""))
}

// object answers with the object that a name points at.
func (s *Service) object(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return s.named(ctx, a, s.objects.Get)
}

func (s *Service) objectStat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return s.named(ctx, a, s.objects.Stat)
}

func (s *Service) named(ctx context.Context, a *macronode.Admitted, ask func(context.Context, *macronode.Admitted, b3.Addr) (*macronode.Reply, error)) (*macronode.Reply, error) {
	name, err := s.nameArg(a)
	if err != nil {
		return nil, err
	}
	r, err := s.lookup(ctx, a.Tenant.ID, name)
	// Whose names they are is judged after the look-up, so that a stranger's call
	// takes as long as one that finds nothing.
	if t := a.Arg("tenant"); t != a.Tenant.Label && t != a.Tenant.ID.String() {
		return nil, errNoName()
	}
	if err != nil {
		return nil, err
	}
	reply, err := ask(ctx, a, r.addr)
	if err != nil {
		if macronode.KindOf(err) == macronode.NotFound {
			return nil, macronode.Errorf(macronode.NotFound, "the object that the name points at is not there")
		}
		return nil, err
	}
	if reply.Header == nil {
		reply.Header = macronode.Header{}
	}
	reply.Header["Cache-Control"] = []string{cacheFor(r.ttl)}
	return reply, nil
}

// cacheFor is how long a cache may answer for the name by itself.
func cacheFor(ttl uint32) string {
	if ttl == 0 {
		return "private, no-cache"
	}
	return "private, max-age=" + strconv.FormatUint(uint64(ttl), 10)
}

// Limits of a page.
const (
	defaultPage = 100
	maxPage     = 1000
	// pageBytes is the size at which a page ends early.
	pageBytes = 1 << 20
)

// page is a list being written.
type page struct {
	limit  int
	open   string
	b      []byte
	n      int
	last   string // the cursor of the last item
	cursor string // of the next page
}

// begin forgets what was written: a transaction may run again.
func (p *page) begin() { p.b, p.n, p.last, p.cursor = append(p.b[:0], p.open...), 0, "", "" }

// scan adds the records of keys in [lo, hi) until the page is full. of says from a
// key the name, and the cursor that goes on behind it.
func (p *page) scan(r store.Reader, lo, hi []byte, of func(k []byte) (name, cursor string)) error {
	var bad error
	err := r.Scan(lo, hi, func(k, v []byte) bool {
		if p.n == p.limit || len(p.b) >= pageBytes {
			p.cursor = p.last
			return false
		}
		rec, err := decodeRecord(v)
		if err != nil {
			bad = err
			return false
		}
		if p.n > 0 {
			p.b = append(p.b, ',')
		}
		var name string
		name, p.last = of(k)
		p.b = appendDocument(p.b, name, &rec)
		p.n++
		return true
	})
	return errors.Join(err, bad)
}

func (p *page) end(more string) []byte {
	p.b = append(p.b, `],"cursor":"`...)
	p.b = append(p.b, p.cursor...)
	p.b = append(p.b, '"')
	p.b = append(p.b, more...)
	return append(p.b, '}')
}
