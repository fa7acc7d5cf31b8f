// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/conditions"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// known are the tenants that a bundle speaks of where it says who they are: in
// its tests and its entities.
type known struct {
	ids    map[macronode.TenantID]bool
	labels map[string]bool
	any    bool // it speaks of some
}

func (s *Set) knownTenants() known {
	k := known{
		ids:    map[macronode.TenantID]bool{macronode.SystemTenant: true, macronode.AnonymousTenant: true},
		labels: map[string]bool{macronode.SystemTenantLabel: true, macronode.AnonymousTenantLabel: true},
	}
	id := func(text string) {
		if t, err := macronode.ParseTenantID(text); err == nil {
			k.ids[t], k.any = true, true
		}
	}
	for label, t := range s.doc.Tests.Tenants {
		k.ids[t], k.labels[label], k.any = true, true, true
	}
	for i := range s.doc.Tests.Tests {
		c := &s.doc.Tests.Tests[i]
		id(c.Tenant)
		if c.Label != "" {
			k.labels[c.Label] = true
		}
	}
	for uid := range s.w.Static {
		if uid.Type == form.TenantType {
			id(string(uid.ID))
		}
	}
	return k
}

// tenants looks for rules and quotas that speak of tenants who cannot be, or of
// whom neither tests nor entities know.
func (l *linter) tenants() {
	k := l.s.knownTenants()
	named := map[macronode.TenantID]bool{}
	labels := map[string]bool{}
	for _, r := range l.s.rules {
		l.tenantsOf(r, k, named, labels)
	}
	for _, ref := range slices.Sorted(maps.Keys(l.s.doc.Quotas.Tenants)) {
		id, err := macronode.ParseTenantID(ref)
		switch {
		case err == nil && (k.ids[id] || named[id]), k.labels[ref], labels[ref]:
		case err == nil:
			l.add("note", "unknown-quota", nil, "quotas.toml names tenant %s, of whom no rule, test or entity speaks", ref)
		default:
			l.add("note", "unknown-quota", nil, "quotas.toml names tenant %q, of whom no rule, test or entity speaks%s", ref, suggest(ref, slices.Sorted(maps.Keys(k.labels))))
		}
	}
}

// tenantsOf notes the tenants that a rule names.
func (l *linter) tenantsOf(r *rule, k known, named map[macronode.TenantID]bool, labels map[string]bool) {
	told := map[string]bool{}
	tell := func(level, check, what, format string, args ...any) {
		if !told[check+what] {
			told[check+what] = true
			l.add(level, check, r, format, args...)
		}
	}
	tenant := func(uid types.EntityUID) {
		if uid.Type != form.TenantType {
			return
		}
		text := string(uid.ID)
		id, err := macronode.ParseTenantID(text)
		switch {
		case err != nil || id.String() != text:
			tell("warning", "unknown-tenant", text, "no tenant has the id %q: ids are ULIDs in upper case (ronctl tenant ls), labels are in principal.label", text)
		default:
			named[id] = true
			if k.any && !k.ids[id] {
				tell("note", "unknown-tenant", text, "no test and no entity speaks of tenant %s", text)
			}
		}
	}
	for _, scope := range []ast.IsScopeNode{r.ast.Principal, r.ast.Resource} {
		if e := scopeEntity(scope); e != nil {
			tenant(*e)
		}
	}
	conditions.Entities(r.ast.Conditions, tenant)
	conditions.Labels(r.ast.Conditions, func(label string) {
		labels[label] = true
		if k.any && !k.labels[label] {
			tell("note", "unknown-label", label, "no test speaks of a tenant labelled %q%s", label, suggest(label, slices.Sorted(maps.Keys(k.labels))))
		}
	})
}
