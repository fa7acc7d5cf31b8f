// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// BenchmarkDefault is the policy of development mode: what each request pays.
func BenchmarkDefault(b *testing.B) {
	s := mustSet(b, payload.DevSources(devTenant))
	allow := ask("object:get", macronode.ObjectResource, "b3:0011223344556677889900112233445566778899001122334455667788990011")
	deny := ask("node:drain", macronode.NodeResource, "")
	for _, bc := range []struct {
		name string
		r    *wall.PolicyRequest
		ttl  time.Duration
	}{{"warm", allow, time.Hour}, {"cold allow", allow, 0}, {"cold deny", deny, 0}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Decide(bc.r, noon, bc.ttl)
			}
		})
	}
}

// gridSources is the world of the comparison with other engines: n policies,
// each lets one group of tenants read one bucket of objects under conditions,
// and one forbids suspended tenants; 1000 entities (800 tenants, 100 groups,
// 100 buckets).
func gridSources(n int) payload.Sources {
	schema := strings.Replace(payload.DefaultSchema(), "entity Tenant {", "entity Group;\nentity Bucket;\nentity Tenant in [Group] {\n    suspended?: Bool, level?: Long,", 1)
	schema = strings.Replace(schema, "entity Object in [Tenant] { tenant: Tenant };", "entity Object in [Tenant, Bucket] { tenant: Tenant, public?: Bool };", 1)
	var rules strings.Builder
	rules.WriteString(`@id("suspended") forbid (principal is Capability, action, resource) when { principal.tenant has suspended && principal.tenant.suspended };` + "\n")
	for i := range n - 1 {
		fmt.Fprintf(&rules, `@id("p%d") permit (principal in Group::"g%d", action == Action::"object:get", resource == Object::"o%d") when { principal.tenant has level && principal.tenant.level >= 3 && context.bytes <= 1000000 };`+"\n", i, i%100, i)
	}
	var entities []string
	for i := range 100 {
		entities = append(entities, fmt.Sprintf(`{"uid":{"type":"Group","id":"g%d"},"attrs":{},"parents":[]}`, i))
		entities = append(entities, fmt.Sprintf(`{"uid":{"type":"Object","id":"o%d"},"attrs":{"public":false,"tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[]}`, i))
	}
	for i := range 800 {
		entities = append(entities, strings.Replace(tenantJSON(gridTenant(i).String(), fmt.Sprintf(`{"type":"Group","id":"g%d"}`, i%100)), `"attrs":{`, `"attrs":{"suspended":false,"level":5,`, 1))
	}
	return payload.Sources{"grid.cedar": []byte(rules.String()), payload.SchemaFile: []byte(schema), payload.EntitiesFile: []byte("[" + strings.Join(entities, ",") + "]")}
}

func gridTenant(i int) macronode.TenantID {
	return macronode.TenantID{1, 1, 14: byte(i >> 8), 15: byte(i)}
}

func gridRequest(tenant, object int) *wall.PolicyRequest {
	r := ask("object:get", macronode.ObjectResource, fmt.Sprintf("o%d", object))
	r.Principal.Tenant = gridTenant(tenant)
	r.Tenant = &macronode.Tenant{ID: gridTenant(tenant), Label: "x"}
	return r
}

// gridSet compiles the grid; more of it than a bundle may hold, too.
func gridSet(b *testing.B, n int) *Set {
	b.Helper()
	src := gridSources(n)
	schema, err := json.Marshal(string(src[payload.SchemaFile]))
	if err != nil {
		b.Fatal(err)
	}
	s, err := compile(&payload.Doc{Cedar: map[string]string{"grid.cedar": string(src["grid.cedar"])}, Schema: schema, Entities: src[payload.EntitiesFile]})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkGrid compares with plain cedar-go on the same rules and entities.
func BenchmarkGrid(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		s := gridSet(b, n)
		for name, r := range map[string]*wall.PolicyRequest{"allow": gridRequest(7, 7), "deny": gridRequest(8, 7)} {
			if a := s.Decide(r, noon, 0); a.Decision.Allow != (name == "allow") {
				b.Fatalf("%s: %+v", name, a)
			}
			b.Run(fmt.Sprintf("%d/%s/cold", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Decide(r, noon, 0)
				}
			})
			b.Run(fmt.Sprintf("%d/%s/warm", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Decide(r, noon, time.Hour)
				}
			})
			b.Run(fmt.Sprintf("%d/%s/plain cedar", n, name), func(b *testing.B) { benchPlain(b, s, r) })
		}
	}
}

// benchPlain is cedar-go alone, given its request and entities ready-made.
func benchPlain(b *testing.B, s *Set, r *wall.PolicyRequest) {
	action, _ := s.admissible(r)
	var k form.Key
	k.Fill(r, action, form.AllReads)
	sc := s.w.scene(&k)
	entities := s.w.Static.Clone()
	entities[sc.pt.Entity.UID], entities[sc.principal.UID], entities[sc.resource.UID] = sc.pt.Entity, sc.principal, sc.resource
	all := cedar.NewPolicySet()
	for _, rule := range s.rules {
		all.Add(rule.id, rule.policy)
	}
	req := types.Request{Principal: sc.principal.UID, Action: s.m.actions[action].uid, Resource: sc.resource.UID, Context: form.Context(&k, form.AllContext)}
	b.ReportAllocs()
	for b.Loop() {
		cedar.Authorize(all, entities, req)
	}
}

// BenchmarkLoad is what a reload pays.
func BenchmarkLoad(b *testing.B) {
	built := mustBuild(b, payload.DevSources(devTenant))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(built); err != nil {
			b.Fatal(err)
		}
	}
}
