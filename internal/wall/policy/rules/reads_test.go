// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rulegen"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// What a rule reads decides what is left out of cache keys, so each form is
// pinned here.
func TestReads(t *testing.T) {
	const static = `[{"uid":{"type":"Capability","id":"07000000000000000000000000000000"},"attrs":{"label":"x","tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[]},
{"uid":{"type":"Object","id":"a"},"attrs":{"tenant":{"__entity":{"type":"Tenant","id":"x"}}},"parents":[]}]`
	const inside = `[{"uid":{"type":"Group","id":"g"},"attrs":{},"parents":[{"type":"Capability","id":"x"}]}]`
	grouped := strings.Replace(payload.DefaultSchema(), "entity Tenant {", "entity Group in [Capability];\nentity Tenant {", 1)
	when := func(c string) string {
		return "permit (principal, action, resource) when { " + c + " };"
	}
	for _, tc := range []struct {
		rule, entities, schema string
		want                   form.Reads
	}{
		{permitAll, static, rulegen.Schema(true), 0},
		{`permit (principal is Capability, action == Action::"object:get", resource is Object);`, static, "", 0},
		{`permit (principal in Tenant::"x", action, resource in Tenant::"x");`, "", "", 0},
		{`permit (principal in Tenant::"x", action, resource);`, static, "", form.ReadsPrincipal},
		{`permit (principal, action, resource in Tenant::"x");`, static, "", form.ReadsResource},
		{`permit (principal is Capability in Tenant::"x", action, resource is Object in Tenant::"x");`, static, "", form.ReadsPrincipal | form.ReadsResource},
		{`permit (principal == Capability::"x", action, resource);`, "", "", form.ReadsPrincipal},
		{`permit (principal in Capability::"x", action, resource);`, "", "", form.ReadsPrincipal},
		{`permit (principal, action, resource == Object::"x");`, "", "", form.ReadsResource},
		{when(`principal.tenant == resource.tenant && principal.label == "x" && resource has tenant`), static, "", 0},
		{when(`principal.tenant has plan && principal.tenant.plan == "x"`), "", "", 0},
		{when(`principal.tenant has plan`), "", rulegen.Schema(true), form.ReadsPrincipal | form.ReadsResource},
		{when(`principal is Capability && principal has rank`), "", "", form.ReadsPrincipal},
		{when(`resource is Object && resource has hot && resource.hot`), "", "", form.ReadsResource},
		{when(`principal in Tenant::"x"`), "", "", 0},
		{when(`principal in [Group::"h", Group::"g"]`), "", "", 0},
		{when(`principal in [Group::"h", Group::"g"]`), static, "", form.ReadsPrincipal},
		{when(`principal is Capability in Tenant::"x"`), "", "", 0},
		{when(`resource in Group::"g"`), static, "", form.ReadsResource},
		{when(`principal in resource.tenant`), "", "", form.ReadsPrincipal},
		{when(`resource == Object::"x"`), "", "", form.ReadsResource},
		{when(`principal == Capability::"x" || Object::"b" in Tenant::"x"`), "", "", form.ReadsPrincipal | form.ReadsResource},
		{when(`Tenant::"x" in Group::"g"`), "", "", 0},
		{when(`Group::"g" in Tenant::"x"`), inside, grouped, form.ReadsPrincipal | form.ReadsResource},
		{`permit (principal in Group::"g", action, resource);`, inside, rulegen.Schema(true), 0},
		{when(`action in [Action::"data", Action::"econ"]`), "", "", 0},
		{when(`context.bytes > 1`), "", "", form.ReadsBytes},
		{when(`context.ip.isLoopback()`), "", "", form.ReadsIP},
		{when(`context.tls`), "", "", form.ReadsTLS},
		{when(`context.mtls_subject like "*"`), "", "", form.ReadsSubject},
		{when(`context.path == context.method`), "", "", form.ReadsPath | form.ReadsMethod},
		{when(`if context.hour > 1 then context.service == "x" else false`), "", "", form.ReadsHour | form.ReadsService},
		{when(`context == context`), "", "", form.AllContext},
		{when(`[principal.label, context.path].contains("x")`), "", "", form.ReadsPath},
		{when(`{"a": resource} == {"a": resource}`), "", "", form.ReadsResource},
	} {
		src := rules(tc.rule)
		src[payload.SchemaFile] = []byte(rulegen.Schema(false))
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
