// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"

	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// Coverage says which policies a bundle's tests put to the proof.
type Coverage struct {
	Policies []PolicyCoverage `json:"policies"`
	// Decided counts the policies that decided some test that passed; Percent is
	// their share, rounded down. A bundle without policies is covered.
	Decided int `json:"decided"`
	Percent int `json:"percent"`
}

// PolicyCoverage is one policy's.
type PolicyCoverage struct {
	RuleRef
	// DecidedBy are the tests whose decision this policy is a reason for.
	DecidedBy []string `json:"decided_by"`
	// MatchedBy are those that it met without deciding: a permit that another
	// policy overruled.
	MatchedBy []string `json:"matched_by"`
	// Missed are those within its scope whose conditions were not met; a policy
	// with conditions that no test misses is proved on one side only.
	Missed     []string `json:"missed"`
	Conditions bool     `json:"conditions"` // it has some
}

// Cover loads a payload, runs its tests and says which policies they reach. The
// error is of loading alone. Tests that fail cover nothing.
func Cover(b []byte) (Report, Coverage, error) {
	s, rep, err := load(b)
	if err != nil {
		return Report{}, Coverage{}, err
	}
	c := Coverage{Policies: make([]PolicyCoverage, len(s.rules)), Percent: 100}
	for i, r := range s.rules {
		c.Policies[i] = PolicyCoverage{RuleRef: s.ref(r), DecidedBy: []string{}, MatchedBy: []string{}, Missed: []string{}, Conditions: len(r.ast.Conditions) > 0}
	}
	for i := range rep.Results {
		if res := &rep.Results[i]; res.Pass {
			s.cover(&c, res, &s.doc.Tests.Tests[i].Request)
		}
	}
	for i := range c.Policies {
		if len(c.Policies[i].DecidedBy) > 0 {
			c.Decided++
		}
	}
	if len(s.rules) > 0 {
		c.Percent = 100 * c.Decided / len(s.rules)
	}
	return rep, c, nil
}

// cover notes what one test that passed does for each policy.
func (s *Set) cover(c *Coverage, res *Result, q *payload.Request) {
	r, err := q.Compile(s.doc.Tests.Tenants)
	if err != nil {
		return // it did not pass
	}
	action, ok := s.admissible(r)
	if !ok {
		return
	}
	env := s.env(r, action)
	for i, rule := range s.rules {
		p := &c.Policies[i]
		scope, conditions := rule.standing(env)
		switch {
		case slices.Contains(res.Reasons, string(rule.id)):
			p.DecidedBy = append(p.DecidedBy, res.Name)
		case len(scope) > 0:
		case len(conditions) > 0:
			p.Missed = append(p.Missed, res.Name)
		default:
			p.MatchedBy = append(p.MatchedBy, res.Name)
		}
	}
}

// env is the world of r as Cedar sees it, with all of its context.
func (s *Set) env(r *wall.PolicyRequest, action int) eval.Env {
	var k form.Key
	k.Fill(r, action, form.AllReads)
	sc := s.w.scene(&k)
	return eval.Env{
		Entities: sc, Principal: sc.principal.UID, Action: s.m.actions[action].uid, Resource: sc.resource.UID,
		Context: form.Context(&k, form.AllContext),
	}
}

// matched are the policies that r meets, but for those that decided.
func (s *Set) matched(env eval.Env, decided []string) []RuleRef {
	var out []RuleRef
	for _, rule := range s.rules {
		if slices.Contains(decided, string(rule.id)) {
			continue
		}
		if len(rule.lacks(env)) == 0 {
			out = append(out, s.ref(rule))
		}
	}
	return out
}
