// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// policyReads finds what p can depend on. It errs on the side of more: a form
// it does not know counts as reading the whole variable.
func (w *world) policyReads(p *ast.Policy) form.Reads {
	r := w.scopeReads(p.Principal, true) | w.scopeReads(p.Resource, false)
	for _, c := range p.Conditions {
		r |= w.exprReads(c.Body)
	}
	if w.Tangled && len(p.Conditions) > 0 {
		r |= form.ReadsPrincipal | form.ReadsResource
	}
	return r
}

func (w *world) scopeReads(scope ast.IsScopeNode, principal bool) form.Reads {
	bit := form.ReadsResource
	if principal {
		bit = form.ReadsPrincipal
	}
	switch s := scope.(type) {
	case ast.ScopeTypeAll, ast.ScopeTypeIs:
		return 0 // the kind is in every key
	case ast.ScopeTypeIn:
		if w.decidedByTenant(s.Entity, principal) {
			return 0
		}
	case ast.ScopeTypeIsIn:
		if w.decidedByTenant(s.Entity, principal) {
			return 0
		}
	}
	return bit
}

// decidedByTenant reports whether being in e follows from the tenant alone:
// entities.json places no single principal (resource) anywhere, and e is none,
// so that every path to e leads through the tenant.
func (w *world) decidedByTenant(e types.EntityUID, principal bool) bool {
	if principal {
		return !w.Principals && !isPrincipal(e.Type)
	}
	return !w.Resources && !isResource(e.Type)
}

func (w *world) exprReads(body ast.IsNode) form.Reads {
	var r form.Reads
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		switch v := n.(type) {
		case ast.NodeTypeVariable:
			r |= variableReads(v)
		case ast.NodeValue:
			r |= literalReads(v.Value)
		case ast.NodeTypeAccess:
			if of, ok := v.Arg.(ast.NodeTypeVariable); ok {
				r |= attrReads(of, v.Value)
				return false
			}
		case ast.NodeTypeHas:
			if of, ok := v.Arg.(ast.NodeTypeVariable); ok {
				r |= attrReads(of, v.Value)
				return false
			}
		case ast.NodeTypeIs:
			if of, ok := v.Left.(ast.NodeTypeVariable); ok && of.Name != "context" {
				return false
			}
		case ast.NodeTypeIn:
			if of, ok := v.Left.(ast.NodeTypeVariable); ok && w.inDecided(of, v.Right) {
				return false
			}
		case ast.NodeTypeIsIn:
			if of, ok := v.Left.(ast.NodeTypeVariable); ok && w.inDecided(of, v.Entity) {
				return false
			}
		}
		return true
	})
	return r
}

// literalReads is for entities that a rule names in a condition: the one that
// is the request's own principal or resource has other attributes and parents
// than the same one outside such a request.
func literalReads(v types.Value) form.Reads {
	switch v := v.(type) {
	case types.EntityUID:
		if isPrincipal(v.Type) {
			return form.ReadsPrincipal
		}
		if isResource(v.Type) {
			return form.ReadsResource
		}
		return 0
	case types.Set, types.Record:
		return form.ReadsPrincipal | form.ReadsResource
	}
	return 0
}

func isPrincipal(t types.EntityType) bool { return isKind(t, numPrincipals, principalType) }

func isResource(t types.EntityType) bool { return isKind(t, numResources, resourceType) }

func isKind(t types.EntityType, n int, name func(int) types.EntityType) bool {
	for k := range n {
		if t == name(k) {
			return true
		}
	}
	return false
}

func variableReads(v ast.NodeTypeVariable) form.Reads {
	switch v.Name {
	case "principal":
		return form.ReadsPrincipal
	case "resource":
		return form.ReadsResource
	case "action":
		return 0
	case "context":
		return form.AllContext
	}
	return form.AllReads
}

// attrReads is what reading (or asking for) an attribute of a variable needs.
func attrReads(of ast.NodeTypeVariable, attr types.String) form.Reads {
	switch of.Name {
	case "principal", "resource":
		// The node sets these two itself, whatever entities.json says, for
		// every principal; and the first for every resource.
		if attr == "tenant" || (attr == "label" && of.Name == "principal") {
			return 0
		}
	case "context":
		if bit, ok := form.ContextReads(attr); ok {
			return bit
		}
	}
	return variableReads(of)
}

// inDecided reports whether "of in right" follows from the tenant and action.
func (w *world) inDecided(of ast.NodeTypeVariable, right ast.IsNode) bool {
	var list []types.EntityUID
	switch v := right.(type) {
	case ast.NodeValue:
		uid, ok := v.Value.(types.EntityUID)
		if !ok {
			return false
		}
		list = append(list, uid)
	case ast.NodeTypeSet:
		for _, e := range v.Elements {
			nv, ok := e.(ast.NodeValue)
			if !ok {
				return false
			}
			uid, ok := nv.Value.(types.EntityUID)
			if !ok {
				return false
			}
			list = append(list, uid)
		}
	default:
		return false
	}
	for _, uid := range list {
		switch of.Name {
		case "action":
		case "principal", "resource":
			if !w.decidedByTenant(uid, of.Name == "principal") {
				return false
			}
		default:
			return false
		}
	}
	return true
}
