// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package lacking says what keeps a policy from applying to a request.
package lacking

import (
	"fmt"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// Miss is a part of a permit that a request did not meet.
type Miss struct {
	Part  string `json:"part"`  // "principal", "action", "resource" or "condition"
	Wants string `json:"wants"` // in Cedar's words
	Has   string `json:"has"`   // what the request brought; "" for conditions, which read its context
	// Error is why a part did not evaluate.
	Error string `json:"error,omitempty"`
}

// How far a part that is missed puts a permit away: another hour or size is
// nearer than another thing, that is nearer than another deed, and that nearer
// than another caller.
var partDistance = map[string]int{"condition": 1, "resource": 2, "action": 3, "principal": 4}

// Misses says of parts of a policy that are not met ("principal", "action",
// "resource", or a condition's text) what each wanted and what it found.
func Misses(policy *xast.Policy, parts []string, env eval.Env) (out []Miss) {
	for _, lack := range parts {
		out = append(out, missOf(policy, lack, env))
	}
	return out
}

// Distance is how far what was missed puts a policy away.
func Distance(misses []Miss) (n int) {
	for _, m := range misses {
		n += partDistance[m.Part]
	}
	return n
}

// missOf says what a part that lacks found, and what it wanted.
func missOf(policy *xast.Policy, lack string, env eval.Env) Miss {
	part, failure, failed := strings.Cut(lack, " (fails: ")
	m := Miss{Part: "condition", Wants: part}
	if failed {
		m.Error = strings.TrimSuffix(failure, ")")
	}
	p := xast.Permit()
	switch part {
	case "principal":
		p.Principal = policy.Principal
		m.Has = env.Principal.String() + above(env, env.Principal)
	case "action":
		p.Action = policy.Action
		m.Has = env.Action.String()
	case "resource":
		p.Resource = policy.Resource
		m.Has = env.Resource.String() + above(env, env.Resource)
	default:
		return m
	}
	m.Part, m.Wants = part, scopeText(p, part)
	return m
}

// above says what an entity belongs to.
func above(env eval.Env, v types.Value) string {
	uid, _ := v.(types.EntityUID)
	e, ok := env.Entities.Get(uid)
	if !ok || e.Parents.Len() == 0 {
		return ""
	}
	var in []string
	for p := range e.Parents.All() {
		in = append(in, p.String())
	}
	return fmt.Sprintf(" in %s", strings.Join(in, ", "))
}

// scopeText is one part of a policy's head in Cedar's words: "action == …".
func scopeText(p *xast.Policy, part string) string {
	text := string(cedar.NewPolicyFromAST((*ast.Policy)(p)).MarshalCedar())
	_, head, _ := strings.Cut(text, "(")
	if at := strings.LastIndex(head, ")"); at >= 0 {
		head = head[:at]
	}
	// The three parts stand in this order, and those that are not asked for are
	// the bare words.
	head = strings.Join(strings.Fields(head), " ")
	switch part {
	case "principal":
		head = strings.TrimSuffix(head, ", action, resource")
	case "action":
		head = strings.TrimSuffix(strings.TrimPrefix(head, "principal, "), ", resource")
	case "resource":
		head = strings.TrimPrefix(head, "principal, action, ")
	}
	return strings.Trim(head, " ,")
}
