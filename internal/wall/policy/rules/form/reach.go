// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"encoding/hex"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/rustyonions/macronode"
)

// same compares two entities.
func (f *Frame) same(a, b value) truth {
	switch {
	case a.n == 0 && b.n == 0:
		return truthOf(a.typ == b.typ && a.text == b.text)
	case a.n != 0 && b.n != 0:
		return truthOf(a.n == b.n) // no principal is a resource
	case b.n != 0:
		a, b = b, a
	}
	if a.n == thePrincipal {
		return f.isPrincipal(b)
	}
	return f.isResource(b)
}

// isPrincipal reports whether a named entity is the principal.
func (f *Frame) isPrincipal(v value) truth {
	if v.typ != f.principalType() {
		return no
	}
	if f.Want&ReadsPrincipal == 0 {
		return maybe // who it is is not in the key
	}
	return truthOf(string(f.principalID()) == string(v.text))
}

func (f *Frame) isResource(v value) truth {
	if v.typ != f.resourceType() {
		return no
	}
	if f.Want&ReadsResource == 0 {
		return maybe
	}
	return truthOf(f.Key.Resource == string(v.text))
}

// principalID is the principal's id; a buffer, because it is compared and
// looked up, not kept.
func (f *Frame) principalID() []byte {
	switch f.Key.Kind {
	case macronode.Capability:
		if !f.hexed {
			hex.Encode(f.root[:], f.Key.Root[:])
			f.hexed = true
		}
		return f.root[:]
	case macronode.PeerNode:
		return []byte(f.Key.Node)
	}
	return []byte(AnonymousID)
}

// ownStatic is what entities.json says of the principal or resource, if
// anything; unknown where the key does not hold which it is.
func (f *Frame) ownStatic(which int64) (e *types.Entity, known bool) {
	if which == thePrincipal {
		return f.Principal, f.Want&ReadsPrincipal != 0
	}
	return f.Resource, f.Want&ReadsResource != 0
}

// resolve tells whether a named entity is one that the request brings.
func (f *Frame) resolve(v value) (value, bool) {
	if v.n != 0 {
		return v, true
	}
	switch f.isPrincipal(v) {
	case yes:
		return value{kind: isEntity, n: thePrincipal}, true
	case maybe:
		return v, false
	}
	switch f.isResource(v) {
	case yes:
		return value{kind: isEntity, n: theResource}, true
	case maybe:
		return v, false
	}
	return v, true
}

// tenantOf finds the view of a named entity that is the request's tenant.
func (f *Frame) tenantOf(v value) *Tenant {
	if v.typ == TenantType {
		for _, t := range [...]*Tenant{f.Principals, f.Resources} {
			if t.Entity.UID.ID == v.text {
				return t
			}
		}
	}
	return nil
}

// attr is an attribute of an entity or record. What is not there is broken;
// known says that it is known not to be there.
func (f *Frame) attr(v value, name types.String) (attr value, known bool) {
	var from types.Record
	switch v.kind {
	case isBoxed:
		r, ok := v.boxed.(types.Record)
		if !ok {
			return value{}, false
		}
		from = r
	case isEntity:
		v, known = f.resolve(v)
		if !known {
			return value{}, false
		}
		if v.n != 0 {
			return f.ownAttr(v.n, name)
		}
		if t := f.tenantOf(v); t != nil {
			from = t.Entity.Attributes
		} else {
			from = f.World.Static[types.EntityUID{Type: v.typ, ID: v.text}].Attributes
		}
	default:
		return value{}, false
	}
	got, ok := from.Get(name)
	if !ok {
		return value{}, true
	}
	return valueOf(got), true
}

// ownAttr is an attribute of the principal or resource. Those that the node
// sets are in every key, and stand above what entities.json says.
func (f *Frame) ownAttr(which int64, name types.String) (value, bool) {
	t := f.Principals
	if which == theResource {
		t = f.Resources
	}
	switch {
	case name == "tenant":
		return entity(t.Entity.UID), true
	case name == "label" && which == thePrincipal:
		return value{kind: isString, text: types.String(t.Label)}, true
	}
	e, known := f.ownStatic(which)
	if !known {
		return value{}, false
	}
	if e == nil {
		return value{}, true
	}
	got, ok := e.Attributes.Get(name)
	if !ok {
		return value{}, true
	}
	return valueOf(got), true
}

// relation is "is" and "in".
func (f *Frame) relation(n *form) truth {
	a := f.eval(n.a)
	if a.kind != isEntity {
		return maybe
	}
	if n.op == opIs || n.op == opIsIn {
		typ := a.typ
		switch a.n {
		case thePrincipal:
			typ = f.principalType()
		case theResource:
			typ = f.resourceType()
		}
		if n.op == opIs || typ != n.typ {
			return truthOf(typ == n.typ)
		}
	}
	if n.op == opIn {
		b := f.eval(n.b)
		if b.kind != isEntity || b.n != 0 {
			return maybe
		}
		return f.in(a, types.NewEntityUID(b.typ, b.text))
	}
	for i := range n.uids {
		if t := f.in(a, n.uids[i]); t != no {
			return t
		}
	}
	return no
}

// in reports whether an entity is the named one, or in it.
//
// The parents that entities.json gives are flattened. A request adds one step:
// its principal and its resource are in their tenants. Where entities.json puts
// other entities into principals or resources, that step may be theirs as well,
// and Cedar walks it.
func (f *Frame) in(a value, b types.EntityUID) truth {
	a, known := f.resolve(a)
	if !known || f.World.Tangled {
		return maybe
	}
	if same := f.same(a, entity(b)); same != no {
		return same
	}
	if a.n == 0 {
		if t := f.tenantOf(a); t != nil {
			return truthOf(t.within(b))
		}
		return truthOf(f.World.Static[types.EntityUID{Type: a.typ, ID: a.text}].Parents.Contains(b))
	}
	t, placed := f.Resources, f.World.Resources
	if a.n == thePrincipal {
		t, placed = f.Principals, f.World.Principals
		if f.Key.Kind == macronode.PeerNode {
			t = nil
		}
	}
	if t != nil && t.within(b) {
		return yes
	}
	if !placed {
		return no
	}
	e, known := f.ownStatic(a.n)
	if !known {
		return maybe
	}
	return truthOf(e != nil && e.Parents.Contains(b))
}

// within reports whether b is the tenant or above it.
func (t *Tenant) within(b types.EntityUID) bool {
	for i := range t.Keys {
		if t.Keys[i] == b {
			return true
		}
	}
	return false
}
