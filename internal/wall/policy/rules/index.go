// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/hex"
	"iter"
	"slices"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// index finds the rules whose scope a request satisfies, so that the cost of a
// decision does not grow with the number of rules.
//
// A rule that is left out has a scope that is false for the request. Cedar
// tests the scope first and stops there, so such a rule would neither decide
// nor fail: leaving it out changes nothing. A rule that is found has a scope
// that is true: what is left to ask is its conditions.
type index struct {
	// entities numbers, from 1, those that scopes name; 0 stands for a scope
	// that names none.
	entities map[types.EntityUID]uint32
	cells    map[cellKey]*cell
	// Where single principals and resources are, by their ids: those that a
	// scope or entities.json names.
	caps       map[macronode.CapID]place
	principals [numPrincipals]map[string]place // but Capability
	resources  [numResources]map[string]place
	// reads of the rules that can apply, by action and the two kinds.
	reads [][numPrincipals][numResources]form.Reads
}

// cellKey is the entities that the principal's and resource's scope name.
type cellKey struct{ principal, resource uint32 }

// cell holds the rules of one key, in order. Large ones are split by action.
type cell struct {
	rules    []int32
	byAction [][]int32
}

// place is one entity in the index's numbers: itself, and what entities.json
// puts it in. 0: no scope names it.
type place struct {
	self   uint32
	above  []uint32
	entity *types.Entity // what entities.json says of it, if anything
}

// largeCell is where filtering costs more than a split cell's memory.
const largeCell = 8

func newIndex(s *Set) *index {
	x := &index{
		entities: map[types.EntityUID]uint32{}, cells: map[cellKey]*cell{},
		reads: make([][numPrincipals][numResources]form.Reads, len(s.m.actions)),
	}
	for i, r := range s.rules {
		key := cellKey{x.enter(scopeEntity(r.ast.Principal)), x.enter(scopeEntity(r.ast.Resource))}
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
	x.findPlaces(s.w)
	return x
}

// enter numbers an entity that a scope names.
func (x *index) enter(e *types.EntityUID) uint32 {
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

// numbers appends the numbers of those that scopes name.
func (x *index) numbers(out []uint32, uids []types.EntityUID) []uint32 {
	for _, uid := range uids {
		if n, ok := x.entities[uid]; ok {
			out = append(out, n)
		}
	}
	return out
}

// findPlaces looks up once what requests would look up again and again: each
// principal and resource that a scope or entities.json names.
func (x *index) findPlaces(w *world) {
	add := func(uid types.EntityUID) {
		p := place{self: x.entities[uid], above: x.numbers(nil, w.above[uid])}
		if e, ok := w.Static[uid]; ok {
			p.entity = &e
		}
		switch {
		case uid.Type == principalType(int(macronode.Capability)):
			var id macronode.CapID
			if len(uid.ID) != hex.EncodedLen(len(id)) {
				return // no capability is called that
			}
			if _, err := hex.Decode(id[:], []byte(uid.ID)); err != nil || id.String() != string(uid.ID) {
				return // nor that
			}
			if x.caps == nil {
				x.caps = map[macronode.CapID]place{}
			}
			x.caps[id] = p
		case isPrincipal(uid.Type):
			x.put(x.principals[:], uid, principalType, p)
		case isResource(uid.Type):
			x.put(x.resources[:], uid, resourceType, p)
		}
	}
	for uid := range x.entities {
		add(uid)
	}
	for uid := range w.Static {
		add(uid)
	}
}

func (x *index) put(by []map[string]place, uid types.EntityUID, name func(int) types.EntityType, p place) {
	for k := range by {
		if name(k) != uid.Type {
			continue
		}
		if by[k] == nil {
			by[k] = map[string]place{}
		}
		by[k][string(uid.ID)] = p
	}
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

// principalPlace is where the key's principal is.
func (x *index) principalPlace(k *form.Key) place {
	switch k.Kind {
	case macronode.Capability:
		if x.caps == nil {
			return place{}
		}
		return x.caps[k.Root]
	case macronode.PeerNode:
		return x.principals[k.Kind][k.Node]
	}
	return x.principals[k.Kind][form.AnonymousID]
}

// spot is where a key stands in the index.
type spot struct {
	p, r   place
	pt, rt *tenantView
}

// find looks up what the key names; what it does not hold has no place.
func (s *Set) find(k *form.Key, want form.Reads) (at spot) {
	at.pt, at.rt = s.w.tenants(k)
	if want&form.ReadsPrincipal != 0 {
		at.p = s.idx.principalPlace(k)
	}
	if want&form.ReadsResource != 0 {
		at.r = s.idx.resources[k.ResourceKind][k.Resource]
	}
	return at
}

// candidates appends the rules whose scope the key satisfies, each once, in
// order.
func (s *Set) candidates(k *form.Key, at *spot, out []int32) []int32 {
	var pbuf, rbuf [maxKeys]uint32
	x, p, r, pt, rt := s.idx, &at.p, &at.r, at.pt, at.rt
	ps := append(append(pbuf[:0], 0), p.above...)
	if k.Kind != macronode.PeerNode { // which is in no tenant
		ps = append(ps, pt.numbers...)
	}
	if p.self != 0 {
		ps = append(ps, p.self)
	}
	rs := append(append(append(rbuf[:0], 0), r.above...), rt.numbers...)
	if r.self != 0 {
		rs = append(rs, r.self)
	}
	for _, pn := range ps {
		for _, rn := range rs {
			c := x.cells[cellKey{pn, rn}]
			if c == nil {
				continue
			}
			list := c.rules
			if c.byAction != nil {
				list = c.byAction[k.Action]
			}
			for _, i := range list {
				if s.rules[i].admits(k, c.byAction != nil, pn == p.self, rn == r.self) {
					out = append(out, i)
				}
			}
		}
	}
	if len(out) > 1 {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

// admits is what remains to be asked of a scope where its entities are those of
// the request: kinds, the action, and whether "==" meant the thing itself.
func (r *rule) admits(k *form.Key, actionKnown, ownPrincipal, ownResource bool) bool {
	return r.principals>>k.Kind&1 == 1 && r.resources>>k.ResourceKind&1 == 1 &&
		(actionKnown || slices.Contains(r.actions, k.Action)) &&
		(ownPrincipal || !r.onePrincipal) && (ownResource || !r.oneResource)
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
