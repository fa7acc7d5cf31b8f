// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

var acme = macronode.TenantID{1, 0x8f, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func load(t testing.TB, cedar string) *rules.Set {
	t.Helper()
	b, err := payload.Assemble(payload.Sources{"a.cedar": []byte(cedar)}, payload.Meta{Version: 1, Issued: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rules.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request() *wall.PolicyRequest {
	return &wall.PolicyRequest{
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: acme, RootID: macronode.CapID{1, 2}, LeafID: macronode.CapID{1, 2}, MaxBytes: macronode.NoLimit},
		Tenant:    &macronode.Tenant{ID: acme, Label: "acme"},
		Action:    "object:get", Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:secretname"},
		Bytes: 77, IP: netip.MustParseAddr("203.0.113.77"), TLS: true, Subject: "CN=somebody", Path: "/o/{addr}", Method: "GET",
		Service: "svc-storage", Time: time.Date(2026, 11, 23, 17, 1, 2, int(3*time.Millisecond), time.UTC),
	}
}

const permit = "@id(\"all\") permit (principal, action, resource);\n"

// TestDecisionHides: what the policy does not look at is a hash, addresses are
// networks, and what it looks at stays.
func TestDecisionHides(t *testing.T) {
	h := NewHider()
	r := request()
	plain := load(t, permit)
	d := h.Decision(r, plain, plain.Decide(r, r.Time, 0))
	text := fmt.Sprintf("%+v", d)
	for _, secret := range []string{"b3:secretname", "somebody", "203.0.113.77"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the record", secret)
		}
	}
	if !reflect.DeepEqual(d.Coarse, []string{"resource", "mtls_subject", "ip"}) || d.Request.IP != "203.0.113.0" || d.Outcome != "allow" || !reflect.DeepEqual(d.Reasons, []string{"all"}) {
		t.Errorf("%+v", d)
	}
	if again := h.Decision(r, plain, plain.Decide(r, r.Time, 0)); again.Request.Resource != d.Request.Resource {
		t.Error("one name has two hashes")
	}
	if other := NewHider().Decision(r, plain, plain.Decide(r, r.Time, 0)); other.Request.Resource == d.Request.Resource {
		t.Error("the hash has no key")
	}
	if h.hide("resource", "x") == h.hide("subject", "x") {
		t.Error("a name hashes alike in two places")
	}
	curious := load(t, `@id("one") permit (principal, action, resource == Object::"b3:secretname") when { context.mtls_subject == "CN=somebody" };`)
	d = h.Decision(r, curious, curious.Decide(r, r.Time, 0))
	if d.Request.Resource != "object/b3:secretname" || d.Request.Subject != "CN=somebody" || !reflect.DeepEqual(d.Coarse, []string{"ip"}) {
		t.Errorf("what the policy looks at: %+v", d)
	}
	r.IP = netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
	if d = h.Decision(r, curious, curious.Decide(r, r.Time, 0)); d.Request.IP != "2001:db8:1:2::" {
		t.Errorf("IPv6: %s", d.Request.IP)
	}
	r.IP = netip.Addr{}
	if d = h.Decision(r, curious, curious.Decide(r, r.Time, 0)); d.Request.IP != "0.0.0.0" || len(d.Coarse) != 0 {
		t.Errorf("no address: %+v", d)
	}
}

// TestDescribe: what is not coarse is the same request again.
func TestDescribe(t *testing.T) {
	r := request()
	r.IP = netip.MustParseAddr("203.0.113.0")
	for _, p := range []struct {
		principal macronode.Principal
		tenant    macronode.Tenant
	}{
		{*r.Principal, *r.Tenant},
		{macronode.Principal{Kind: macronode.Anonymous, Tenant: macronode.AnonymousTenant, MaxBytes: macronode.NoLimit}, macronode.Tenant{ID: macronode.AnonymousTenant, Label: macronode.AnonymousTenantLabel}},
		{macronode.Principal{Kind: macronode.Capability, Tenant: macronode.SystemTenant, MaxBytes: macronode.NoLimit}, macronode.Tenant{ID: macronode.SystemTenant, Label: macronode.SystemTenantLabel}},
		{macronode.Principal{Kind: macronode.PeerNode, Tenant: macronode.AnonymousTenant, Node: "b3:00", MaxBytes: macronode.NoLimit}, macronode.Tenant{ID: macronode.AnonymousTenant, Label: macronode.AnonymousTenantLabel}},
	} {
		r.Principal, r.Tenant = &p.principal, &p.tenant
		q := payload.Describe(r)
		got, err := q.Compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		got.Time = r.Time
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%+v %+v\n%+v %+v", got, got.Principal, r, r.Principal)
		}
	}
}

func TestRing(t *testing.T) {
	r := NewRing(3)
	put := func(ms ...int64) {
		for _, m := range ms {
			r.Add(Decision{TSMS: m})
		}
	}
	want := func(n int, ms ...int64) {
		t.Helper()
		got := []int64{}
		for _, d := range r.Newest(n) {
			got = append(got, d.TSMS)
		}
		if fmt.Sprint(got) != fmt.Sprint(ms) {
			t.Errorf("%v, want %v", got, ms)
		}
	}
	want(9)
	put(1, 2)
	want(9, 1, 2)
	put(3, 4, 5)
	want(9, 3, 4, 5)
	want(2, 4, 5)
	r.Resize(5)
	put(6)
	want(9, 3, 4, 5, 6)
	r.Resize(2)
	want(9, 5, 6)
	put(7)
	want(9, 6, 7)
	r.Resize(0)
	put(8)
	want(9)
}

func TestReplay(t *testing.T) {
	h := NewHider()
	live := load(t, `@id("all") @obligation("audit") permit (principal, action, resource); @id("big") forbid (principal, action, resource) when { context.bytes > 1000 };`)
	var list []Decision
	add := func(edit func(*wall.PolicyRequest)) {
		r := request()
		edit(r)
		list = append(list, h.Decision(r, live, live.Decide(r, r.Time, 0)))
	}
	add(func(*wall.PolicyRequest) {})
	add(func(r *wall.PolicyRequest) { r.Bytes = 5000 })
	add(func(r *wall.PolicyRequest) { r.Bytes = 6000 })
	add(func(r *wall.PolicyRequest) { r.Action = "object:put" })
	list = append(list, Decision{Outcome: "allow"})

	var file bytes.Buffer
	if err := Write(&file, list); err != nil {
		t.Fatal(err)
	}
	read, err := Read(&file)
	if err != nil || !reflect.DeepEqual(read, list) {
		t.Fatalf("written and read: %v", err)
	}
	report, err := Replay(context.Background(), live, read)
	if err != nil || report.Same != 4 || report.Flipped != 0 || report.Unreadable != 1 || len(report.Flips) != 0 {
		t.Errorf("the same policy: %+v %v", report, err)
	}
	other := load(t, `@id("all") permit (principal, action, resource); @id("noput") forbid (principal, action == Action::"object:put", resource);`)
	report, err = Replay(context.Background(), other, read)
	if err != nil || report.Decisions != 4 || report.Flipped != 4 || len(report.Flips) != 3 {
		t.Fatalf("%+v %v", report, err)
	}
	if f := report.Flips[0]; f.Count != 2 || f.Was != "deny" || f.Now != "allow" || fmt.Sprint(f.WasBy, f.NowBy) != "[big] [all]" || len(f.Examples) != 2 {
		t.Errorf("the greatest group: %+v", f)
	}
	found := map[string]bool{}
	for _, f := range report.Flips {
		found[f.Was+" "+f.Now+fmt.Sprint(f.NowBy, f.Dropped)] = true
	}
	if !found["allow deny[noput] []"] || !found["allow allow[all] [audit]"] {
		t.Errorf("groups: %v", found)
	}
	// A candidate that looks where the record is coarse is told apart.
	nosy := load(t, permit+`@id("net") forbid (principal, action, resource) when { context.ip.isInRange(ip("203.0.113.77")) };`)
	report, err = Replay(context.Background(), nosy, read[:1])
	if err != nil || report.Flipped != 1 || report.Flips[0].Uncertain != 1 {
		t.Errorf("a coarse record: %+v %v", report, err)
	}
	bad := load(t, permit+`@id("bad") forbid (principal, action, resource) when { context.bytes * 9223372036854775807 < 0 };`)
	report, err = Replay(context.Background(), bad, read[:1])
	if err != nil || report.Flipped != 1 || report.Flips[0].Now != "error" || report.Flips[0].Message == "" {
		t.Errorf("a candidate that fails: %+v %v", report, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Replay(ctx, live, read); err == nil {
		t.Error("a replay that was cancelled went on")
	}
}

// TestTallyIsBounded: groups and examples have bounds, and what is left out is
// counted.
func TestTallyIsBounded(t *testing.T) {
	tally, set := NewTally(), load(t, permit)
	r := request()
	a := set.Decide(r, r.Time, 0)
	for i := range 2 * maxFlips {
		for range 2 {
			tally.Add(Decision{TSMS: int64(i), Outcome: "deny", Reasons: []string{fmt.Sprint(i)}}, r, set, a)
		}
	}
	for range 3 * maxExamples {
		tally.Add(Decision{Outcome: "deny", Reasons: []string{"0"}}, r, set, a)
	}
	report := tally.Report()
	if len(report.Flips) != maxFlips || report.Untold != 2*maxFlips || report.Flips[0].Count != 2+3*maxExamples || len(report.Flips[0].Examples) != maxExamples {
		t.Errorf("%d groups, %d untold, %d in the first with %d examples", len(report.Flips), report.Untold, report.Flips[0].Count, len(report.Flips[0].Examples))
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON": "x\n", "another document": `{"seq":1}` + "\n", "two in a line": `{"ts_ms":1}{"ts_ms":2}`,
		"a long line": `{"bundle_hash":"` + strings.Repeat("x", maxLine) + `"}`,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := Read(strings.NewReader(strings.Repeat("{}\n", MaxDecisions+1))); err == nil {
		t.Error("too many were read")
	}
	if list, err := Read(strings.NewReader("\n{\"ts_ms\":5}\n\n")); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// FuzzRead: whatever is read is replayed without a panic.
func FuzzRead(f *testing.F) {
	set := load(f, permit)
	f.Add([]byte(`{"ts_ms":1,"bundle_hash":"","request":{"tenant":"system","action":"node:drain","resource":"node/"},"decision":"allow"}`))
	f.Add([]byte(`{"request":{"principal":"peer","node":"b3:0","action":"x","resource":"object/","ip":"::1%a","hour":23},"decision":"deny"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		r, err := Replay(context.Background(), set, list)
		if err != nil || r.Same+r.Flipped != r.Decisions || r.Decisions+r.Unreadable != len(list) {
			t.Errorf("%+v of %d: %v", r, len(list), err)
		}
	})
}
