// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// Explanation says which policies decided a request, and what came close.
type Explanation struct {
	Decision    string    `json:"decision"` // "allow", "deny" or "error"
	Summary     string    `json:"summary"`  // one sentence
	Reasons     []RuleRef `json:"reasons"`  // the policies that decided
	Matched     []RuleRef `json:"matched"`  // those that the request met, and that did not decide
	Errors      []Failure `json:"errors"`   // the policies that failed; each denies
	Obligations []string  `json:"obligations"`
	// NearMisses are, of a denied request, permits that did not apply, those that
	// lacked least first; of an allowed one, forbids within whose scope it is.
	NearMisses []NearMiss `json:"near_misses"`
}

// RuleRef points at a policy.
type RuleRef struct {
	ID     string `json:"id"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Effect string `json:"effect"` // "permit" or "forbid"
}

// Failure is a policy that did not evaluate.
type Failure struct {
	RuleRef
	Message string `json:"message"`
}

// NearMiss is a policy that did not apply.
type NearMiss struct {
	RuleRef
	// Lacks are the parts that were not met: "principal", "action", "resource",
	// or a condition's text.
	Lacks []string `json:"lacks"`
}

// maxNearMisses bounds how many are told.
const maxNearMisses = 5

// Explain loads a payload and explains its decision on a request. Labels of
// tenants are looked up in its tests' [tenants]. Tests that fail are no hindrance.
func Explain(b []byte, req payload.Request) (Explanation, error) {
	s, _, err := load(b)
	if err != nil {
		return Explanation{}, err
	}
	r, err := req.Compile(s.doc.Tests.Tenants)
	if err != nil {
		return Explanation{}, err
	}
	return s.Explain(r), nil
}

func (s *Set) ref(r *rule) RuleRef {
	ref := RuleRef{ID: string(r.id), File: r.ast.Position.Filename, Line: r.ast.Position.Line, Effect: "forbid"}
	if r.permit {
		ref.Effect = "permit"
	}
	return ref
}

// Explain decides r without the cache and says why. It looks at every policy,
// so it is for people, not for requests.
func (s *Set) Explain(r *wall.PolicyRequest) Explanation {
	action, ok := s.admissible(r)
	if !ok {
		return Explanation{Decision: Denied.String(), Summary: s.inadmissible(r)}
	}
	a := s.evaluate(r, action, form.AllReads)
	e := Explanation{Decision: a.Outcome.String()}
	for _, f := range a.Failures {
		if rule := s.ids[f.PolicyID]; rule != nil {
			e.Errors = append(e.Errors, Failure{s.ref(rule), f.Message})
		}
	}
	if a.Outcome != Failed {
		for _, id := range a.Decision.Reasons {
			e.Reasons = append(e.Reasons, s.ref(s.ids[types.PolicyID(id)]))
		}
	}
	e.Obligations = a.Obligations()
	switch {
	case a.Outcome == Allowed:
		e.Summary = "Allowed: " + strings.Join(a.Decision.Reasons, ", ") + " permits it, and nothing forbids it."
	case a.Outcome == Failed:
		e.Summary = "Denied: a policy that applies failed to evaluate: " + strings.Join(a.Decision.Reasons, ", ") + "."
	case len(e.Reasons) > 0:
		e.Summary = "Denied: " + strings.Join(a.Decision.Reasons, ", ") + " forbids it."
	default:
		e.Summary = "Denied: no policy permits it."
	}
	env := s.env(r, action)
	e.Matched = s.matched(env, a.Decision.Reasons)
	e.NearMisses = s.nearMisses(env, a.Outcome != Allowed)
	return e
}

// inadmissible says why no policy was asked.
func (s *Set) inadmissible(r *wall.PolicyRequest) string {
	if _, ok := s.m.index[r.Action]; !ok {
		text := fmt.Sprintf("Denied: the schema knows no action %q", r.Action)
		if near := payload.Nearest(string(r.Action), s.m.actionNames()); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return text
	}
	if r.Principal == nil || r.Tenant == nil {
		return "Denied: the request has no principal."
	}
	return fmt.Sprintf("Denied: the schema does not let %s apply to %s and %s.", r.Action, r.Principal.Kind, r.Resource.Kind)
}

// nearMisses are the permits that did not apply, or the forbids whose conditions
// alone kept them from applying.
func (s *Set) nearMisses(env eval.Env, permits bool) []NearMiss {
	var out []NearMiss
	for _, rule := range s.rules {
		if rule.permit != permits {
			continue
		}
		scope, conditions := rule.standing(env)
		if !permits && len(scope) > 0 {
			continue
		}
		if lacks := append(scope, conditions...); len(lacks) > 0 {
			out = append(out, NearMiss{s.ref(rule), lacks})
		}
	}
	slices.SortStableFunc(out, func(a, b NearMiss) int { return len(a.Lacks) - len(b.Lacks) })
	return out[:min(len(out), maxNearMisses)]
}

// lacks lists the parts of the rule that are not met.
func (r *rule) lacks(env eval.Env) []string {
	scope, conditions := r.standing(env)
	return append(scope, conditions...)
}

// standing lists the parts of the rule's scope that are not met, and its
// conditions. These are tried only where the scope is met: outside it they may
// not even make sense.
func (r *rule) standing(env eval.Env) (scope, conditions []string) {
	unmet := func(name string, p *xast.Policy) []string {
		v, err := eval.Eval(eval.PolicyToNode(p).AsIsNode(), env)
		switch {
		case err != nil:
			return []string{name + " (fails: " + err.Error() + ")"}
		case v != types.True:
			return []string{name}
		}
		return nil
	}
	p := xast.Permit()
	p.Principal = r.ast.Principal
	scope = append(scope, unmet("principal", p)...)
	p = xast.Permit()
	p.Action = r.ast.Action
	scope = append(scope, unmet("action", p)...)
	p = xast.Permit()
	p.Resource = r.ast.Resource
	scope = append(scope, unmet("resource", p)...)
	if len(scope) > 0 {
		return scope, nil
	}
	for _, c := range r.ast.Conditions {
		p = xast.Permit()
		p.Conditions = []xast.ConditionType{c}
		conditions = append(conditions, unmet(conditionText(c), p)...)
	}
	return nil, conditions
}

// conditionText is the condition in Cedar's own words: "when { … }".
func conditionText(c xast.ConditionType) string {
	p := xast.Permit()
	p.Conditions = []xast.ConditionType{c}
	text := string(cedar.NewPolicyFromAST((*ast.Policy)(p)).MarshalCedar())
	for _, word := range []string{"when", "unless"} {
		if _, after, ok := strings.Cut(text, ")\n"+word); ok {
			return word + strings.TrimSuffix(after, ";")
		}
	}
	return strings.TrimSpace(text)
}
