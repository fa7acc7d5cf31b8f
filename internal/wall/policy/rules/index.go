// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"iter"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// index finds the rules whose scope a request can satisfy, so that the cost of
// a decision does not grow with the number of rules.
//
// A rule that is left out has a scope that is false for the request. Cedar
// tests the scope first and stops there, so such a rule would neither decide
// nor fail: leaving it out changes nothing.
type index struct {
	// entities numbers, from 1, those that scopes name; 0 stands for a scope
	// that names none.
	entities map[types.EntityUID]uint32
	cells    map[cellKey]*cell
	// reads of the rules that can apply, by action and the two kinds.
	reads [][numPrincipals][numResources]reads
}

// cellKey is the entities that the principal's and resource's scope name.
type cellKey struct{ principal, resource uint32 }

// cell holds the rules of one key, in order. Large ones are split by action.
type cell struct {
	rules    []int32
	byAction [][]int32
}

// largeCell is where filtering costs more than a split cell's memory.
const largeCell = 8

func newIndex(s *Set) *index {
	x := &index{
		entities: map[types.EntityUID]uint32{}, cells: map[cellKey]*cell{},
		reads: make([][numPrincipals][numResources]reads, len(s.m.actions)),
	}
	for i, r := range s.rules {
		key := cellKey{x.number(scopeEntity(r.ast.Principal)), x.number(scopeEntity(r.ast.Resource))}
		c := x.cells[key]
		if c == nil {
			c = new(cell)
			x.cells[key] = c
		}
		c.rules = append(c.rules, int32(i))
		for _, a := range r.actions {
			for k := range numPrincipals {
				for rk := range numResources {
					if r.principals>>k&1 == 1 && r.resources>>rk&1 == 1 {
						x.reads[a][k][rk] |= r.reads
					}
				}
			}
		}
	}
	for _, c := range x.cells {
		if len(c.rules) <= largeCell {
			continue
		}
		c.byAction = make([][]int32, len(s.m.actions))
		for _, i := range c.rules {
			for _, a := range s.rules[i].actions {
				c.byAction[a] = append(c.byAction[a], i)
			}
		}
	}
	return x
}

func (x *index) number(e *types.EntityUID) uint32 {
	if e == nil {
		return 0
	}
	n, ok := x.entities[*e]
	if !ok {
		n = uint32(len(x.entities) + 1)
		x.entities[*e] = n
	}
	return n
}

// scopeEntity is the entity that a scope names, which must then be the
// principal (resource) or above it.
func scopeEntity(scope ast.IsScopeNode) *types.EntityUID {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return &s.Entity
	case ast.ScopeTypeIn:
		return &s.Entity
	case ast.ScopeTypeIsIn:
		return &s.Entity
	}
	return nil
}

// maxKeys is room for the entities above a principal or resource that scopes
// name; more than that are rare and allocate.
const maxKeys = 8

// keys appends the numbers of the entities that e is in, and 0.
func (x *index) keys(out []uint32, e types.EntityUID, t *tenantView, inTenant bool, above []types.EntityUID) []uint32 {
	out = append(out, 0)
	if len(x.entities) == 0 {
		return out
	}
	if n, ok := x.entities[e]; ok {
		out = append(out, n)
	}
	if inTenant {
		for i := range t.keys {
			if n, ok := x.entities[t.keys[i]]; ok {
				out = append(out, n)
			}
		}
	}
	for i := range above {
		if n, ok := x.entities[above[i]]; ok {
			out = append(out, n)
		}
	}
	return out
}

// candidates are the rules that may apply in sc, each once, in order.
func (s *Set) candidates(sc *scene) []int32 {
	var pbuf, rbuf [maxKeys]uint32
	x := s.idx
	ps := x.keys(pbuf[:0], sc.principal.UID, sc.pt, sc.principal.Parents.Len() > 0, s.w.above[sc.principal.UID])
	rs := x.keys(rbuf[:0], sc.resource.UID, sc.rt, true, s.w.above[sc.resource.UID])
	out := make([]int32, 0, 8)
	for _, p := range ps {
		for _, r := range rs {
			c := x.cells[cellKey{p, r}]
			if c == nil {
				continue
			}
			list := c.rules
			if c.byAction != nil {
				list = c.byAction[sc.action]
			}
			for _, i := range list {
				rule := s.rules[i]
				if rule.principals>>sc.kind&1 == 0 || rule.resources>>sc.rkind&1 == 0 {
					continue
				}
				if c.byAction == nil && !slices.Contains(rule.actions, sc.action) {
					continue
				}
				out = append(out, i)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// slice is the policy set that cedar.Authorize sees: the candidates.
type slice struct {
	s    *Set
	list []int32
}

// All implements cedar.PolicyIterator.
func (c slice) All() iter.Seq2[types.PolicyID, *cedar.Policy] {
	return func(yield func(types.PolicyID, *cedar.Policy) bool) {
		for _, i := range c.list {
			r := c.s.rules[i]
			if !yield(r.id, r.policy) {
				return
			}
		}
	}
}
