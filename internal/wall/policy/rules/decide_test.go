// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// noon is the time of requests in tests.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// ask makes a request of a capability of the tenant dev.
func ask(action macronode.Action, kind macronode.ResourceKind, id string) *wall.PolicyRequest {
	return &wall.PolicyRequest{
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: devTenant, RootID: macronode.CapID{1}, LeafID: macronode.CapID{2}},
		Tenant:    &macronode.Tenant{ID: devTenant, Label: "dev"},
		Action:    action, Resource: macronode.Resource{Kind: kind, ID: id},
		IP: netip.MustParseAddr("10.1.2.3"), TLS: true, Path: "/o/{addr}", Method: "GET", Service: "svc-storage", Time: noon,
	}
}

func rules(text string) payload.Sources { return payload.Sources{"a.cedar": []byte(text)} }

func TestDecide(t *testing.T) {
	const dev = `principal in Tenant::"@"`
	get := func(change ...func(*wall.PolicyRequest)) *wall.PolicyRequest {
		r := ask("object:get", macronode.ObjectResource, "b3:00")
		for _, f := range change {
			f(r)
		}
		return r
	}
	for name, tc := range map[string]struct {
		rules string
		req   *wall.PolicyRequest
		want  string
		by    []string
	}{
		"nothing permits":   {"", get(), "deny", nil},
		"permit":            {permitAll, get(), "allow", []string{"a.cedar#1"}},
		"permit by id":      {`@id("x") ` + permitAll, get(), "allow", []string{"x"}},
		"forbid wins":       {permitAll + `@id("no") forbid (principal, action, resource) when { context.tls };`, get(), "deny", []string{"no"}},
		"forbid not met":    {permitAll + `forbid (principal, action, resource) unless { context.tls };`, get(), "allow", []string{"a.cedar#1"}},
		"error in forbid":   {permitAll + `@id("sum") forbid (principal, action, resource) when { context.bytes + 9223372036854775807 > 0 };`, get(func(r *wall.PolicyRequest) { r.Bytes = 1 }), "error", []string{"sum"}},
		"error in permit":   {permitAll + `@id("sum") permit (principal, action, resource) when { context.bytes * 9223372036854775807 > 0 };`, get(func(r *wall.PolicyRequest) { r.Bytes = 2 }), "error", []string{"sum"}},
		"error not reached": {permitAll + `forbid (principal, action == Action::"object:put", resource) when { context.bytes + 9223372036854775807 > 0 };`, get(func(r *wall.PolicyRequest) { r.Bytes = 1 }), "allow", []string{"a.cedar#1"}},
		"tenant":            {`permit (` + dev + `, action, resource);`, get(), "allow", []string{"a.cedar#1"}},
		"other tenant": {`permit (` + dev + `, action, resource);`, get(func(r *wall.PolicyRequest) {
			r.Tenant = &macronode.Tenant{ID: macronode.TenantID{8}, Label: "dev"}
			r.Principal.Tenant = r.Tenant.ID
		}), "deny", nil},
		"capability":          {`permit (principal == Capability::"01000000000000000000000000000000", action, resource);`, get(), "allow", []string{"a.cedar#1"}},
		"leaf does not count": {`permit (principal == Capability::"02000000000000000000000000000000", action, resource);`, get(), "deny", nil},
		"label":               {`permit (principal, action, resource) when { principal.label == "dev" };`, get(), "allow", []string{"a.cedar#1"}},
		"resource":            {`permit (principal, action, resource == Object::"b3:00");`, get(), "allow", []string{"a.cedar#1"}},
		"resource's tenant":   {`permit (principal, action, resource in Tenant::"@") when { resource.tenant == principal.tenant };`, get(), "allow", []string{"a.cedar#1"}},
		"a node is system's": {`permit (principal, action, resource) when { resource.tenant == Tenant::"00000000000000000000000001" };`,
			ask("node:status", macronode.NodeResource, ""), "allow", []string{"a.cedar#1"}},
		"group":            {`permit (principal, action in [Action::"data:read", Action::"econ"], resource);`, get(), "allow", []string{"a.cedar#1"}},
		"not in group":     {`permit (principal, action in Action::"data:write", resource);`, get(), "deny", nil},
		"ip":               {`permit (principal, action, resource) when { context.ip.isInRange(ip("10.0.0.0/8")) };`, get(), "allow", []string{"a.cedar#1"}},
		"mapped ip":        {`permit (principal, action, resource) when { context.ip.isInRange(ip("10.0.0.0/8")) };`, get(func(r *wall.PolicyRequest) { r.IP = netip.MustParseAddr("::ffff:10.1.2.3") }), "allow", []string{"a.cedar#1"}},
		"socket has no ip": {`permit (principal, action, resource) when { context.ip.isInRange(ip("10.0.0.0/8")) || context.ip.isLoopback() };`, get(func(r *wall.PolicyRequest) { r.IP = netip.Addr{} }), "deny", nil},
		"hour":             {`permit (principal, action, resource) when { context.hour == 12 };`, get(), "allow", []string{"a.cedar#1"}},
		"hour is UTC":      {`permit (principal, action, resource) when { context.hour == 12 };`, get(func(r *wall.PolicyRequest) { r.Time = noon.In(time.FixedZone("", 7200)) }), "allow", []string{"a.cedar#1"}},
		"all of context": {`permit (principal, action, resource) when { context.bytes == 0 && context.tls && context.mtls_subject == ""
			&& context.path == "/o/{addr}" && context.method == "GET" && context.service == "svc-storage" };`, get(), "allow", []string{"a.cedar#1"}},
		"unknown action":   {permitAll, ask("object:burn", macronode.ObjectResource, ""), "deny", nil},
		"group as action":  {permitAll, ask("data", macronode.ObjectResource, ""), "deny", nil},
		"foreign resource": {permitAll, ask("object:get", macronode.KeyResource, ""), "deny", nil},
		"stolen tenant":    {permitAll, get(func(r *wall.PolicyRequest) { r.Principal.Tenant = macronode.SystemTenant }), "deny", nil},
		"no principal":     {permitAll, get(func(r *wall.PolicyRequest) { r.Principal = nil }), "deny", nil},
		"no tenant":        {permitAll, get(func(r *wall.PolicyRequest) { r.Tenant = nil }), "deny", nil},
		"strange kind":     {permitAll, get(func(r *wall.PolicyRequest) { r.Principal.Kind = 9 }), "deny", nil},
		"strange resource": {permitAll, get(func(r *wall.PolicyRequest) { r.Resource.Kind = 200 }), "deny", nil},
		"anonymous": {`permit (principal == Anonymous::"anonymous", action, resource);`, get(func(r *wall.PolicyRequest) {
			r.Principal = &macronode.Principal{Kind: macronode.Anonymous}
			r.Tenant = &macronode.Tenant{ID: macronode.AnonymousTenant, Label: "anonymous"}
		}), "allow", []string{"a.cedar#1"}},
		"a peer may gossip": {permitAll, func() *wall.PolicyRequest {
			r := ask("overlay:peer", macronode.ObjectResource, "")
			r.Principal.Kind, r.Principal.Node = macronode.PeerNode, "b3:11"
			return r
		}(), "allow", []string{"a.cedar#1"}},
		"a peer without a name may not": {permitAll, func() *wall.PolicyRequest {
			r := ask("overlay:peer", macronode.ObjectResource, "")
			r.Principal.Kind = macronode.PeerNode
			return r
		}(), "deny", nil},
		"a peer is in no tenant": {`permit (` + dev + `, action, resource); @id("in") permit (principal, action, resource) when { ` + dev + ` };
			@id("one") permit (principal, action, resource) when { principal.tenant == Tenant::"@" };`, func() *wall.PolicyRequest {
			r := ask("overlay:peer", macronode.ObjectResource, "")
			r.Principal.Kind, r.Principal.Node = macronode.PeerNode, "b3:11"
			return r
		}(), "allow", []string{"one"}},
		"a peer may do nothing else": {permitAll, get(func(r *wall.PolicyRequest) { r.Principal.Kind, r.Principal.Node = macronode.PeerNode, "b3:11" }), "deny", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustSet(t, rules(strings.ReplaceAll(tc.rules, "@\"", devTenant.String()+"\"")))
			for _, ttl := range []time.Duration{0, time.Minute, time.Minute} {
				a := s.Decide(tc.req, noon, ttl)
				if a.Outcome.String() != tc.want || a.Decision.Allow != (tc.want == "allow") || !slices.Equal(a.Decision.Reasons, tc.by) {
					t.Fatalf("got %s %+v, want %s by %q", a.Outcome, a.Decision, tc.want, tc.by)
				}
			}
		})
	}
}

// A schema that lets peers do more does not let them.
func TestPeerRuleIsNotTheSchemas(t *testing.T) {
	wide := strings.Replace(payload.DefaultSchema(), `action "object:get", "object:list" in ["object:*", "data:read"]
    appliesTo { principal: [Tenant,`, `action "object:get", "object:list" in ["object:*", "data:read"]
    appliesTo { principal: [Peer, Tenant,`, 1)
	src := rules(permitAll)
	src[payload.SchemaFile] = []byte(wide)
	if wide == payload.DefaultSchema() {
		t.Fatal("the schema did not change")
	}
	s := mustSet(t, src)
	r := ask("object:get", macronode.ObjectResource, "")
	r.Principal.Kind, r.Principal.Node = macronode.PeerNode, "b3:11"
	if a := s.Decide(r, noon, 0); a.Decision.Allow {
		t.Error("a peer reads objects")
	}
}

func TestObligations(t *testing.T) {
	s := mustSet(t, rules(`
@id("a") @obligation("audit=data; max_bytes=1024, zk=under-quota") @obligation_2("degrade") permit (principal, action, resource);
@id("b") @obligation("audit=data") permit (principal, action, resource);
@id("c") @obligation("zk=never") permit (principal, action, resource) when { !context.tls };`))
	a := s.Decide(ask("object:get", macronode.ObjectResource, ""), noon, 0)
	want := []macronode.Obligation{{Key: "audit", Value: "data"}, {Key: "max_bytes", Value: "1024"}, {Key: "zk", Value: "under-quota"}, {Key: "degrade"}}
	if !slices.Equal(a.Decision.Obligations, want) || !slices.Equal(a.Decision.Reasons, []string{"a", "b"}) {
		t.Errorf("%+v", a.Decision)
	}
	denied := mustSet(t, rules(`@obligation("audit") permit (principal, action, resource); forbid (principal, action, resource);`))
	if a := denied.Decide(ask("object:get", macronode.ObjectResource, ""), noon, 0); len(a.Decision.Obligations) != 0 {
		t.Errorf("a denial obliges: %+v", a.Decision)
	}
}

// entities.json can group tenants and add to them, but not say whose a thing is.
func TestEntities(t *testing.T) {
	src := rules(`@id("gold") permit (principal in Group::"gold", action, resource) when { principal.tenant has plan && principal.tenant.plan == "big" };
@id("one") permit (principal in Group::"ops", action == Action::"name:get", resource);
@id("label") permit (principal, action == Action::"name:set", resource) when { principal.tenant.label == "forged" };`)
	schema := strings.Replace(payload.DefaultSchema(), "entity Tenant {", "entity Group;\nentity Tenant in [Group] {\n    plan?: String,", 1)
	schema = strings.Replace(schema, "entity Capability in [Tenant]", "entity Capability in [Tenant, Group]", 1)
	src[payload.SchemaFile] = []byte(schema)
	src[payload.EntitiesFile] = []byte(`[{"uid":{"type":"Group","id":"gold"},"attrs":{},"parents":[]},
{"uid":{"type":"Tenant","id":"` + devTenant.String() + `"},"attrs":{"plan":"big","label":"forged","tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[{"type":"Group","id":"gold"}]},
{"uid":{"type":"Capability","id":"07000000000000000000000000000000"},"attrs":{"label":"dev","tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[{"type":"Group","id":"ops"}]}]`)
	s := mustSet(t, src)
	expect := func(name string, r *wall.PolicyRequest, reasons ...string) {
		t.Helper()
		for range 2 {
			if a := s.Decide(r, noon, time.Minute); !slices.Equal(a.Decision.Reasons, reasons) {
				t.Errorf("%s: %+v, want %q", name, a.Decision, reasons)
			}
		}
	}
	expect("a tenant of the group", ask("object:get", macronode.ObjectResource, ""), "gold")
	other := ask("object:get", macronode.ObjectResource, "")
	other.Principal.Tenant = macronode.TenantID{5}
	other.Tenant = &macronode.Tenant{ID: macronode.TenantID{5}, Label: "dev"}
	expect("another tenant", other)
	ops := ask("name:get", macronode.NameResource, "")
	ops.Principal.RootID = macronode.CapID{7}
	expect("one capability", ops, "gold", "one")
	expect("the next capability", ask("name:get", macronode.NameResource, ""), "gold")
	expect("the label is the node's", ask("name:set", macronode.NameResource, ""), "gold")
}

func TestEntitiesRefuseOddParents(t *testing.T) {
	schema := payload.DefaultSchema() + "entity Group in [Group, Node];\n"
	schema = strings.Replace(schema, "entity Tenant {", "entity Tenant in [Group] {", 1)
	group := func(id, parent string) string {
		return `{"uid":{"type":"Group","id":"` + id + `"},"attrs":{},"parents":[` + parent + `]}`
	}
	for name, entities := range map[string]string{
		"cycle":                  group("a", `{"type":"Group","id":"b"}`) + "," + group("b", `{"type":"Group","id":"a"}`),
		"a tenant in a resource": tenantJSON("t", `{"type":"Group","id":"a"}`) + "," + group("a", `{"type":"Node","id":""}`),
	} {
		src := payload.Sources{payload.SchemaFile: []byte(schema), payload.EntitiesFile: []byte("[" + entities + "]")}
		if _, _, err := Build(src, testMeta); err == nil || !strings.Contains(err.Error(), "entities") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUncovered(t *testing.T) {
	s := mustSet(t, payload.InitSources())
	got := s.Uncovered([]macronode.Binding{
		{Op: "ok", Action: "object:get", Resource: macronode.ObjectResource},
		{Op: "public", Public: true},
		{Op: "unknown", Action: "object:burn", Resource: macronode.ObjectResource},
		{Op: "kind", Action: "object:get", Resource: macronode.KeyResource},
	})
	if !slices.Equal(got, []macronode.Op{"unknown", "kind"}) {
		t.Errorf("%q", got)
	}
}
