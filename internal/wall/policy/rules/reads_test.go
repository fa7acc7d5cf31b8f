// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// What a rule reads decides what is left out of cache keys, so each form is
// pinned here.
func TestReads(t *testing.T) {
	const static = `[{"uid":{"type":"Capability","id":"07000000000000000000000000000000"},"attrs":{"label":"x","tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[]},
{"uid":{"type":"Object","id":"a"},"attrs":{"tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[]}]`
	tangled := strings.Replace(diffSchema(), "plan?: String,", "plan?: String, owner?: Capability,", 1)
	when := func(c string) string {
		return "permit (principal, action, resource) when { " + c + " };"
	}
	for _, tc := range []struct {
		rule, entities, schema string
		want                   reads
	}{
		{permitAll, static, tangled, 0},
		{`permit (principal is Capability, action == Action::"object:get", resource is Object);`, static, "", 0},
		{`permit (principal in Tenant::"x", action, resource in Tenant::"x");`, "", "", 0},
		{`permit (principal in Tenant::"x", action, resource);`, static, "", readsPrincipal},
		{`permit (principal, action, resource in Tenant::"x");`, static, "", readsResource},
		{`permit (principal is Capability in Tenant::"x", action, resource is Object in Tenant::"x");`, static, "", readsPrincipal | readsResource},
		{`permit (principal == Capability::"x", action, resource);`, "", "", readsPrincipal},
		{`permit (principal in Capability::"x", action, resource);`, "", "", readsPrincipal},
		{`permit (principal, action, resource == Object::"x");`, "", "", readsResource},
		{when(`principal.tenant == resource.tenant && principal.label == "x" && resource has tenant`), static, "", 0},
		{when(`principal.tenant has plan && principal.tenant.plan == "x"`), "", "", 0},
		{when(`principal.tenant has plan`), "", tangled, readsPrincipal | readsResource},
		{when(`principal is Capability && principal has rank`), "", "", readsPrincipal},
		{when(`resource is Object && resource has hot && resource.hot`), "", "", readsResource},
		{when(`principal in Tenant::"x"`), "", "", 0},
		{when(`principal in [Group::"h", Group::"g"]`), "", "", 0},
		{when(`principal in [Group::"h", Group::"g"]`), static, "", readsPrincipal},
		{when(`principal is Capability in Tenant::"x"`), "", "", 0},
		{when(`resource in Group::"g"`), static, "", readsResource},
		{when(`principal in resource.tenant`), "", "", readsPrincipal},
		{when(`resource == Object::"x"`), "", "", readsResource},
		{when(`principal == Capability::"x" || Object::"b" in Tenant::"x"`), "", "", readsPrincipal | readsResource},
		{when(`Tenant::"x" in Group::"g"`), "", "", 0},
		{when(`action in [Action::"data", Action::"econ"]`), "", "", 0},
		{when(`context.bytes > 1`), "", "", readsBytes},
		{when(`context.ip.isLoopback()`), "", "", readsIP},
		{when(`context.tls`), "", "", readsTLS},
		{when(`context.mtls_subject like "*"`), "", "", readsSubject},
		{when(`context.path == context.method`), "", "", readsPath | readsMethod},
		{when(`if context.hour > 1 then context.service == "x" else false`), "", "", readsHour | readsService},
		{when(`context == context`), "", "", allContext},
		{when(`[principal.label, context.path].contains("x")`), "", "", readsPath},
		{when(`{"a": resource} == {"a": resource}`), "", "", readsResource},
	} {
		src := rules(tc.rule)
		src[payload.SchemaFile] = []byte(diffSchema())
		if tc.schema != "" {
			src[payload.SchemaFile] = []byte(tc.schema)
		}
		if tc.entities != "" {
			src[payload.EntitiesFile] = []byte(tc.entities)
		}
		built, _, err := Build(src, testMeta)
		if err != nil {
			t.Errorf("%s: %v", tc.rule, err)
			continue
		}
		s, err := Load(built)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.rules[0].reads; got != tc.want {
			t.Errorf("%s (entities: %v): reads %b, want %b", tc.rule, tc.entities != "", got, tc.want)
		}
	}
}
