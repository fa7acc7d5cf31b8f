// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// Outcome is a decision's label in metrics.
type Outcome uint8

// The outcomes.
const (
	Allowed Outcome = iota
	Denied
	Failed // denied because a rule did not evaluate
)

func (o Outcome) String() string { return [...]string{"allow", "deny", "error"}[o] }

// Answer is a decision with what metrics and explanations want to know. It is
// shared by all who get it from the cache.
type Answer struct {
	Decision wall.Decision
	Outcome  Outcome
	Failures []types.DiagnosticError // of the rules that did not evaluate
}

// refusal is the answer to requests that no rule is asked about.
func refusal(o Outcome) Answer { return Answer{Outcome: o} }

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

// Decide answers r from the cache, or by asking the rules that can apply.
func (s *Set) Decide(r *wall.PolicyRequest, now time.Time, ttl time.Duration) Answer {
	action, ok := s.admissible(r)
	if !ok {
		return refusal(Denied)
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
func (s *Set) evaluate(r *wall.PolicyRequest, action int, want reads) (a Answer) {
	defer func() {
		if v := recover(); v != nil {
			a = Answer{Outcome: Failed, Failures: []types.DiagnosticError{{Message: fmt.Sprint(v)}}}
		}
	}()
	sc := s.w.scene(r, action)
	list := s.candidates(sc)
	if len(list) == 0 {
		return refusal(Denied)
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
func (s *Set) authorize(rules cedar.PolicyIterator, sc *scene, ctx types.Record) Answer {
	ok, diag := cedar.Authorize(rules, sc, types.Request{
		Principal: sc.principal.UID, Action: s.m.actions[sc.action].uid, Resource: sc.resource.UID, Context: ctx,
	})
	a := Answer{Outcome: Denied, Failures: diag.Errors}
	switch {
	case len(diag.Errors) > 0:
		// A rule that fails might have been the one to forbid.
		a.Outcome = Failed
		for _, e := range diag.Errors {
			a.Decision.Reasons = append(a.Decision.Reasons, string(e.PolicyID))
		}
		return a
	case bool(ok):
		a.Outcome = Allowed
		a.Decision.Allow = true
	}
	if len(diag.Reasons) > 0 {
		a.Decision.Reasons = make([]string, len(diag.Reasons))
	}
	for i, reason := range diag.Reasons {
		a.Decision.Reasons[i] = string(reason.PolicyID)
		if a.Decision.Allow {
			for _, o := range s.ids[reason.PolicyID].obligations {
				a.Decision.Obligations = addObligation(a.Decision.Obligations, o)
			}
		}
	}
	return a
}
