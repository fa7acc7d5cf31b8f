// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package policy compares decisions of the node's rules with cedar-go alone and
// with OPA, on the same world: policies that let a group read one bucket under
// a condition, one that forbids suspended users, and 1000 entities: 800 users,
// 100 groups, 100 buckets.
package policy

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

const (
	users   = 800
	groups  = 100
	buckets = 100
)

// call is one question: may the user read the bucket?
type call struct {
	user, bucket int
	bytes        int64
	allow        bool
}

// suspended: one user in 50. level: 1 to 5; rules want 3.
func suspended(user int) bool { return user%50 == 49 }
func level(user int) int      { return 1 + user%7%5 }

// calls are questions with the given answer, of as many users as there are:
// user u is in group u mod 100, and policy i lets group i mod 100 read bucket i.
func calls(policies int, allow bool) []call {
	var out []call
	for u := range users {
		c := call{user: u, bucket: u % groups, bytes: 500}
		if !allow {
			c.bucket = (u%groups + 1) % buckets
		}
		granted := c.bucket == u%groups && c.bucket < policies-1 && level(u) >= 3 && !suspended(u)
		if c.allow = granted; granted == allow && c.bucket < policies-1 {
			out = append(out, c)
		}
	}
	return out
}

// capID is the user as the node knows one: a capability.
func capID(user int) (id macronode.CapID) {
	binary.BigEndian.PutUint64(id[8:], uint64(user))
	return id
}

var tenant = macronode.TenantID{1, 14: 1}

// The two kinds of policies: those of the comparison, and shorter ones of which
// ten thousand fit into a bundle.
const (
	fullRule  = "permit (principal in Group::\"%d\", action == Action::\"object:get\", resource == Object::\"%d\") when { principal has level && principal.level >= 3 && context.bytes <= 1000 };\n"
	shortRule = "permit(principal in Group::\"%d\",action,resource==Object::\"%d\")when{context.bytes<=1000};\n"
	forbid    = "forbid (principal is Capability, action, resource) when { principal has suspended && principal.suspended };\n"
)

// node is the world as a bundle of the node, loaded as the node loads it.
type node struct{ set *rules.Set }

func newNode(policies, users int, rule string) (*node, error) {
	schema := payload.DefaultSchema()
	for _, r := range [][2]string{
		{"entity Capability in [Tenant] {", "entity Group;\nentity Capability in [Tenant, Group] {\n    suspended?: Bool, level?: Long,"},
		{"entity Object in [Tenant] { tenant: Tenant };", "entity Object in [Tenant] { tenant: Tenant, public?: Bool };"},
	} {
		if !strings.Contains(schema, r[0]) {
			return nil, fmt.Errorf("the default schema has no %q", r[0])
		}
		schema = strings.Replace(schema, r[0], r[1], 1)
	}
	var text strings.Builder
	text.WriteString(forbid)
	for i := range policies - 1 {
		fmt.Fprintf(&text, rule, i%groups, i)
	}
	list := make([]string, 0, users+groups+buckets)
	owner := fmt.Sprintf(`"tenant":{"__entity":{"type":"Tenant","id":%q}}`, tenant)
	for i := range groups {
		list = append(list, fmt.Sprintf(`{"uid":{"type":"Group","id":"%d"},"attrs":{},"parents":[]}`, i))
	}
	for i := range min(buckets, users) {
		list = append(list, fmt.Sprintf(`{"uid":{"type":"Object","id":"%d"},"attrs":{"public":false,%s},"parents":[]}`, i, owner))
	}
	for u := range users {
		list = append(list, fmt.Sprintf(`{"uid":{"type":"Capability","id":%q},"attrs":{"label":"x","level":%d,"suspended":%v,%s},"parents":[{"type":"Group","id":"%d"}]}`,
			capID(u).String(), level(u), suspended(u), owner, u%groups))
	}
	built, _, err := rules.Build(payload.Sources{
		"world.cedar": []byte(text.String()), payload.SchemaFile: []byte(schema), payload.EntitiesFile: []byte("[" + strings.Join(list, ",") + "]"),
	}, payload.Meta{Version: 1, Issued: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		return nil, err
	}
	set, err := rules.Load(built)
	if err != nil {
		return nil, err
	}
	return &node{set}, nil
}

// requests are the calls as the wall makes them.
func (n *node) requests(list []call) []*wall.PolicyRequest {
	out := make([]*wall.PolicyRequest, len(list))
	for i, c := range list {
		out[i] = &wall.PolicyRequest{
			Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: tenant, RootID: capID(c.user)},
			Tenant:    &macronode.Tenant{ID: tenant, Label: "x"}, Action: "object:get",
			Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: fmt.Sprint(c.bucket)}, Bytes: c.bytes,
			IP: netip.MustParseAddr("10.0.0.1"), TLS: true, Path: "/o/{addr}", Method: "GET", Service: "svc-storage", Time: time.Unix(1763900000, 0),
		}
	}
	return out
}

// decide is one decision; no time to live, no cache.
func (n *node) decide(r *wall.PolicyRequest, ttl time.Duration) bool {
	return n.set.Decide(r, r.Time, ttl).Decision.Allow
}

// object is a JSON object.
type object = map[string]any

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps, strings and numbers
	}
	return string(b)
}
