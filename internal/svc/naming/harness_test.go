// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

// ledger is an auditor that remembers, and can be full.
type ledger struct {
	mu     sync.Mutex
	events []macronode.AuditEvent
	full   error
}

func (l *ledger) Record(e macronode.AuditEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *ledger) Append(_ context.Context, e macronode.AuditEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full != nil {
		return l.full
	}
	l.events = append(l.events, e)
	return nil
}

// shelf is the objects of tenants.
type shelf map[macronode.TenantID]map[b3.Addr]string

func (s shelf) Get(_ context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error) {
	text, ok := s[a.Tenant.ID][addr]
	if !ok {
		return nil, macronode.Errorf(macronode.NotFound, "there is no such object")
	}
	return &macronode.Reply{Status: 200, ContentType: "text/plain", Body: []byte(text), Header: macronode.Header{"Etag": {`"` + addr.String() + `"`}, "Cache-Control": {"private, immutable"}}}, nil
}

func (s shelf) Stat(ctx context.Context, a *macronode.Admitted, addr b3.Addr) (*macronode.Reply, error) {
	r, err := s.Get(ctx, a, addr)
	if err == nil {
		r.Length, r.Body = int64(len(r.Body)), nil
	}
	return r, err
}

// driver calls routes as the wall does.
type driver struct {
	t      testing.TB
	s      *Service
	kv     store.KV
	audit  *ledger
	shelf  shelf
	routes map[macronode.Op]macronode.Route
	now    time.Time
}

func drive(t testing.TB, change ...func(*Config)) *driver {
	t.Helper()
	kv := mem.NewKV(mem.KVConfig{})
	t.Cleanup(func() { _ = kv.Close() })
	return driveOver(t, kv, change...)
}

func driveOver(t testing.TB, kv store.KV, change ...func(*Config)) *driver {
	t.Helper()
	d := &driver{t: t, kv: kv, audit: &ledger{}, shelf: shelf{}, routes: map[macronode.Op]macronode.Route{}, now: time.UnixMilli(1_800_000_000_000)}
	c := Config{KV: kv, Idem: idem.New(idem.Config{KV: kv}), Objects: d.shelf, Audit: d.audit, Limits: Limits{MaxNames: 100, MaxHistory: 5}, Now: func() time.Time { return d.now }}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d.s = s
	for _, r := range s.Routes() {
		d.routes[r.Op] = r
	}
	return d
}

func tenantOf(n byte) *macronode.Tenant {
	return &macronode.Tenant{ID: macronode.TenantID{0: 1, 15: n}, Label: "acme" + string('0'+n), Quota: macronode.UnlimitedQuota()}
}

// call is a call to make.
type call struct {
	op     macronode.Op
	name   string
	of     string // {tenant}
	query  string
	header macronode.Header
	body   string
	key    string
	tenant *macronode.Tenant // nil: tenantOf(7)
}

func (d *driver) admitted(c call) (macronode.Route, *macronode.Admitted) {
	d.t.Helper()
	route, ok := d.routes[c.op]
	if !ok {
		d.t.Fatalf("no operation %s", c.op)
	}
	in := &macronode.Call{Method: route.Method, Query: c.query, Header: c.header, IdempotencyKey: c.key, CorrID: "corr", Binding: &route.Binding, Length: int64(len(c.body))}
	if in.Header == nil {
		in.Header = macronode.Header{}
	}
	if c.body != "" {
		in.Body = strings.NewReader(c.body)
	}
	if strings.Contains(route.Pattern, "{tenant}") {
		in.AddParam("tenant", c.of)
	}
	if strings.Contains(route.Pattern, "{name}") {
		in.AddParam("name", c.name)
	}
	if c.tenant == nil {
		c.tenant = tenantOf(7)
	}
	return route, &macronode.Admitted{Call: in, Tenant: c.tenant, Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: c.tenant.ID}, ReplyBytes: macronode.NoLimit}
}

func (d *driver) try(c call) (*macronode.Reply, error) {
	d.t.Helper()
	route, a := d.admitted(c)
	r, err := route.Handler(d.t.Context(), a)
	if err == nil && r.Stream != nil && c.op != "name.watch" {
		var b bytes.Buffer
		if _, err := r.Stream.WriteTo(&b); err != nil {
			return nil, err
		}
		_ = r.Stream.Close()
		r.Body, r.Stream = b.Bytes(), nil
	}
	return r, err
}

// do makes a call that must work, and reads its answer into v.
func (d *driver) do(c call, v any) *macronode.Reply {
	d.t.Helper()
	r, err := d.try(c)
	if err != nil {
		d.t.Fatalf("%s %s: %v", c.op, c.name, err)
	}
	if v != nil {
		dec := json.NewDecoder(bytes.NewReader(r.Body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil {
			d.t.Fatalf("%s: the answer is not its document: %v", c.op, err)
		}
	}
	return r
}

// refuse makes a call that must be refused with this kind.
func (d *driver) refuse(c call, kind macronode.Kind) *macronode.Error {
	d.t.Helper()
	_, err := d.try(c)
	if macronode.KindOf(err) != kind {
		d.t.Errorf("%s %.40q ?%s %.60q: %v, want %s", c.op, c.name, c.query, c.body, err, kind)
		return &macronode.Error{}
	}
	return macronode.AsError(err)
}

func addrOf(text string) string { return b3.Sum([]byte(text)).String() }

func setBody(text string) string { return `{"addr":"` + addrOf(text) + `"}` }

func ifMatch1(tag string) macronode.Header     { return macronode.Header{"If-Match": {tag}} }
func ifNoneMatch1(tag string) macronode.Header { return macronode.Header{"If-None-Match": {tag}} }

// keys counts what the store has of a tenant.
func (d *driver) keys(t macronode.TenantID) (n int) {
	d.t.Helper()
	lo := append([]byte(keyPrefix), t[:]...)
	err := d.kv.View(d.t.Context(), func(r store.Reader) error {
		n = 0
		return r.Scan(lo, after(lo), func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}
