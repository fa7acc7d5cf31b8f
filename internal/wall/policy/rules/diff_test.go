// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// A small world, so that rules and requests often meet.
var (
	diffTenants = []macronode.TenantID{macronode.SystemTenant, devTenant, {5}, {6}}
	diffRoots   = []macronode.CapID{{1}, {2}, {7}}
	diffActions = []macronode.Action{"object:get", "object:get", "object:put", "name:get", "node:status", "index:read", "overlay:peer"}
	diffIDs     = []string{"", "a", "b"}
)

// diffSchema adds groups of tenants, capabilities and objects, and attributes
// that lead from one entity to another.
func diffSchema() string {
	s := strings.Replace(payload.DefaultSchema(), "entity Tenant {", "entity Group in [Group];\nentity Tenant in [Group] {\n    plan?: String,", 1)
	s = strings.Replace(s, "entity Capability in [Tenant] {", "entity Capability in [Tenant, Group] {\n    rank?: Long,", 1)
	return strings.Replace(s, "entity Object in [Tenant] { tenant: Tenant };", "entity Object in [Tenant, Group] { tenant: Tenant, hot?: Bool };", 1)
}

func pick[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

func tenantLit(t *rapid.T) string {
	return fmt.Sprintf("Tenant::%q", pick(t, "tenant", diffTenants...).String())
}

func capLit(t *rapid.T) string {
	return fmt.Sprintf("Capability::%q", pick(t, "cap", diffRoots...).String())
}

func objectLit(t *rapid.T) string { return fmt.Sprintf("Object::%q", pick(t, "object", diffIDs...)) }

func groupLit(t *rapid.T) string { return fmt.Sprintf("Group::%q", pick(t, "group", "g", "h")) }

func drawCondition(t *rapid.T) string {
	switch rapid.IntRange(0, 22).Draw(t, "condition") {
	case 0:
		return "principal.tenant == resource.tenant"
	case 1:
		return "principal in " + tenantLit(t)
	case 2:
		return "principal in [" + tenantLit(t) + ", " + tenantLit(t) + "]"
	case 3:
		return "principal == " + capLit(t)
	case 4:
		return "resource == " + objectLit(t)
	case 5:
		return "resource in " + groupLit(t)
	case 6:
		return "context.bytes > " + pick(t, "bytes", "0", "10")
	case 7:
		return `context.ip.isInRange(ip("10.0.0.0/8"))`
	case 8:
		return "context.tls"
	case 9:
		return `context.mtls_subject == "CN=a"`
	case 10:
		return `context.path like "/o/*"`
	case 11:
		return `context.method == "GET"`
	case 12:
		return "context.hour < 12"
	case 13:
		return `context.service == "svc-storage"`
	case 14:
		return `principal.label == "dev"`
	case 15:
		return `principal.tenant has plan && principal.tenant.plan == "big"`
	case 16:
		return "principal is Capability && principal has rank && principal.rank > 3"
	case 17:
		return "resource is Object && resource has hot && resource.hot"
	case 18:
		return capLit(t) + " in " + tenantLit(t)
	case 19:
		return capLit(t) + ".tenant == " + tenantLit(t) // fails where there is no such entity
	case 20:
		return "context.bytes + 9223372036854775797 > 0" // fails from 11 on
	case 21:
		return objectLit(t) + " in " + tenantLit(t)
	}
	return tenantLit(t) + `.label == "dev"` // fails but for the request's own
}

func drawRules(t *rapid.T) string {
	var b strings.Builder
	for range rapid.IntRange(1, 14).Draw(t, "rules") {
		effect := pick(t, "effect", "permit", "permit", "permit", "permit", "permit", "forbid")
		principal := pick(t, "principal", "principal", "principal", "principal is Capability", "principal is Anonymous",
			"principal in "+tenantLit(t), "principal is Capability in "+tenantLit(t), "principal == "+capLit(t), "principal in "+groupLit(t))
		action := pick(t, "action", "action", "action", `action in Action::"data"`, `action == Action::"object:get"`,
			`action in [Action::"operate", Action::"object:*"]`)
		resource := pick(t, "resource", "resource", "resource", "resource is Object", "resource == "+objectLit(t),
			"resource in "+tenantLit(t), "resource in "+groupLit(t))
		fmt.Fprintf(&b, "%s (%s, %s, %s)", effect, principal, action, resource)
		for range rapid.IntRange(0, 2).Draw(t, "conditions") {
			fmt.Fprintf(&b, " %s { %s }", pick(t, "when", "when", "unless"), drawCondition(t))
		}
		b.WriteString(";\n")
	}
	return b.String()
}

func drawEntities(t *rapid.T) string {
	list := []string{`{"uid":{"type":"Group","id":"g"},"attrs":{},"parents":[{"type":"Group","id":"h"}]}`}
	if rapid.Bool().Draw(t, "static tenant") {
		list = append(list, strings.Replace(tenantJSON(devTenant.String(), `{"type":"Group","id":"g"}`), `"attrs":{`, `"attrs":{"plan":"big",`, 1))
	}
	attrs := `"tenant":{"__entity":{"type":"Tenant","id":"x"}}`
	if rapid.Bool().Draw(t, "static capability") {
		list = append(list, `{"uid":{"type":"Capability","id":"`+macronode.CapID{7}.String()+`"},"attrs":{"label":"x","rank":4,`+attrs+`},"parents":[{"type":"Group","id":"g"}]}`)
	}
	if rapid.Bool().Draw(t, "static object") {
		list = append(list, `{"uid":{"type":"Object","id":"a"},"attrs":{"hot":true,`+attrs+`},"parents":[{"type":"Group","id":"h"}]}`)
	}
	return "[" + strings.Join(list, ",") + "]"
}

func drawRequest(t *rapid.T) *wall.PolicyRequest {
	id := pick(t, "tenant", diffTenants...)
	r := &wall.PolicyRequest{
		Principal: &macronode.Principal{
			Kind:   pick(t, "kind", macronode.Capability, macronode.Capability, macronode.Capability, macronode.Anonymous, macronode.PeerNode),
			Tenant: id, RootID: pick(t, "root", diffRoots...), Node: "b3:" + pick(t, "node", "1", "2"),
		},
		Tenant:   &macronode.Tenant{ID: id, Label: pick(t, "label", "dev", "other")},
		Action:   pick(t, "action", diffActions...),
		Resource: macronode.Resource{Kind: pick(t, "rkind", macronode.ObjectResource, macronode.ObjectResource, macronode.NodeResource, macronode.NameResource), ID: pick(t, "id", diffIDs...)},
		Bytes:    pick(t, "bytes", int64(0), 5, 20),
		IP:       pick(t, "ip", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.Addr{}, netip.MustParseAddr("::ffff:10.0.0.1")),
		TLS:      rapid.Bool().Draw(t, "tls"), Subject: pick(t, "subject", "", "CN=a"),
		Path: pick(t, "path", "/o/{addr}", "/v1/names"), Method: pick(t, "method", "GET", "PUT"),
		Service: pick(t, "service", "svc-storage", "ron-naming"),
		Time:    noon.Add(time.Duration(rapid.IntRange(0, 23).Draw(t, "hour")) * time.Hour),
	}
	if r.Principal.Kind == macronode.Anonymous {
		r.Principal.RootID = macronode.CapID{}
	}
	return r
}

// vary returns r with one part from other: what a cache that leaves the part out
// of its key would confuse with r.
func vary(t *rapid.T, r, other *wall.PolicyRequest) *wall.PolicyRequest {
	v, p := *r, *r.Principal
	v.Principal = &p
	switch rapid.IntRange(0, 12).Draw(t, "part") {
	case 0:
		p.RootID = other.Principal.RootID
	case 1:
		p.Node = other.Principal.Node
	case 2:
		v.Tenant, p.Tenant = other.Tenant, other.Tenant.ID
	case 3:
		v.Action, v.Resource.Kind = other.Action, other.Resource.Kind
	case 4:
		v.Resource.ID = other.Resource.ID
	case 5:
		v.Bytes = other.Bytes
	case 6:
		v.IP = other.IP
	case 7:
		v.TLS = !v.TLS
	case 8:
		v.Subject = other.Subject
	case 9:
		v.Path = other.Path
	case 10:
		v.Method = other.Method
	case 11:
		v.Time = other.Time
	default:
		v.Service = other.Service
	}
	return &v
}

// plain is the decision of cedar-go alone: every rule, the whole context, and
// the entities as a plain map, made here from the request.
func plain(s *Set, r *wall.PolicyRequest) (allow bool, reasons map[types.PolicyID]bool, failures map[types.PolicyID]bool) {
	action, ok := s.admissible(r)
	if !ok {
		return false, nil, nil
	}
	sc := s.w.scene(r, action)
	var entities types.EntityMap
	if err := json.Unmarshal(s.doc.Entities, &entities); err != nil {
		panic(err)
	}
	for uid, a := range s.m.schema.Actions {
		entities[uid] = a.Entity
	}
	entities[sc.pt.entity.UID], entities[sc.rt.entity.UID] = sc.pt.entity, sc.rt.entity
	entities[sc.principal.UID], entities[sc.resource.UID] = sc.principal, sc.resource
	var v contextValues
	v.fill(r)
	all := cedar.NewPolicySet()
	for _, rule := range s.rules {
		all.Add(rule.id, rule.policy)
	}
	ok2, diag := cedar.Authorize(all, entities, types.Request{
		Principal: sc.principal.UID, Action: s.m.actions[action].uid, Resource: sc.resource.UID, Context: newContext(&v, allContext),
	})
	reasons, failures = map[types.PolicyID]bool{}, map[types.PolicyID]bool{}
	for _, d := range diag.Reasons {
		reasons[d.PolicyID] = true
	}
	for _, d := range diag.Errors {
		failures[d.PolicyID] = true
	}
	return bool(ok2) && len(diag.Errors) == 0, reasons, failures
}

// Slicing by scope, leaving out what is not read, and the cache change no
// decision and no reason: on random rules, entities and requests the answers
// are those of plain Cedar.

func TestDifferential(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := payload.Sources{"a.cedar": []byte(drawRules(t)), payload.SchemaFile: []byte(diffSchema()), payload.EntitiesFile: []byte(drawEntities(t))}
		built, _, err := Build(src, testMeta)
		if err != nil {
			t.Skip(err) // some conditions never apply in their scope: strict validation refuses them
		}
		s, err := Load(built)
		if err != nil {
			t.Fatal(err)
		}
		var base *wall.PolicyRequest
		for i := range 60 {
			r := drawRequest(t)
			if i%15 == 0 {
				base = r
			} else {
				r = vary(t, base, r)
			}
			got := s.Decide(r, noon, time.Hour)
			allow, reasons, failures := plain(s, r)
			if got.Decision.Allow != allow {
				t.Fatalf("allow = %v, plain Cedar says %v\n%s\n%+v\n%+v", got.Decision.Allow, allow, src["a.cedar"], r, r.Principal)
			}
			want := reasons
			if len(failures) > 0 {
				want = failures
			}
			have := map[types.PolicyID]bool{}
			for _, id := range got.Decision.Reasons {
				have[types.PolicyID(id)] = true
			}
			if len(have)+len(want) > 0 && !reflect.DeepEqual(have, want) {
				t.Fatalf("reasons = %v, plain Cedar says %v\n%s\n%+v", have, want, src["a.cedar"], r)
			}
		}
	})
}
