// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
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
	// Fresh says that it was made for this request and not taken from the cache.
	Fresh bool
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
		return Answer{Outcome: Denied, Fresh: true}
	}
	want := s.idx.reads[action][r.Principal.Kind][r.Resource.Kind]
	f := form.Frame{Want: want}
	f.Key.Fill(r, action, want)
	if ttl <= 0 {
		a := s.answer(&f)
		a.Fresh = true
		return a
	}
	slot := s.cache.slot(&f.Key)
	if e := slot.Load(); e != nil && e.key == f.Key {
		// Now is never before At but where the clock went back; then At says nothing.
		if age := now.Sub(e.at); age >= 0 && age < ttl {
			return e.answer
		}
	}
	a := s.answer(&f)
	if f.Key.Keepable() {
		slot.Store(&cacheEntry{key: f.Key.Clone(), answer: a, at: now})
	}
	a.Fresh = true
	return a
}

// evaluate decides r without the cache, as one whose key holds what want says.
func (s *Set) evaluate(r *wall.PolicyRequest, action int, want form.Reads) Answer {
	f := form.Frame{Want: want}
	f.Key.Fill(r, action, want)
	return s.answer(&f)
}

// manyRules is room for the rules whose scope one request meets; more allocate.
const manyRules = 16

// answer asks the rules whose scope the frame's key meets. It is a function of
// the key alone.
func (s *Set) answer(f *form.Frame) (a Answer) {
	defer func() {
		if v := recover(); v != nil {
			a = Answer{Outcome: Failed, Failures: []types.DiagnosticError{{Message: fmt.Sprint(v)}}}
		}
	}()
	var buf [manyRules]int32
	k := &f.Key
	at := s.find(k, f.Want)
	list := s.candidates(k, &at, buf[:0])
	f.World, f.Action = &s.w.World, s.m.actions[k.Action].uid
	f.Principals, f.Resources, f.Principal, f.Resource = &at.pt.Tenant, &at.rt.Tenant, at.p.entity, at.r.entity
	permits, forbids := 0, 0
	for i, n := range list {
		r := s.rules[n]
		switch r.conditions.Ask(f) {
		case form.Unclear:
			return s.askCedar(k, f.Want)
		case form.Silent:
			list[i] = -1
		case form.Speaks:
			if r.permit {
				permits++
			} else {
				forbids++
			}
		}
	}
	if permits+forbids == 0 {
		return refusal(Denied)
	}
	return s.verdict(list, forbids == 0, max(forbids, permits))
}

// verdict is the answer of those in list that permit, or forbid; -1 is none.
func (s *Set) verdict(list []int32, permit bool, n int) Answer {
	var first *rule
	var all []*rule
	for _, i := range list {
		if i < 0 || s.rules[i].permit != permit {
			continue
		}
		switch r := s.rules[i]; {
		case first == nil:
			first = r
		case all == nil:
			all = append(make([]*rule, 0, n), first, r)
		default:
			all = append(all, r)
		}
	}
	if all == nil {
		return first.alone
	}
	return said(all)
}

// said is the answer of rules of one effect which apply, where none fails.
func said(rules []*rule) Answer {
	a := Answer{Outcome: Denied}
	a.Decision.Reasons = make([]string, len(rules))
	for i, r := range rules {
		a.Decision.Reasons[i] = string(r.id)
		if r.permit {
			a.Outcome, a.Decision.Allow = Allowed, true
			for _, o := range r.obligations {
				a.Decision.Obligations = addObligation(a.Decision.Obligations, o)
			}
		}
	}
	a.Decision.Obligations = slices.Clip(a.Decision.Obligations) // it is shared
	return a
}

// askCedar lets Cedar decide among the rules whose scope the key meets. It works
// on a copy, so that the key of those who need no Cedar stays on the stack.
func (s *Set) askCedar(key *form.Key, want form.Reads) Answer {
	k := new(form.Key)
	*k = *key
	at := s.find(k, want)
	return s.authorize(slice{s, s.candidates(k, &at, nil)}, s.w.scene(k), form.Context(k, want))
}

// authorize asks Cedar about the given rules and turns its answer into ours.
func (s *Set) authorize(rules cedar.PolicyIterator, sc *scene, ctx types.Record) Answer {
	ok, diag := cedar.Authorize(rules, sc, types.Request{
		Principal: sc.principal.UID, Action: s.m.actions[sc.action].uid, Resource: sc.resource.UID, Context: ctx,
	})
	if len(diag.Errors) > 0 {
		// A rule that fails might have been the one to forbid.
		a := Answer{Outcome: Failed, Failures: diag.Errors}
		for _, e := range diag.Errors {
			a.Decision.Reasons = append(a.Decision.Reasons, string(e.PolicyID))
		}
		return a
	}
	if len(diag.Reasons) == 0 {
		return refusal(Denied)
	}
	all := make([]*rule, len(diag.Reasons))
	for i, reason := range diag.Reasons {
		all[i] = s.ids[reason.PolicyID]
	}
	a := said(all)
	a.Decision.Allow = bool(ok)
	return a
}
