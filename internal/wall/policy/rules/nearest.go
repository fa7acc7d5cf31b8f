// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/lacking"
)

// Grant is the permit that came nearest to allowing a request, with what it lacked.
type Grant struct {
	RuleRef
	Misses []lacking.Miss `json:"misses"`
}

// Nearest is the permit that lacked least, the first of equals; false where the
// bundle has none, where one applied, or where the request is none that the schema
// knows. Like Explain it looks at every policy.
func (s *Set) Nearest(r *wall.PolicyRequest) (Grant, bool) {
	action, ok := s.admissible(r)
	if !ok {
		return Grant{}, false
	}
	var k form.Key
	k.Fill(r, action, form.AllReads)
	sc := s.w.scene(&k)
	env := eval.Env{Entities: sc, Principal: sc.principal.UID, Action: s.m.actions[action].uid, Resource: sc.resource.UID,
		Context: form.Context(&k, form.AllContext)}
	var best *rule
	var misses []lacking.Miss
	least := 0
	for _, rule := range s.rules {
		if !rule.permit {
			continue
		}
		these := lacking.Misses((*xast.Policy)(rule.ast), rule.lacks(env), env)
		distance := lacking.Distance(these)
		if distance == 0 {
			return Grant{}, false
		}
		if best == nil || distance < least {
			best, misses, least = rule, these, distance
		}
	}
	if best == nil {
		return Grant{}, false
	}
	return Grant{s.ref(best), misses}, true
}
