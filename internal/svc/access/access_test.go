// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

// fakeKeys is a key service in memory.
type fakeKeys struct {
	mu    sync.Mutex
	keys  map[string][]*[32]byte // versions from 1 on; nil: dropped
	epoch atomic.Uint64
	fail  error
	reads int
	// during, if set, runs once inside the next read of a version.
	during func()
}

func newFakeKeys() *fakeKeys { return &fakeKeys{keys: map[string][]*[32]byte{}} }

func (f *fakeKeys) CreateMint(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	if f.keys[name] == nil {
		f.addVersion(name)
	}
	return nil
}

func (f *fakeKeys) addVersion(name string) {
	k := &[32]byte{0: byte(len(f.keys[name]) + 1)}
	copy(k[1:], name)
	f.keys[name] = append(f.keys[name], k)
	f.epoch.Add(1)
}

func (f *fakeKeys) rotate(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addVersion(name)
}

func (f *fakeKeys) RotateMint(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.addVersion(name)
	return nil
}

func (f *fakeKeys) NewestMint(name string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return 0, f.fail
	}
	if n := len(f.keys[name]); n > 0 {
		return uint64(n), nil
	}
	return 0, macronode.Errorf(macronode.NotFound, "no key")
}

func (f *fakeKeys) WithMint(name string, v uint64, fn func([]byte) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if during := f.during; during != nil {
		f.during = nil
		f.mu.Unlock()
		during()
		f.mu.Lock()
	}
	ks := f.keys[name]
	if v < 1 || v > uint64(len(ks)) || ks[v-1] == nil {
		return macronode.Errorf(macronode.NotFound, "no version")
	}
	return fn(ks[v-1][:])
}

func (f *fakeKeys) DeleteMint(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	delete(f.keys, name)
	f.epoch.Add(1)
	return nil
}

func (f *fakeKeys) Epoch() uint64 { return f.epoch.Load() }

func (f *fakeKeys) has(t macronode.TenantID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.keys[MintKeyName(t)] != nil
}

// log is an audit log in memory.
type log struct {
	mu     sync.Mutex
	events []macronode.AuditEvent // appended
	noted  []macronode.AuditEvent // recorded
	fail   error
}

func (l *log) Record(e macronode.AuditEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noted = append(l.noted, e)
}

func (l *log) Append(_ context.Context, e macronode.AuditEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.events = append(l.events, e)
	return nil
}

func (l *log) kinds() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		out = append(out, e.Kind)
	}
	return out
}

// flakyKV fails commits on demand, before they are durable.
type flakyKV struct {
	store.KV
	fail atomic.Pointer[error]
}

func (f *flakyKV) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := f.fail.Load(); err != nil {
		return *err
	}
	return f.KV.Update(ctx, fn)
}

func (f *flakyKV) Reclaim(ctx context.Context, fn func(store.Tx) error) error {
	if err := f.fail.Load(); err != nil && !errors.Is(*err, store.ErrFull) {
		return *err
	}
	return f.KV.Reclaim(ctx, fn)
}

type purger func(context.Context, macronode.TenantID) error

func (p purger) Purge(ctx context.Context, t macronode.TenantID) error { return p(ctx, t) }

// rig is a service with everything around it.
type rig struct {
	*Service
	t        *testing.T
	kv       *flakyKV
	keys     *fakeKeys
	log      *log
	now      time.Time
	inflight atomic.Int64
	purge    func(context.Context, macronode.TenantID) error
	routes   map[macronode.Op]macronode.Route
	operator *macronode.Admitted
}

func newRig(t *testing.T) *rig {
	r := &rig{
		t: t, kv: &flakyKV{KV: mem.NewKV(mem.KVConfig{})}, keys: newFakeKeys(), log: &log{}, now: time.Unix(1_700_000_000, 0),
		purge: func(context.Context, macronode.TenantID) error { return nil },
	}
	r.restart()
	return r
}

// restart makes a new service over the same store and keys.
func (r *rig) restart() {
	r.t.Helper()
	s, err := New(context.Background(), Config{
		KV: r.kv, Keys: r.keys, Audit: r.log, Idem: idem.New(idem.Config{KV: r.kv, Now: func() time.Time { return r.now }}),
		Purgers: []Purger{purger(func(ctx context.Context, t macronode.TenantID) error { return r.purge(ctx, t) })},
		Stored: func(_ context.Context, t macronode.TenantID) (int64, int64, error) {
			return 10, 2, nil
		},
		InFlight: func(macronode.TenantID) int64 { return r.inflight.Load() },
		Now:      func() time.Time { return r.now },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Service = s
	r.routes = map[macronode.Op]macronode.Route{}
	for _, route := range s.Routes() {
		r.routes[route.Op] = route
	}
	tok, err := s.MintFor(context.Background(), macronode.SystemTenant)
	if err != nil {
		r.t.Fatal(err)
	}
	r.operator = r.as(tok)
}

// as is what the wall admits for the bearer of tok.
func (r *rig) as(tok *capability.Token) *macronode.Admitted {
	r.t.Helper()
	key, err := r.MintKey(tok.Tenant(), tok.KeyID())
	if err != nil || key == nil {
		r.t.Fatal("no key", err)
	}
	v, err := tok.Verify(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return &macronode.Admitted{
		Call:      &macronode.Call{Token: []byte(tok.Text())},
		Tenant:    r.Tenant(tok.Tenant()),
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: tok.Tenant(), RootID: v.RootID(), LeafID: v.LeafID()},
	}
}

// call calls a route. Arguments are name, value, …; a body that is no string is
// written as JSON.
func (r *rig) call(as *macronode.Admitted, op macronode.Op, body any, args ...string) (*macronode.Reply, error) {
	r.t.Helper()
	route, ok := r.routes[op]
	if !ok {
		r.t.Fatalf("no route %s", op)
	}
	b := []byte{}
	switch v := body.(type) {
	case nil:
	case string:
		b = []byte(v)
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			r.t.Fatal(err)
		}
	}
	c := *as.Call
	c.Body, c.Length, c.Binding = bytes.NewReader(b), int64(len(b)), &route.Binding
	c.Args = nil
	for i := 0; i < len(args); i += 2 {
		if args[i] == "key" {
			c.IdempotencyKey = args[i+1]
			continue
		}
		c.Args = append(c.Args, macronode.Arg{Name: args[i], Value: args[i+1]})
	}
	a := &macronode.Admitted{Call: &c, Tenant: as.Tenant, Principal: as.Principal}
	return route.Handler(context.Background(), a)
}

// ok is call where a refusal is a failure; it decodes the answer into out.
func (r *rig) ok(as *macronode.Admitted, op macronode.Op, body, out any, args ...string) *macronode.Reply {
	r.t.Helper()
	reply, err := r.call(as, op, body, args...)
	if err != nil {
		r.t.Fatalf("%s: %v", op, err)
	}
	if out != nil {
		dec := json.NewDecoder(bytes.NewReader(reply.Body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(out); err != nil {
			r.t.Fatalf("%s: %v in %s", op, err, reply.Body)
		}
	}
	return reply
}

// refused is call where anything but the refusal is a failure.
func (r *rig) refused(want macronode.Kind, as *macronode.Admitted, op macronode.Op, body any, args ...string) error {
	r.t.Helper()
	_, err := r.call(as, op, body, args...)
	if err == nil || macronode.KindOf(err) != want {
		r.t.Fatalf("%s %v %v: got %v, want %v", op, body, args, err, want)
	}
	return err
}

func (r *rig) tenant(label string) macronode.TenantID {
	r.t.Helper()
	var out Tenant
	r.ok(r.operator, "tenant.create", map[string]any{"label": label}, &out)
	id, err := macronode.ParseTenantID(out.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *rig) mintTok(id macronode.TenantID, cs ...capability.Caveat) *capability.Token {
	r.t.Helper()
	tok, err := r.MintFor(context.Background(), id, cs...)
	if err != nil {
		r.t.Fatal(err)
	}
	return tok
}

// sameAsStored fails where memory is not what a new start would load.
func (r *rig) sameAsStored() {
	r.t.Helper()
	list, revs, err := r.store.loadAll(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	if len(list) != r.tenants.len() {
		r.t.Fatalf("%d tenants stored, %d in memory", len(list), r.tenants.len())
	}
	for _, x := range list {
		if have := r.tenants.get(x.ID); have == nil || *have != *x || r.tenants.byLabel(x.Label) != have {
			r.t.Fatalf("stored %+v, in memory %+v", x, have)
		}
	}
	if len(revs) != r.revoked.len() {
		r.t.Fatalf("%d revocations stored, %d in memory", len(revs), r.revoked.len())
	}
}

func TestTenants(t *testing.T) {
	r := newRig(t)
	var acme Tenant
	reply := r.ok(r.operator, "tenant.create", `{"label":"acme","quota":{"requests_per_s":5,"weight":3}}`, &acme)
	if reply.Status != 201 || reply.Header.Get("Location") != "/v1/tenants/"+acme.ID {
		t.Errorf("got %d, %v", reply.Status, reply.Header)
	}
	want := macronode.UnlimitedQuota()
	want.RequestsPerSec, want.Weight = 5, 3
	if acme.Label != "acme" || acme.Suspended || acme.Quota != want || acme.CreatedMS != r.now.UnixMilli() {
		t.Errorf("got %+v", acme)
	}
	for _, name := range []string{acme.ID, "acme"} {
		var got Tenant
		if r.ok(r.operator, "tenant.show", nil, &got, "tenant", name); got != acme {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	var u Usage
	r.inflight.Store(4)
	r.ok(r.operator, "tenant.usage", nil, &u, "tenant", "acme")
	if u.StoredBytes != 10 || u.Objects != 2 || u.InFlight != 4 || u.Quota != want || u.ID != acme.ID || u.Label != "acme" {
		t.Errorf("got %+v", u)
	}
	// What is not named stays; it holds at once.
	var changed Tenant
	r.ok(r.operator, "tenant.quota", `{"stored_bytes":100,"requests_per_s":-1}`, &changed, "tenant", "acme")
	id, _ := macronode.ParseTenantID(acme.ID)
	want.StoredBytes, want.RequestsPerSec = 100, macronode.NoLimit
	if changed.Quota != want || r.Tenant(id).Quota != want {
		t.Errorf("got %+v", changed.Quota)
	}
	r.ok(r.operator, "tenant.suspend", nil, &changed, "tenant", "acme")
	if !changed.Suspended || !r.Tenant(id).Suspended {
		t.Error("not suspended")
	}
	r.restart()
	if !r.Tenant(id).Suspended || r.Tenant(id).Quota != want {
		t.Errorf("after a restart: %+v", r.Tenant(id))
	}
	r.ok(r.operator, "tenant.suspend", `{}`, nil, "tenant", "acme")
	r.ok(r.operator, "tenant.resume", nil, &changed, "tenant", "acme")
	if changed.Suspended || r.Tenant(id).Suspended {
		t.Error("still suspended")
	}
	r.sameAsStored()
	got := strings.Join(r.log.kinds(), " ")
	if want := "cap.mint tenant.create tenant.quota tenant.suspend cap.mint tenant.suspend tenant.resume"; got != want {
		t.Errorf("audit has %s", got)
	}
}

func TestTenantRefusals(t *testing.T) {
	r := newRig(t)
	id := r.tenant("acme")
	for _, tc := range []struct {
		op   macronode.Op
		body string
		name string
		want macronode.Kind
	}{
		{"tenant.create", `{"label":"acme"}`, "", macronode.Conflict},
		{"tenant.create", `{"label":"system"}`, "", macronode.Conflict},
		{"tenant.create", `{"label":"anonymous"}`, "", macronode.Conflict},
		{"tenant.create", `{"label":"other","id":"acme"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"other","id":"00000000000000000000000000"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"other","id":"00000000000000000000000001"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"other","id":"00000000000000000000000002"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":""}`, "", macronode.Invalid},
		{"tenant.create", `{}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"Acme"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"-a"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"a_b"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"` + strings.Repeat("a", 64) + `"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"00000000000000000000000001"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"` + strings.ToLower(id.String()) + `"}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"a","quota":{"in_flight":-2}}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"a","quota":{"weight":0}}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"a","quota":{"weight":1001}}`, "", macronode.Invalid},
		{"tenant.create", `{"label":"a","quota":{"cows":1}}`, "", macronode.Malformed},
		{"tenant.create", `{"label":"a","quotas":{}}`, "", macronode.Malformed},
		{"tenant.create", `{"label":"a"} {}`, "", macronode.Malformed},
		{"tenant.create", `{"label":"a"}x`, "", macronode.Malformed},
		{"tenant.create", `{"label":1}`, "", macronode.Malformed},
		{"tenant.create", `{"label":"a","quota":{"weight":1.5}}`, "", macronode.Malformed},
		{"tenant.create", `[]`, "", macronode.Malformed},
		{"tenant.create", ``, "", macronode.Malformed},
		{"tenant.show", "", "nobody", macronode.NotFound},
		{"tenant.show", "", strings.ToLower(id.String()), macronode.NotFound},
		{"tenant.usage", "", "nobody", macronode.NotFound},
		{"tenant.quota", `{}`, "nobody", macronode.NotFound},
		{"tenant.quota", ``, "acme", macronode.Malformed},
		{"tenant.delete", "", "nobody", macronode.NotFound},
		{"tenant.delete", `{"force":true}`, "acme", macronode.Malformed},
		{"tenant.delete", "", "system", macronode.Invalid},
		{"tenant.delete", "", macronode.AnonymousTenant.String(), macronode.Invalid},
		{"tenant.suspend", "", "system", macronode.Invalid},
		{"tenant.suspend", "", "anonymous", macronode.Invalid},
	} {
		t.Run(fmt.Sprint(tc.op, tc.body, tc.name), func(t *testing.T) {
			r.t = t
			r.refused(tc.want, r.operator, tc.op, tc.body, "tenant", tc.name)
		})
	}
	r.t = t
	// Tenants are the operator's, whatever policy says.
	for _, who := range []*macronode.Admitted{r.as(r.mintTok(id)), nobody(r)} {
		for op := range r.routes {
			if strings.HasPrefix(string(op), "tenant.") {
				r.refused(macronode.Denied, who, op, `{"label":"b"}`, "tenant", "acme")
			}
		}
	}
	r.sameAsStored()
}

func nobody(r *rig) *macronode.Admitted {
	return &macronode.Admitted{
		Call: &macronode.Call{}, Tenant: r.Tenant(macronode.AnonymousTenant),
		Principal: &macronode.Principal{Kind: macronode.Anonymous, Tenant: macronode.AnonymousTenant},
	}
}

func TestTenantPages(t *testing.T) {
	r := newRig(t)
	want := 2 + 7
	for i := range 7 {
		r.tenant(fmt.Sprintf("t%d", i))
	}
	seen := map[string]bool{}
	cursor, pages := "", 0
	for {
		var page TenantList
		r.ok(r.operator, "tenant.list", nil, &page, "limit", "2", "cursor", cursor)
		for _, x := range page.Tenants {
			if seen[x.ID] {
				t.Fatalf("%s twice", x.Label)
			}
			seen[x.ID] = true
		}
		pages++
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if len(seen) != want || pages != 5 {
		t.Errorf("%d tenants on %d pages", len(seen), pages)
	}
	for _, bad := range []string{"0", "1001", "x", "-1"} {
		r.refused(macronode.Malformed, r.operator, "tenant.list", nil, "limit", bad)
	}
	r.refused(macronode.Malformed, r.operator, "tenant.list", nil, "cursor", "zzz")
}

// What cannot be recorded is not done; what fails after it was recorded is
// recorded as failed, and memory stays as it was.
func TestAuditBeforeAction(t *testing.T) {
	r := newRig(t)
	id := r.tenant("acme")
	writes := []struct {
		op   macronode.Op
		body string
	}{
		{"tenant.create", `{"label":"other"}`}, {"tenant.suspend", ""}, {"tenant.resume", ""}, {"tenant.quota", `{"weight":2}`},
		{"tenant.delete", ""}, {"cap.mint", `{"tenant":"acme"}`}, {"cap.revoke", `{"id":"` + strings.Repeat("0a", 16) + `"}`},
	}
	r.log.fail = errors.New("the log is full")
	for _, w := range writes {
		r.refused(macronode.Unavailable, r.operator, w.op, w.body, "tenant", "acme")
	}
	r.sameAsStored()
	if x := r.Tenant(id); x == nil || x.Suspended || x.Quota.Weight != 1 || r.revoked.len() != 0 || r.tenants.len() != 3 {
		t.Errorf("something was done: %+v", x)
	}
	r.log.fail = nil
	torn := errors.New("the disk is gone")
	r.kv.fail.Store(&torn)
	for _, w := range writes {
		if w.op == "cap.mint" { // changes nothing in the store
			continue
		}
		err := r.refused(macronode.Internal, r.operator, w.op, w.body, "tenant", "acme")
		if strings.Contains(macronode.AsError(err).Detail, "disk") {
			t.Errorf("%s shows its cause", w.op)
		}
	}
	if len(r.log.noted) != len(writes)-1 || r.log.noted[0].Reason != "internal" {
		t.Errorf("%d failures recorded", len(r.log.noted))
	}
	r.kv.fail.Store(nil)
	r.sameAsStored()
	if x := r.Tenant(id); x == nil || x.Suspended || r.revoked.len() != 0 {
		t.Errorf("something was done: %+v", x)
	}
	// A full disk takes no rights away: it must not keep any either.
	full := fmt.Errorf("%w: 0 bytes", store.ErrFull)
	r.kv.fail.Store(&full)
	r.refused(macronode.DiskFull, r.operator, "tenant.create", `{"label":"other"}`)
	r.refused(macronode.DiskFull, r.operator, "tenant.resume", nil, "tenant", "acme")
	r.ok(r.operator, "tenant.suspend", nil, nil, "tenant", "acme")
	r.ok(r.operator, "cap.revoke", writes[6].body, nil)
	if _, err := r.Delete(context.Background(), "node", id); err != nil {
		t.Error(err)
	}
}

func TestIdempotency(t *testing.T) {
	r := newRig(t)
	for _, w := range []struct {
		op   macronode.Op
		body string
	}{
		{"tenant.create", `{"label":"acme"}`}, {"tenant.quota", `{"weight":2}`}, {"tenant.suspend", ""},
		{"cap.mint", `{"expires_s":5}`}, {"cap.revoke", `{"id":"` + strings.Repeat("0a", 16) + `"}`},
	} {
		first := r.ok(r.operator, w.op, w.body, nil, "tenant", "acme", "key", "k1")
		r.now = r.now.Add(time.Minute)
		again := r.ok(r.operator, w.op, w.body, nil, "tenant", "acme", "key", "k1")
		if !bytes.Equal(first.Body, again.Body) || first.Status != again.Status || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: first %d %s, then %d %s", w.op, first.Status, first.Body, again.Status, again.Body)
		}
		r.refused(macronode.IdempotencyMismatch, r.operator, w.op, w.body+" ", "tenant", "acme", "key", "k1")
	}
	if n := len(r.log.kinds()); n != 1+5 {
		t.Errorf("%d events: %v", n, r.log.kinds())
	}
	r.restart()
	r.ok(r.operator, "tenant.create", `{"label":"acme"}`, nil, "tenant", "acme", "key", "k1")
}

func TestEnsure(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	id := macronode.TenantID{0: 1, 15: 7}
	q := macronode.UnlimitedQuota()
	for range 2 {
		x, err := r.Ensure(ctx, id, "dev", q)
		if err != nil || x.ID != id || x.Label != "dev" {
			t.Fatalf("got %+v, %v", x, err)
		}
	}
	if x, err := r.Ensure(ctx, macronode.TenantID{}, "dev", q); err != nil || x.ID != id {
		t.Errorf("by label: %+v, %v", x, err)
	}
	if _, err := r.Ensure(ctx, macronode.TenantID{0: 2}, "dev", q); macronode.KindOf(err) != macronode.Conflict {
		t.Errorf("another id: %v", err)
	}
	if _, err := r.Ensure(ctx, id, "other", q); macronode.KindOf(err) != macronode.Conflict {
		t.Errorf("another label: %v", err)
	}
	if x, err := r.Ensure(ctx, macronode.TenantID{}, "fresh", q); err != nil || x.ID.IsZero() {
		t.Errorf("a new one: %+v, %v", x, err)
	}
	if x := r.Find("dev"); x == nil || x.ID != id || r.Find(id.String()) != x || r.Find("no") != nil {
		t.Error("not found")
	}
	q.Weight = 9
	if err := r.SetQuota(ctx, id, q); err != nil || r.Tenant(id).Quota.Weight != 9 {
		t.Errorf("quota: %v", err)
	}
	r.sameAsStored()
}

// A tenant can be given the id that it has on another node: once.
func TestTenantOfAnotherNode(t *testing.T) {
	r := newRig(t)
	const id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	var made Tenant
	r.ok(r.operator, "tenant.create", map[string]any{"label": "shared", "id": id}, &made)
	if made.ID != id || made.Label != "shared" {
		t.Errorf("made %+v", made)
	}
	if _, err := r.call(r.operator, "tenant.create", map[string]any{"label": "again", "id": id}); macronode.KindOf(err) != macronode.Conflict {
		t.Errorf("the same id twice: %v", err)
	}
}
