// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rulegen

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// Source is where choices come from. IntN is in [0, n).
type Source interface{ IntN(n int) int }

// Gen makes rules and requests.
type Gen struct {
	Src Source
	// Faults is how many in a thousand expressions may fail when evaluated.
	Faults int
}

// The small world.
var (
	devTenant = macronode.TenantID{9, 9}
	tenants   = []macronode.TenantID{macronode.SystemTenant, devTenant, {5}, {6}}
	roots     = []macronode.CapID{{1}, {2}, {7}}
	actions   = []macronode.Action{"object:get", "object:get", "object:put", "name:get", "node:status", "index:read", "overlay:peer"}
	ids       = []string{"", "a", "b"}
	addrs     = []netip.Addr{
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), {}, netip.MustParseAddr("::ffff:10.0.0.1"),
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("ff02::1"),
	}
)

// fits are kinds that the schema has together.
var fits = []struct {
	action    macronode.Action
	kind      macronode.ResourceKind
	principal macronode.PrincipalKind
}{
	{"object:get", macronode.ObjectResource, macronode.Capability}, {"object:get", macronode.ObjectResource, macronode.Capability},
	{"object:put", macronode.ObjectResource, macronode.Capability}, {"index:read", macronode.ObjectResource, macronode.Capability},
	{"name:get", macronode.NameResource, macronode.Capability}, {"node:status", macronode.NodeResource, macronode.Capability},
	{"overlay:peer", macronode.NodeResource, macronode.PeerNode},
}

func (g Gen) chance(n, of int) bool { return g.Src.IntN(of) < n }

func one[T any](g Gen, from ...T) T { return from[g.Src.IntN(len(from))] }

func (g Gen) tenant() string     { return fmt.Sprintf("Tenant::%q", one(g, tenants...).String()) }
func (g Gen) capability() string { return fmt.Sprintf("Capability::%q", one(g, roots...).String()) }
func (g Gen) object() string     { return fmt.Sprintf("Object::%q", one(g, ids...)) }
func (g Gen) group() string      { return fmt.Sprintf("Group::%q", one(g, "g", "h", "i")) }

// Schema is the node's own with groups of tenants, capabilities and objects,
// and with attributes and tags of every type. In a tangled one attributes and
// parents lead from any entity to a request's own principal.
func Schema(tangled bool) string {
	group, owner := "Group in [Group]", ""
	if tangled {
		group, owner = "Group in [Group, Capability, Object]", "owner?: Capability, "
	}
	s := payload.DefaultSchema()
	for _, r := range [][2]string{
		{"entity Tenant {", "entity " + group + " { size?: Long, home?: Tenant };\nentity Tenant in [Group] {\n    " + owner +
			"plan?: String, level?: Long, suspended?: Bool, limits?: { rate: Long, burst?: Long }, zones?: Set<String>, best?: Group,"},
		{"entity Capability in [Tenant] {", "entity Capability in [Tenant, Group, Capability] {\n    rank?: Long, nets?: Set<ipaddr>, from?: ipaddr, score?: decimal, since?: datetime, left?: duration,"},
		{"    label: String, // the tenant's label\n};", "    label: String, // the tenant's label\n} tags String;"},
		{"entity Object in [Tenant] { tenant: Tenant };", "entity Object in [Tenant, Group, Object] { tenant: Tenant, hot?: Bool, meta?: { kind: String, by?: Tenant, sizes: Set<Long> } };"},
	} {
		if !strings.Contains(s, r[0]) {
			panic("the default schema has changed: " + r[0])
		}
		s = strings.Replace(s, r[0], r[1], 1)
	}
	return s
}

// Entities is a random entities.json.
func (g Gen) Entities(tangled bool) string {
	var list []string
	add := func(typ, id, attrs string, parents ...string) {
		list = append(list, fmt.Sprintf(`{"uid":{"type":%q,"id":%q},"attrs":{%s},"parents":[%s]}`, typ, id, attrs, strings.Join(parents, ",")))
	}
	ref := func(typ, id string) string { return fmt.Sprintf(`{"type":%q,"id":%q}`, typ, id) }
	entity := func(typ, id string) string { return `{"__entity":` + ref(typ, id) + `}` }
	up := func(all ...string) (out []string) {
		for _, p := range all {
			if g.chance(1, 2) {
				out = append(out, p)
			}
		}
		return out
	}
	g1 := up(ref("Group", "h"))
	g2 := []string(nil)
	if tangled {
		g1 = append(g1, up(ref("Capability", one(g, roots...).String()))...)
		g2 = up(ref("Capability", one(g, roots...).String()), ref("Object", one(g, ids...)))
	}
	// What is above a tenant must not be above itself, nor be in a principal.
	add("Group", "g", `"size":4,"home":`+entity("Tenant", one(g, tenants...).String()), g1...)
	add("Group", "h", "", g2...)
	add("Group", "i", "")
	tenantIn := func() []string {
		if tangled {
			return up(ref("Group", "i"))
		}
		return up(ref("Group", "g"), ref("Group", "i"))
	}
	for _, id := range tenants {
		if !g.chance(1, 2) {
			continue
		}
		attrs := `"label":"x","tenant":` + entity("Tenant", id.String())
		for _, a := range []string{`"plan":"big"`, `"plan":"small"`, `"level":3`, `"suspended":true`, `"limits":{"rate":5}`, `"limits":{"rate":7,"burst":9}`,
			`"zones":["eu","us"]`, `"best":` + entity("Group", "g")} {
			if g.chance(1, 2) && !strings.Contains(attrs, a[:7]) {
				attrs += "," + a
			}
		}
		if tangled && g.chance(1, 2) {
			attrs += `,"owner":` + entity("Capability", one(g, roots...).String())
		}
		add("Tenant", id.String(), attrs, tenantIn()...)
	}
	owned := `"tenant":` + entity("Tenant", devTenant.String())
	// One of a kind may stand above another: "==" does not mean what is in it.
	another := func(typ, id string, of ...string) []string {
		if up := one(g, of...); g.chance(1, 3) && up != id {
			return []string{ref(typ, up)}
		}
		return nil
	}
	if g.chance(1, 2) {
		attrs := `"label":"x","rank":4,"from":{"__extn":{"fn":"ip","arg":"10.0.0.0/8"}},"score":{"__extn":{"fn":"decimal","arg":"1.5"}},` + owned
		if g.chance(1, 2) {
			attrs += `,"nets":[{"__extn":{"fn":"ip","arg":"10.0.0.1"}}],"since":{"__extn":{"fn":"datetime","arg":"2026-01-01"}},"left":{"__extn":{"fn":"duration","arg":"1h"}}`
		}
		id := one(g, roots...).String()
		parents := append(up(ref("Group", "i"), ref("Tenant", one(g, tenants...).String())), another("Capability", id, roots[0].String(), roots[1].String())...)
		add("Capability", id, attrs, parents...)
		if g.chance(1, 2) {
			list[len(list)-1] = strings.TrimSuffix(list[len(list)-1], "}") + `,"tags":{"team":"red"}}`
		}
	}
	if g.chance(1, 2) {
		id := one(g, ids...)
		add("Object", id, `"hot":true,"meta":{"kind":"log","sizes":[1,20]},`+owned, append(up(ref("Group", "i")), another("Object", id, ids...)...)...)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// Request is a random request.
func (g Gen) Request() *wall.PolicyRequest {
	id := one(g, tenants...)
	r := &wall.PolicyRequest{
		Principal: &macronode.Principal{
			Kind:   one(g, macronode.Capability, macronode.Capability, macronode.Capability, macronode.Anonymous, macronode.PeerNode),
			Tenant: id, RootID: one(g, roots...), Node: "b3:" + one(g, "1", "2"),
		},
		Tenant: &macronode.Tenant{ID: id, Label: one(g, "dev", "other")},
		Action: one(g, actions...),
		Resource: macronode.Resource{
			Kind: one(g, macronode.ObjectResource, macronode.ObjectResource, macronode.NodeResource, macronode.NameResource),
			ID:   one(g, ids...),
		},
		Bytes: one(g, int64(0), 5, 20), IP: one(g, addrs...), TLS: g.chance(1, 2), Subject: one(g, "", "CN=a"),
		Path: one(g, "/o/{addr}", "/v1/names"), Method: one(g, "GET", "PUT"), Service: one(g, "svc-storage", "ron-naming"),
		Time: time.Date(2026, 11, 23, g.Src.IntN(24), 0, 0, 0, time.UTC),
	}
	// Most are ones that the schema knows.
	if g.chance(3, 4) {
		fit := one(g, fits...)
		r.Action, r.Resource.Kind = fit.action, fit.kind
		if r.Principal.Kind = fit.principal; r.Principal.Kind == macronode.Capability && g.chance(1, 5) {
			r.Principal.Kind = macronode.Anonymous
		}
	}
	if r.Principal.Kind == macronode.Anonymous {
		r.Principal.RootID = macronode.CapID{}
	}
	return r
}

// Vary returns r with one part from another request: what a cache that leaves
// the part out of its key would confuse with r.
func (g Gen) Vary(r *wall.PolicyRequest) *wall.PolicyRequest {
	other := g.Request()
	v, p, t := *r, *r.Principal, *r.Tenant
	v.Principal, v.Tenant = &p, &t
	switch g.Src.IntN(14) {
	case 0:
		p.RootID = other.Principal.RootID
	case 1:
		p.Node = other.Principal.Node
	case 2:
		t.ID, p.Tenant = other.Tenant.ID, other.Tenant.ID
	case 3:
		t.Label = other.Tenant.Label
	case 4:
		v.Action, v.Resource.Kind = other.Action, other.Resource.Kind
	case 5:
		v.Resource.ID = other.Resource.ID
	case 6:
		v.Bytes = other.Bytes
	case 7:
		v.IP = other.IP
	case 8:
		v.TLS = !v.TLS
	case 9:
		v.Subject = other.Subject
	case 10:
		v.Path = other.Path
	case 11:
		v.Method = other.Method
	case 12:
		v.Time = other.Time
	default:
		v.Service = other.Service
	}
	return &v
}
