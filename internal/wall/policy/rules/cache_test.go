// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// A cached decision lives for the TTL and no longer, also where the clock jumps.
func TestCacheTTL(t *testing.T) {
	s := mustSet(t, rules(permitAll))
	r := ask("object:get", macronode.ObjectResource, "a")
	at := func(now time.Time) *cacheEntry {
		s.Decide(r, now, time.Second)
		var k cacheKey
		k.fill(r, s.m.index[r.Action], 0)
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

// Two requests of one slot do not get each other's answers.
func TestCacheSlotIsShared(t *testing.T) {
	s := mustSet(t, rules(`permit (principal, action, resource == Object::"good");`))
	action := s.m.index["object:get"]
	want := s.idx.reads[action][macronode.Capability][macronode.ObjectResource]
	good := ask("object:get", macronode.ObjectResource, "good")
	var k cacheKey
	k.fill(good, action, want)
	slot := s.cache.slot(&k)
	for i := range 40 * cacheSlots { // one in cacheSlots will do
		bad := ask("object:get", macronode.ObjectResource, strconv.Itoa(i))
		k = cacheKey{}
		k.fill(bad, action, want)
		if s.cache.slot(&k) != slot {
			continue
		}
		for range 2 {
			if a := s.Decide(good, noon, time.Hour); !a.Decision.Allow {
				t.Error("the good request is denied")
			}
			if a := s.Decide(bad, noon, time.Hour); a.Decision.Allow {
				t.Error("another resource is allowed")
			}
		}
		return
	}
	t.Fatal("no two requests share a slot")
}

// Keys do not keep the request's buffers.
func TestCacheOwnsItsKeys(t *testing.T) {
	s := mustSet(t, rules(`permit (principal, action, resource == Object::"good");`))
	r := ask("object:get", macronode.ObjectResource, "good")
	want := s.idx.reads[s.m.index["object:get"]][macronode.Capability][macronode.ObjectResource]
	if want != readsResource {
		t.Fatalf("reads %b", want)
	}
	s.Decide(r, noon, time.Hour)
	var k cacheKey
	k.fill(r, s.m.index[r.Action], want)
	long := ask("object:get", macronode.ObjectResource, strings.Repeat("x", maxKeyText+1))
	s.Decide(long, noon, time.Hour)
	k.fill(long, s.m.index[r.Action], want)
	if e := s.cache.slot(&k).Load(); e != nil && e.key == k {
		t.Error("a long key is kept")
	}
}
