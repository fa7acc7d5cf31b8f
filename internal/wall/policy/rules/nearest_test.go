// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

func TestNearest(t *testing.T) {
	dev := devTenant.String()
	src := rules(`@id("system") permit (principal in Tenant::"00000000000000000000000001", action, resource);
@id("small") permit (principal is Capability in Tenant::"` + dev + `", action == Action::"object:put", resource is Object) when { context.bytes <= 100 };
@id("day") permit (principal in Tenant::"` + dev + `", action in Action::"data:read", resource in Tenant::"` + dev + `") when { context.tls } unless { context.hour < 6 };
@id("named") permit (principal in Tenant::"` + dev + `", action == Action::"name:get", resource == Name::"www");
@id("overflow") permit (principal in Tenant::"` + dev + `", action == Action::"name:set", resource) when { context.bytes + 9223372036854775807 > 0 };
@id("stop") forbid (principal, action == Action::"search:query", resource) when { context.hour == 13 };
@id("search") permit (principal in Tenant::"` + dev + `", action == Action::"search:query", resource);`)
	src[payload.TestsFile] = []byte("[tenants]\ndev = \"" + dev + "\"\n")
	s, _, err := load(mustBuild(t, src))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	base := payload.Request{Tenant: "dev", Action: "object:put", Resource: "object/a", Hour: 12}
	for name, c := range map[string]struct {
		change func(*payload.Request)
		want   string // "ID: part wants … has …; …"; "" none
	}{
		"one condition": {func(r *payload.Request) { r.Bytes = 101 }, `small: condition wants when { context.bytes <= 100 }`},
		"two conditions": {func(r *payload.Request) { r.Action, r.TLS, r.Hour = "object:get", &no, 3 },
			`day: condition wants when { context.tls }; condition wants unless { context.hour < 6 }`},
		// A principal that fits and another deed are nearer than another principal.
		"action":   {func(r *payload.Request) { r.Action = "object:delete" }, `small: action wants action == Action::"object:put" has Action::"object:delete"`},
		"resource": {func(r *payload.Request) { r.Action, r.Resource, r.TLS = "name:get", "name/mail", &no }, `day: condition wants when { context.tls }`},
		"another": {func(r *payload.Request) { r.Tenant = "01ARZ3NDEKTSV4RRFFQ69G5FAV" },
			`system: principal wants principal in Tenant::"00000000000000000000000001" has Capability::"`},
		"fails":        {func(r *payload.Request) { r.Action, r.Resource, r.Bytes = "name:set", "name/www", 1 }, `overflow: condition wants when { context.bytes + 9223372036854775807 > 0 } fails`},
		"allowed":      {func(*payload.Request) {}, ""},
		"forbidden":    {func(r *payload.Request) { r.Action, r.Resource, r.Hour = "search:query", "facet/search", 13 }, ""},
		"no such kind": {func(r *payload.Request) { r.Resource = "key/a" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			req := base
			c.change(&req)
			r, err := req.Compile(s.doc.Tests.Tenants)
			if err != nil {
				t.Fatal(err)
			}
			g, ok := s.Nearest(r)
			got := ""
			if ok {
				var parts []string
				for _, m := range g.Misses {
					text := m.Part + " wants " + m.Wants
					if m.Has != "" {
						text += " has " + m.Has
					}
					if m.Error != "" {
						text += " fails"
					}
					parts = append(parts, strings.Join(strings.Fields(text), " "))
				}
				got = g.ID + ": " + strings.Join(parts, "; ")
				if g.File != "a.cedar" || g.Line == 0 || g.Effect != "permit" {
					t.Errorf("%+v", g.RuleRef)
				}
			}
			if !strings.HasPrefix(got, c.want) || (c.want == "") != (got == "") {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
