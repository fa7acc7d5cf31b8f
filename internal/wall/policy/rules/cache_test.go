// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// A cached decision lives for the TTL and no longer, also where the clock jumps.
func TestCacheTTL(t *testing.T) {
	s := mustSet(t, rules(permitAll))
	r := ask("object:get", macronode.ObjectResource, "a")
	at := func(now time.Time) *cacheEntry {
		s.Decide(r, now, time.Second)
		var k form.Key
		k.Fill(r, s.m.index[r.Action], 0)
		return s.cache.slot(&k).Load()
	}
	first := at(noon)
	if at(noon.Add(999*time.Millisecond)) != first {
		t.Error("not cached")
	}
	second := at(noon.Add(time.Second))
	if second == first {
		t.Error("cached past the TTL")
	}
	if at(noon.Add(-time.Hour)) == second {
		t.Error("cached from the future")
	}
}

// Requests that differ in what a rule reads do not get each other's answers,
// and long or odd texts do not run into one another.
func TestCachePoisoning(t *testing.T) {
	s := mustSet(t, rules(`permit (principal, action, resource == Object::"good") when { context.path == "/a" && context.mtls_subject == "b" };`))
	good := func() *wall.PolicyRequest {
		r := ask("object:get", macronode.ObjectResource, "good")
		r.Path, r.Subject = "/a", "b"
		return r
	}
	for name, change := range map[string]func(*wall.PolicyRequest){
		"resource":      func(r *wall.PolicyRequest) { r.Resource.ID = "goo" },
		"resource case": func(r *wall.PolicyRequest) { r.Resource.ID = "Good" },
		"nul":           func(r *wall.PolicyRequest) { r.Resource.ID = "good\x00" },
		"shifted":       func(r *wall.PolicyRequest) { r.Path, r.Subject = "/ab", "" },
		"kind":          func(r *wall.PolicyRequest) { r.Resource.Kind = macronode.NodeResource },
		"action":        func(r *wall.PolicyRequest) { r.Action = "name:get" },
		"tenant":        func(r *wall.PolicyRequest) { r.Principal.Tenant = macronode.TenantID{1} },
		"long":          func(r *wall.PolicyRequest) { r.Path = "/a" + strings.Repeat("a", 5000) },
	} {
		bad := good()
		change(bad)
		for range 3 {
			if a := s.Decide(good(), noon, time.Hour); !a.Decision.Allow {
				t.Fatalf("%s: the good request is denied", name)
			}
			if a := s.Decide(bad, noon, time.Hour); a.Decision.Allow {
				t.Fatalf("%s: allowed", name)
			}
		}
	}
}

// keyCases is, for each field of a key, a rule that depends on it and a change
// of a request that the rule permits to one that it does not.
var keyCases = []struct {
	field  string
	rule   string
	group  bool // there is a group, in a capability
	change func(*wall.PolicyRequest)
}{
	{"Action", `permit (principal, action == Action::"object:get", resource);`, false, func(r *wall.PolicyRequest) { r.Action = "object:list" }},
	{"Kind", `permit (principal is Capability, action, resource);`, false, func(r *wall.PolicyRequest) { r.Principal.Kind = macronode.Anonymous }},
	{"ResourceKind", `permit (principal, action == Action::"index:read", resource is Object);`, false, func(r *wall.PolicyRequest) { r.Resource.Kind = macronode.NameResource }},
	{"Tenant", `permit (principal in Tenant::"@", action, resource);`, false, func(r *wall.PolicyRequest) {
		r.Principal.Tenant = macronode.TenantID{8}
		r.Tenant = &macronode.Tenant{ID: macronode.TenantID{8}, Label: r.Tenant.Label}
	}},
	{"Label", `permit (principal, action, resource) when { principal.label == "dev" };`, false, func(r *wall.PolicyRequest) {
		r.Tenant = &macronode.Tenant{ID: r.Tenant.ID, Label: "dev2"}
	}},
	{"Root", `permit (principal == Capability::"01000000000000000000000000000000", action, resource);`, false, func(r *wall.PolicyRequest) { r.Principal.RootID = macronode.CapID{2} }},
	{"root through a group", `permit (principal, action, resource) when { Group::"g" in Tenant::"@" };`, true, func(r *wall.PolicyRequest) { r.Principal.RootID = macronode.CapID{2} }},
	{"Node", `permit (principal == Peer::"b3:11", action, resource);`, false, func(r *wall.PolicyRequest) { r.Principal.Node = "b3:12" }},
	{"Resource", `permit (principal, action, resource == Object::"good");`, false, func(r *wall.PolicyRequest) { r.Resource.ID = "bad" }},
	{"Bytes", `permit (principal, action, resource) when { context.bytes < 9 };`, false, func(r *wall.PolicyRequest) { r.Bytes = 9 }},
	{"IP", `permit (principal, action, resource) when { context.ip.isInRange(ip("10.0.0.0/8")) };`, false, func(r *wall.PolicyRequest) { r.IP = netip.Addr{} }},
	{"TLS", `permit (principal, action, resource) when { context.tls };`, false, func(r *wall.PolicyRequest) { r.TLS = false }},
	{"Hour", `permit (principal, action, resource) when { context.hour < 13 };`, false, func(r *wall.PolicyRequest) { r.Time = r.Time.Add(time.Hour) }},
	{"Subject", `permit (principal, action, resource) when { context.mtls_subject == "" };`, false, func(r *wall.PolicyRequest) { r.Subject = "CN=a" }},
	{"Path", `permit (principal, action, resource) when { context.path like "/o/*" };`, false, func(r *wall.PolicyRequest) { r.Path = "/v1/objects" }},
	{"Method", `permit (principal, action, resource) when { context.method == "GET" };`, false, func(r *wall.PolicyRequest) { r.Method = "HEAD" }},
	{"Service", `permit (principal, action, resource) when { context.service == "svc-storage" };`, false, func(r *wall.PolicyRequest) { r.Service = "svc-index" }},
}

// Whatever a rule depends on keeps answers apart, in either order, also where
// all keys have the same hash: then nothing but the comparison stands between.
func TestKeyKeepsApart(t *testing.T) {
	for _, tc := range keyCases {
		t.Run(tc.field, func(t *testing.T) {
			src := rules(strings.ReplaceAll(tc.rule, "@", devTenant.String()))
			if tc.group {
				// No attribute leads to a capability: only the group's parent does.
				src[payload.SchemaFile] = []byte(strings.Replace(payload.DefaultSchema(), "entity Tenant {", "entity Group in [Capability];\nentity Tenant {", 1))
				src[payload.EntitiesFile] = []byte(`[{"uid":{"type":"Group","id":"g"},"attrs":{},"parents":[{"type":"Capability","id":"01000000000000000000000000000000"}]}]`)
			}
			good := ask("object:get", macronode.ObjectResource, "good")
			switch tc.field {
			case "ResourceKind":
				good.Action = "index:read"
			case "Node":
				good.Action, good.Principal.Kind, good.Principal.Node = "overlay:peer", macronode.PeerNode, "b3:11"
				good.Resource = macronode.Resource{Kind: macronode.NodeResource}
			}
			bad := *good
			p := *good.Principal
			bad.Principal = &p
			tc.change(&bad)
			for _, mask := range []uint64{cacheSlots - 1, 0} {
				for _, order := range [][]*wall.PolicyRequest{{good, &bad, good}, {&bad, good, &bad}} {
					s := mustSet(t, src)
					s.cache.mask = mask
					for i, r := range order {
						if a := s.Decide(r, noon, time.Hour); a.Decision.Allow != (r == good) {
							t.Errorf("mask %d, request %d (good: %v): allow = %v", mask, i, r == good, a.Decision.Allow)
						}
					}
				}
			}
		})
	}
}

// A field that is added to what a decision is asked about must be put in the
// key, or be named here as one that rules never see.
func TestKeyCoversRequests(t *testing.T) {
	inKey := map[string]string{
		"PolicyRequest.Action": "Action", "PolicyRequest.Bytes": "Bytes", "PolicyRequest.IP": "IP", "PolicyRequest.TLS": "TLS",
		"PolicyRequest.Subject": "Subject", "PolicyRequest.Path": "Path", "PolicyRequest.Method": "Method", "PolicyRequest.Service": "Service",
		"PolicyRequest.Time": "Hour", "Principal.Kind": "Kind", "Principal.Tenant": "Tenant", "Principal.RootID": "Root", "Principal.Node": "Node",
		"Tenant.ID": "Tenant", "Tenant.Label": "Label", "Resource.Kind": "ResourceKind", "Resource.ID": "Resource",
	}
	unseen := []string{"Principal.LeafID", "Principal.MaxBytes", "Principal.Rates", "Principal.Expires", "Tenant.Suspended", "Tenant.Quota"}
	key := reflect.TypeFor[form.Key]()
	for _, of := range []reflect.Type{reflect.TypeFor[wall.PolicyRequest](), reflect.TypeFor[macronode.Principal](), reflect.TypeFor[macronode.Tenant](), reflect.TypeFor[macronode.Resource]()} {
		for f := range of.Fields() {
			name := of.Name() + "." + f.Name
			if field, ok := inKey[name]; ok {
				if _, ok := key.FieldByName(field); !ok {
					t.Errorf("%s: a key has no %s", name, field)
				}
				continue
			}
			if !slices.Contains(unseen, name) && !slices.Contains([]string{"PolicyRequest.Principal", "PolicyRequest.Tenant", "PolicyRequest.Resource"}, name) {
				t.Errorf("%s is neither in the key nor known to be unseen", name)
			}
		}
	}
	tested := map[string]bool{}
	for _, tc := range keyCases {
		tested[tc.field] = true
	}
	for f := range key.Fields() {
		if !tested[f.Name] {
			t.Errorf("keyCases has nothing about %s", f.Name)
		}
	}
}

// What is not in a key cannot be looked at: a rule whose reads are found
// wrongly fails, and so denies, rather than guess.
func TestUnreadIsNotSeen(t *testing.T) {
	for _, text := range []string{
		`permit (principal, action, resource) when { context.bytes == 0 };`,
		`permit (principal, action, resource) when { context.tls == false };`,
		`permit (principal, action, resource) when { context.mtls_subject == "" };`,
		`permit (principal, action, resource) when { context.hour == 0 || context.hour == 12 };`,
		`permit (principal, action, resource) when { context.ip.isIpv4() || context.ip.isIpv6() };`,
		`permit (principal, action, resource == Object::"good");`,
		`permit (principal == Capability::"01000000000000000000000000000000", action, resource);`,
		`permit (principal, action, resource) when { principal == Capability::"01000000000000000000000000000000" };`,
	} {
		s := mustSet(t, rules(text))
		for i := range s.idx.reads {
			s.idx.reads[i] = [numPrincipals][numResources]form.Reads{}
		}
		r := ask("object:get", macronode.ObjectResource, "good")
		r.TLS = false
		if a := s.Decide(r, noon, 0); a.Decision.Allow {
			t.Errorf("%s: allowed", text)
		}
	}
}

// Keys do not keep the request's buffers.
func TestCacheOwnsItsKeys(t *testing.T) {
	s := mustSet(t, rules(`permit (principal, action, resource == Object::"good");`))
	r := ask("object:get", macronode.ObjectResource, "good")
	want := s.idx.reads[s.m.index["object:get"]][macronode.Capability][macronode.ObjectResource]
	if want != form.ReadsResource {
		t.Fatalf("reads %b", want)
	}
	s.Decide(r, noon, time.Hour)
	var k form.Key
	k.Fill(r, s.m.index[r.Action], want)
	if e := s.cache.slot(&k).Load(); e == nil || e.key != k || unsafe.StringData(e.key.Resource) == unsafe.StringData(r.Resource.ID) {
		t.Error("the key is not kept, or is the request's own bytes")
	}
	long := ask("object:get", macronode.ObjectResource, strings.Repeat("x", form.MaxKeyText+1))
	s.Decide(long, noon, time.Hour)
	k.Fill(long, s.m.index[r.Action], want)
	if e := s.cache.slot(&k).Load(); e != nil && e.key == k {
		t.Error("a long key is kept")
	}
}

// Neither a kept answer nor one that is made by forms allocates.
func TestDecideAllocatesNothing(t *testing.T) {
	s := mustSet(t, rules(`permit (principal in Tenant::"`+devTenant.String()+`", action, resource == Object::"good")
		when { principal.tenant.label like "d*" && context.bytes + 1 < 9 && context.ip.isInRange(ip("10.0.0.0/8")) && ["GET", "PUT"].contains(context.method) }
		unless { principal == Capability::"02000000000000000000000000000000" };`))
	r := ask("object:get", macronode.ObjectResource, "good")
	for _, ttl := range []time.Duration{0, time.Hour} {
		if n := testing.AllocsPerRun(100, func() {
			if a := s.Decide(r, noon, ttl); !a.Decision.Allow {
				t.Error("denied")
			}
		}); n != 0 {
			t.Errorf("time to live %v: %v allocations", ttl, n)
		}
	}
}

// Many goroutines that ask one set, all their keys in one slot, get each their
// own answers.
func TestDecideAtOnce(t *testing.T) {
	s := mustSet(t, rules(`permit (principal, action, resource == Object::"good") when { context.bytes < 9 };`))
	s.cache.mask = 0
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 3000 {
				r := ask("object:get", macronode.ObjectResource, []string{"good", "bad"}[(i+n)%2])
				r.Bytes = int64(i % 12)
				if a := s.Decide(r, noon, time.Hour); a.Decision.Allow != (r.Resource.ID == "good" && r.Bytes < 9) {
					t.Errorf("%s, %d bytes: allow = %v", r.Resource.ID, r.Bytes, a.Decision.Allow)
				}
			}
		})
	}
	all.Wait()
}
