// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/wall"
)

// parts is every stage in one double that works, records the order in which it
// is asked and fails where told to.
type parts struct {
	order   []string
	fail    map[string]error
	decide  wall.Decision
	princ   macronode.Principal
	tenant  macronode.Tenant
	down    bool
	panics  int
	events  []macronode.AuditEvent
	settled []int64
	// of the place
	awaits   int
	standing macronode.Header
	released []released
	long     chan struct{}
	ran      func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error)
}

type released struct {
	moved int64
	ok    bool
}

func (p *parts) step(name string) error {
	p.order = append(p.order, name)
	return p.fail[name]
}
func (p *parts) Enter(*macronode.Binding) error { return p.step("gate") }
func (p *parts) Leave(*macronode.Binding)       { p.order = append(p.order, "leave") }
func (p *parts) Ended() <-chan struct{}         { return p.long }
func (p *parts) Authenticate(context.Context, *macronode.Call, *macronode.Binding, macronode.Resource) (*macronode.Principal, *macronode.Tenant, error) {
	return &p.princ, &p.tenant, p.step("auth")
}
func (p *parts) Decide(context.Context, *wall.PolicyRequest) (wall.Decision, error) {
	return p.decide, p.step("policy")
}
func (p *parts) Take(_ time.Time, t *macronode.Tenant, _ *macronode.Principal, _ *macronode.Binding, n int64) (wall.Charge, error) {
	return wall.Charge{Tenant: t, Bytes: n, Header: p.standing}, p.step("quota")
}
func (p *parts) Settle(_ time.Time, _ wall.Charge, moved int64) {
	p.order = append(p.order, "settle")
	p.settled = append(p.settled, moved)
}
func (p *parts) Admit(context.Context, *macronode.Tenant, *macronode.Binding, int64) (wall.Place, error) {
	return p, p.step("admit")
}
func (p *parts) Await()  { p.awaits++ }
func (p *parts) Resume() { p.awaits-- }
func (p *parts) Yield()  { p.order = append(p.order, "yield") }
func (p *parts) Release(moved int64, ok bool) {
	p.order = append(p.order, "release")
	p.released = append(p.released, released{moved, ok})
}
func (p *parts) Up(string) bool                { return !p.down }
func (p *parts) Panicked(string, any, []byte)  { p.panics++ }
func (p *parts) Record(e macronode.AuditEvent) { p.events = append(p.events, e) }
func (p *parts) Append(_ context.Context, e macronode.AuditEvent) error {
	p.events = append(p.events, e)
	return p.step("append")
}

func newWall(t testing.TB, p *parts) *wall.Wall {
	t.Helper()
	h := func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		p.order = append(p.order, "handler")
		return p.ran(ctx, a)
	}
	b := macronode.Binding{Op: "thing.put", Service: "svc", Method: "PUT", Pattern: "/t/{id}", Action: "thing:put", Resource: macronode.ObjectResource,
		ResourceArg: "id", Class: macronode.CoreWrite, MaxBody: 10, Write: true}
	public := macronode.Binding{Op: "probe", Service: "svc", Method: "GET", Pattern: "/probe", Public: true, PlainOK: true}
	admin := macronode.Binding{Op: "admin", Service: "svc", Method: "POST", Pattern: "/admin", Action: "node:reload", Class: macronode.Control, Audit: macronode.AuditBefore}
	watch := macronode.Binding{Op: "watch", Service: "svc", Method: "GET", Pattern: "/watch", Action: "node:events", Class: macronode.CoreRead, LongRunning: true}
	once := macronode.Binding{Op: "once", Service: "svc", Method: "POST", Pattern: "/once", Action: "thing:put", Class: macronode.CoreWrite, Write: true, NeedsKey: true}
	tab, err := route.New([]macronode.Route{{Binding: b, Handler: h}, {Binding: public, Handler: h}, {Binding: admin, Handler: h}, {Binding: watch, Handler: h}, {Binding: once, Handler: h}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := wall.New(tab, wall.Limits{MaxBodyBytes: 100, MaxObjectBytes: 1000, MaxFrameBytes: 50, RequestTimeout: time.Minute},
		wall.Stages{Gate: p, Auth: p, Policy: p, Quota: p, Admission: p, Audit: p, Services: p, Metrics: metrics.New(false)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newParts() *parts {
	return &parts{
		fail: map[string]error{}, decide: wall.Decision{Allow: true}, long: make(chan struct{}),
		princ: macronode.Principal{Kind: macronode.Capability, Tenant: macronode.TenantID{1}, MaxBytes: macronode.NoLimit},
		ran: func(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
			if a.Body != nil {
				if _, err := io.Copy(io.Discard, a.Body); err != nil {
					return nil, err
				}
			}
			return &macronode.Reply{Body: []byte("done")}, nil
		},
	}
}

func put(body string) *macronode.Call {
	return &macronode.Call{Method: "PUT", Path: "/t/x", Length: int64(len(body)), Body: strings.NewReader(body),
		Peer: macronode.Peer{TLS: true}, CorrID: "c"}
}

func serve(w *wall.Wall, p *parts, c *macronode.Call) error {
	return w.Serve(context.Background(), c, func(*macronode.Reply) error {
		p.order = append(p.order, "send")
		return nil
	})
}

func TestOrder(t *testing.T) {
	p := newParts()
	if err := serve(newWall(t, p), p, put("hello")); err != nil {
		t.Fatal(err)
	}
	want := []string{"gate", "auth", "policy", "quota", "admit", "handler", "send", "release", "settle", "leave"}
	if !slices.Equal(p.order, want) {
		t.Errorf("order %v, want %v", p.order, want)
	}
	if len(p.settled) != 1 || p.settled[0] != int64(len("hello")+len("done")) {
		t.Errorf("settled %v", p.settled)
	}
}

// TestRefusalStops proves that a stage's refusal keeps every later stage from
// running and that what was taken before is given back.
func TestRefusalStops(t *testing.T) {
	refusal := macronode.Errorf(macronode.Overload, "no")
	for stage, want := range map[string][]string{
		"gate":   {"gate"},
		"auth":   {"gate", "auth", "leave"},
		"policy": {"gate", "auth", "policy", "leave"},
		"quota":  {"gate", "auth", "policy", "quota", "leave"},
		"admit":  {"gate", "auth", "policy", "quota", "admit", "settle", "leave"},
	} {
		p := newParts()
		p.fail[stage] = refusal
		if err := serve(newWall(t, p), p, put("hello")); !errors.Is(err, refusal) {
			t.Errorf("%s: error %v", stage, err)
		}
		if !slices.Equal(p.order, want) {
			t.Errorf("%s: order %v, want %v", stage, p.order, want)
		}
		if len(p.events) != 1 || p.events[0].Reason != "overload" {
			t.Errorf("%s: events %v", stage, p.events)
		}
	}
}

func TestShapeBeforeIdentity(t *testing.T) {
	plain := func(c *macronode.Call) *macronode.Call { c.Peer = macronode.Peer{}; return c }
	for name, c := range map[string]struct {
		call *macronode.Call
		kind macronode.Kind
	}{
		"no route": {plain(&macronode.Call{Method: "GET", Path: "/none"}), macronode.NotFound},
		"method":   {plain(&macronode.Call{Method: "GET", Path: "/t/x"}), macronode.MethodNotAllowed},
		"oversize": {plain(put("hello world")), macronode.TooLarge},
		"encoding": {func() *macronode.Call {
			c := put("x")
			c.Header = macronode.Header{"Content-Encoding": {"gzip"}}
			return c
		}(), macronode.UnsupportedMedia},
		"no key":          {&macronode.Call{Method: "POST", Path: "/once", Peer: macronode.Peer{TLS: true}}, macronode.Malformed},
		"key too long":    {func() *macronode.Call { c := put("x"); c.IdempotencyKey = strings.Repeat("k", 129); return c }(), macronode.Malformed},
		"key not visible": {func() *macronode.Call { c := put("x"); c.IdempotencyKey = "a b"; return c }(), macronode.Malformed},
		"plaintext":       {plain(put("x")), macronode.TLSRequired},
		"not bearer":      {func() *macronode.Call { c := put("x"); c.BadAuth = true; return c }(), macronode.TokenMalformed},
	} {
		p := newParts()
		if err := serve(newWall(t, p), p, c.call); macronode.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
		if len(p.order) != 0 {
			t.Errorf("%s: reached %v", name, p.order)
		}
	}
}

func TestPublicSkipsIdentity(t *testing.T) {
	p := newParts()
	if err := serve(newWall(t, p), p, &macronode.Call{Method: "GET", Path: "/probe"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"gate", "handler", "send", "leave"}; !slices.Equal(p.order, want) {
		t.Errorf("order %v, want %v", p.order, want)
	}
}

func TestDenied(t *testing.T) {
	for kind, want := range map[macronode.PrincipalKind]macronode.Kind{
		macronode.Anonymous: macronode.Unauthenticated, macronode.Capability: macronode.Denied, macronode.PeerNode: macronode.Denied,
	} {
		p := newParts()
		// A rule that forbids is named as one that permits is.
		p.decide = wall.Decision{Reasons: []string{"suspended"}}
		p.princ.Kind = kind
		if err := serve(newWall(t, p), p, put("x")); macronode.KindOf(err) != want {
			t.Errorf("%v: %v, want %v", kind, err, want)
		}
	}
}

func TestBodyBounds(t *testing.T) {
	p := newParts()
	w := newWall(t, p)
	unknown := put("0123456789")
	unknown.Length = -1
	if err := serve(w, p, unknown); err != nil {
		t.Errorf("a body of exactly the limit: %v", err)
	}
	unknown = put("0123456789a")
	unknown.Length = -1
	if err := serve(w, p, unknown); macronode.KindOf(err) != macronode.TooLarge {
		t.Errorf("a longer body of unknown length: %v", err)
	}
	p.princ.MaxBytes = 6 // the body has 3, the reply 4
	if err := serve(w, p, put("abc")); macronode.KindOf(err) != macronode.TooLarge {
		t.Errorf("request plus response over max_bytes: %v", err)
	}
	p.princ.MaxBytes = 7
	if err := serve(w, p, put("abc")); err != nil {
		t.Errorf("exactly max_bytes: %v", err)
	}
}

type endless struct{ closed bool }

func (e *endless) WriteTo(w io.Writer) (n int64, err error) {
	for {
		m, err := w.Write(bytes.Repeat([]byte("x"), 10))
		if n += int64(m); err != nil {
			return n, err
		}
	}
}
func (e *endless) Close() error { e.closed = true; return nil }

func TestReplyStreamBounded(t *testing.T) {
	p := newParts()
	w := newWall(t, p)
	s := &endless{}
	p.princ.MaxBytes = 45
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return &macronode.Reply{Stream: s, Length: -1}, nil
	}
	var out bytes.Buffer
	err := w.Serve(context.Background(), put("abc"), func(r *macronode.Reply) error {
		_, err := r.Stream.WriteTo(&out)
		return err
	})
	if err == nil || out.Len() != 40 || !s.closed {
		t.Errorf("error %v after %d bytes, closed %v", err, out.Len(), s.closed)
	}
	if got := p.settled; len(got) != 1 || got[0] != 40 {
		t.Errorf("settled %v", got)
	}
}

// late is a stream that finds its bytes damaged before the first left.
type late struct{}

func (late) WriteTo(io.Writer) (int64, error) {
	return 0, macronode.Errorf(macronode.Integrity, "damaged")
}
func (late) Close() error { return nil }

func TestStreamRefusedBeforeItsFirstByte(t *testing.T) {
	p := newParts()
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return &macronode.Reply{Stream: late{}, Length: 5}, nil
	}
	err := newWall(t, p).Serve(context.Background(), put("x"), func(r *macronode.Reply) error {
		_, err := r.Stream.WriteTo(io.Discard)
		return err
	})
	if macronode.KindOf(err) != macronode.Integrity || len(p.events) != 1 || p.events[0].Reason != "integrity" {
		t.Errorf("%v, events %v", err, p.events)
	}
}

func TestPanicIsContained(t *testing.T) {
	p := newParts()
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) { panic("boom") }
	err := serve(newWall(t, p), p, put("x"))
	if macronode.KindOf(err) != macronode.Internal || p.panics != 1 || slices.Contains(p.order, "send") {
		t.Errorf("%v, %d panics, %v", err, p.panics, p.order)
	}
	if prob := macronode.AsError(err).Problem("c"); strings.Contains(fmt.Sprint(prob), "boom") {
		t.Errorf("the problem tells of the panic: %v", prob)
	}
}

func TestObligations(t *testing.T) {
	for o, want := range map[macronode.Obligation]macronode.Kind{
		{Key: "zk", Value: "c"}:            macronode.ObligationFailed,
		{Key: "max_bytes", Value: "none"}:  macronode.ObligationFailed,
		{Key: "max_bytes", Value: "2"}:     macronode.TooLarge,
		{Key: "audit", Value: "sometimes"}: macronode.ObligationFailed,
	} {
		p := newParts()
		p.decide.Obligations = []macronode.Obligation{o}
		err := serve(newWall(t, p), p, put("abc"))
		if macronode.KindOf(err) != want || slices.Contains(p.order, "handler") {
			t.Errorf("%v: %v, order %v", o, err, p.order)
		}
	}
	p := newParts()
	p.decide.Obligations = []macronode.Obligation{{Key: "audit"}}
	if err := serve(newWall(t, p), p, put("abc")); err != nil || len(p.events) != 1 || p.events[0].Kind != "thing.put" {
		t.Errorf("audit obligation: %v %v", err, p.events)
	}
}

// TestStrictAudit: under audit=strict a call is on record before anything is done, or
// is not done; under audit=degrade, or audit alone, its record may be shed. Where two
// permits say both, strict holds. Admin routes are strict whatever policy says.
func TestStrictAudit(t *testing.T) {
	audit := func(values ...string) (list []macronode.Obligation) {
		for _, v := range values {
			list = append(list, macronode.Obligation{Key: "audit", Value: v})
		}
		return list
	}
	admin := func() *macronode.Call {
		return &macronode.Call{Method: "POST", Path: "/admin", Peer: macronode.Peer{UDS: true}}
	}
	for name, c := range map[string]struct {
		obligations []macronode.Obligation
		call        *macronode.Call
		strict      bool
	}{
		"strict":              {audit("strict"), put("x"), true},
		"degrade":             {audit("degrade"), put("x"), false},
		"alone":               {audit(""), put("x"), false},
		"strict, degrade":     {audit("strict", "degrade"), put("x"), true},
		"degrade, strict":     {audit("degrade", "strict"), put("x"), true},
		"an admin's, degrade": {append(audit("degrade"), macronode.Obligation{Key: "degrade"}), admin(), true},
	} {
		p := newParts()
		p.decide.Obligations = c.obligations
		p.fail["append"] = errors.New("full")
		err := serve(newWall(t, p), p, c.call)
		if acted := slices.Contains(p.order, "handler"); acted == c.strict || (macronode.KindOf(err) == macronode.Unavailable) != c.strict || (err == nil) == c.strict {
			t.Errorf("%s: acted %v without a record, %v", name, acted, err)
		}
		p = newParts()
		p.decide.Obligations = c.obligations
		c.call.Body = nil
		if err := serve(newWall(t, p), p, c.call); err != nil {
			t.Fatal(err)
		}
		last := p.events[len(p.events)-1]
		if begun := p.events[0].Attrs["phase"] == "begin"; begun != c.strict || last.Attrs["phase"] != "end" || last.Must != c.strict {
			t.Errorf("%s: %+v", name, p.events)
		}
	}
	// A call that is refused before it was announced has its refusal on record alone.
	p := newParts()
	p.decide.Allow = false
	if err := serve(newWall(t, p), p, admin()); err == nil || len(p.events) != 1 || p.events[0].Must || p.events[0].Reason == "" {
		t.Errorf("%v: %+v", err, p.events)
	}
}

func TestAuditBefore(t *testing.T) {
	p := newParts()
	call := func() *macronode.Call {
		return &macronode.Call{Method: "POST", Path: "/admin", Peer: macronode.Peer{UDS: true}}
	}
	if err := serve(newWall(t, p), p, call()); err != nil || len(p.events) != 2 || p.events[0].Attrs["phase"] != "begin" || p.events[1].Attrs["phase"] != "end" {
		t.Errorf("%v %v", err, p.events)
	}
	p = newParts()
	p.fail["append"] = errors.New("full")
	if err := serve(newWall(t, p), p, call()); macronode.KindOf(err) != macronode.Unavailable || slices.Contains(p.order, "handler") {
		t.Errorf("no record, yet %v %v", err, p.order)
	}
}

func TestServiceDown(t *testing.T) {
	p := newParts()
	p.down = true
	w := newWall(t, p)
	if err := serve(w, p, put("x")); macronode.KindOf(err) != macronode.Unavailable {
		t.Errorf("core: %v", err)
	}
	if err := serve(w, p, &macronode.Call{Method: "GET", Path: "/probe"}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	p := newParts()
	var until time.Time
	p.ran = func(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
		until, _ = ctx.Deadline()
		return nil, context.DeadlineExceeded
	}
	w := newWall(t, p)
	if err := serve(w, p, put("x")); macronode.KindOf(err) != macronode.DeadlineExceeded || time.Until(until) > time.Minute {
		t.Errorf("%v, deadline %v", err, until)
	}
	p.ran = func(ctx context.Context, _ *macronode.Admitted) (*macronode.Reply, error) {
		if _, ok := ctx.Deadline(); ok {
			t.Error("a long-running call has a deadline")
		}
		close(p.long)
		<-ctx.Done()
		return &macronode.Reply{}, nil
	}
	if err := serve(w, p, &macronode.Call{Method: "GET", Path: "/watch", Peer: macronode.Peer{TLS: true}}); err != nil {
		t.Error(err)
	}
}

// watched is a client that notes whether the place knows of it.
type watched struct {
	io.Reader
	p    *parts
	seen []int
}

func (w *watched) Read(b []byte) (int, error) {
	w.seen = append(w.seen, w.p.awaits)
	return w.Reader.Read(b)
}

func (w *watched) Write(b []byte) (int, error) {
	w.seen = append(w.seen, w.p.awaits)
	return len(b), nil
}

type stream struct {
	write func(w io.Writer) (int64, error)
}

func (s stream) WriteTo(w io.Writer) (int64, error) { return s.write(w) }
func (stream) Close() error                         { return nil }

// TestClientsTime: the place is told of every read from and write to the client,
// and of nothing else, and pays for the bytes of both.
func TestClientsTime(t *testing.T) {
	p := newParts()
	w := newWall(t, p)
	body, out := &watched{Reader: strings.NewReader("hello"), p: p}, &watched{p: p}
	inside := -1
	p.ran = func(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			return nil, err
		}
		inside = p.awaits
		return &macronode.Reply{Length: 7, Stream: stream{func(w io.Writer) (int64, error) {
			inside += p.awaits
			n, err := w.Write([]byte("goodbye"))
			return int64(n), err
		}}}, nil
	}
	c := put("")
	c.Body, c.Length = body, 5
	err := w.Serve(context.Background(), c, func(r *macronode.Reply) error {
		_, err := r.Stream.WriteTo(out)
		return err
	})
	if err != nil || inside != 0 || p.awaits != 0 || len(body.seen) == 0 || len(out.seen) != 1 {
		t.Fatalf("%v, inside %d, left %d, %v %v", err, inside, p.awaits, body.seen, out.seen)
	}
	for _, n := range append(body.seen, out.seen...) {
		if n != 1 {
			t.Errorf("reads %v, writes %v", body.seen, out.seen)
		}
	}
	if len(p.released) != 1 || p.released[0] != (released{12, true}) {
		t.Errorf("released %v", p.released)
	}
	// A reply without a stream is the client's time as a whole; a handler's
	// failure says nothing about how long its calls take.
	p.released = nil
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return &macronode.Reply{Body: []byte("ok")}, nil
	}
	sending := 0
	if err := w.Serve(context.Background(), put(""), func(*macronode.Reply) error { sending = p.awaits; return nil }); err != nil || sending != 1 || p.awaits != 0 {
		t.Errorf("%v, %d while sending, %d after", err, sending, p.awaits)
	}
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return nil, macronode.Errorf(macronode.NotFound, "")
	}
	_ = serve(w, p, put(""))
	if len(p.released) != 2 || p.released[0] != (released{2, true}) || p.released[1] != (released{0, false}) {
		t.Errorf("released %v", p.released)
	}
}

// TestStandingIsTold: what the meter says is left goes out with a reply, and the
// handler's own fields, which may be shared between replies, are not touched.
func TestStandingIsTold(t *testing.T) {
	p := newParts()
	p.standing = macronode.Header{"Ratelimit": {`"requests";r=1;t=1`}}
	shared := macronode.Header{"Etag": {"x"}}
	p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		return &macronode.Reply{Body: []byte("ok"), Header: shared}, nil
	}
	var sent macronode.Header
	err := newWall(t, p).Serve(context.Background(), put(""), func(r *macronode.Reply) error { sent = r.Header; return nil })
	if err != nil || sent.Get("Ratelimit") == "" || sent.Get("Etag") != "x" || len(shared) != 1 {
		t.Errorf("%v: sent %v, shared %v", err, sent, shared)
	}
}
