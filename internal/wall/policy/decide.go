// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// outcome is a decision's label in metrics.
type outcome uint8

const (
	allowed outcome = iota
	denied
	failed // denied because a rule did not evaluate
)

func (o outcome) String() string { return [...]string{"allow", "deny", "error"}[o] }

// answer is a decision with what metrics and explanations want to know. It is
// shared by all who get it from the cache.
type answer struct {
	decision wall.Decision
	outcome  outcome
	failures []types.DiagnosticError
}

// refusal is the answer to requests that no rule is asked about.
func refusal(o outcome) answer { return answer{outcome: o} }

// admissible finds the request's action, and whether the schema knows such a
// request at all. If not, strict validation has said nothing about it, so it is
// denied without asking any rule.
func (s *Set) admissible(r *wall.PolicyRequest) (action int, ok bool) {
	if r.Principal == nil || r.Tenant == nil || int(r.Principal.Kind) >= numPrincipals || int(r.Resource.Kind) >= numResources {
		return 0, false
	}
	// A capability speaks for its own tenant alone.
	if r.Principal.Kind == macronode.Capability && r.Principal.Tenant != r.Tenant.ID {
		return 0, false
	}
	if r.Principal.Kind == macronode.PeerNode && r.Principal.Node == "" {
		return 0, false
	}
	action, ok = s.m.index[r.Action]
	return action, ok && s.m.covers(action, r.Principal.Kind, r.Resource.Kind)
}

// decide answers r from the cache, or by asking the rules that can apply.
func (s *Set) decide(r *wall.PolicyRequest, now time.Time, ttl time.Duration) answer {
	action, ok := s.admissible(r)
	if !ok {
		return refusal(denied)
	}
	want := s.idx.reads[action][r.Principal.Kind][r.Resource.Kind]
	if ttl <= 0 {
		return s.evaluate(r, action, want)
	}
	var k cacheKey
	k.fill(r, action, want)
	slot := s.cache.slot(&k)
	if e := slot.Load(); e != nil && e.key == k {
		// Now is never before At but where the clock went back; then At says nothing.
		if age := now.Sub(e.at); age >= 0 && age < ttl {
			return e.answer
		}
	}
	a := s.evaluate(r, action, want)
	if k.keepable() {
		slot.Store(&cacheEntry{key: k.clone(), answer: a, at: now})
	}
	return a
}

// evaluate asks the rules that can apply.
func (s *Set) evaluate(r *wall.PolicyRequest, action int, want reads) (a answer) {
	defer func() {
		if v := recover(); v != nil {
			a = answer{outcome: failed, failures: []types.DiagnosticError{{Message: fmt.Sprint(v)}}}
		}
	}()
	sc := s.w.scene(r, action)
	list := s.candidates(sc)
	if len(list) == 0 {
		return refusal(denied)
	}
	// Rules that read no context are not charged for making one.
	var ctx types.Record
	if want&allContext != 0 {
		var v contextValues
		v.fill(r)
		ctx = newContext(&v, want)
	}
	return s.authorize(slice{s, list}, sc, ctx)
}

// authorize asks Cedar about the given rules and turns its answer into ours.
func (s *Set) authorize(rules cedar.PolicyIterator, sc *scene, ctx types.Record) answer {
	ok, diag := cedar.Authorize(rules, sc, types.Request{
		Principal: sc.principal.UID, Action: s.m.actions[sc.action].uid, Resource: sc.resource.UID, Context: ctx,
	})
	a := answer{outcome: denied, failures: diag.Errors}
	switch {
	case len(diag.Errors) > 0:
		// A rule that fails might have been the one to forbid.
		a.outcome = failed
		for _, e := range diag.Errors {
			a.decision.Reasons = append(a.decision.Reasons, string(e.PolicyID))
		}
		return a
	case bool(ok):
		a.outcome = allowed
		a.decision.Allow = true
	}
	if len(diag.Reasons) > 0 {
		a.decision.Reasons = make([]string, len(diag.Reasons))
	}
	for i, reason := range diag.Reasons {
		a.decision.Reasons[i] = string(reason.PolicyID)
		if a.decision.Allow {
			for _, o := range s.ids[reason.PolicyID].obligations {
				a.decision.Obligations = addObligation(a.decision.Obligations, o)
			}
		}
	}
	return a
}
