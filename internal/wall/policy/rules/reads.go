// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// reads is what of a request a rule can depend on, beyond what every cache key
// holds: action, kinds of principal and resource, tenant and its label.
type reads uint16

const (
	readsPrincipal reads = 1 << iota // who exactly, within the tenant
	readsResource                    // which one
	readsBytes
	readsIP
	readsTLS
	readsSubject
	readsPath
	readsMethod
	readsHour
	readsService

	allContext = readsBytes | readsIP | readsTLS | readsSubject | readsPath | readsMethod | readsHour | readsService
	allReads   = allContext | readsPrincipal | readsResource
)

// contextAttr is one attribute of the context.
type contextAttr struct {
	name  types.String
	bit   reads
	value func(*contextValues) types.Value
}

var contextAttrs = [...]contextAttr{
	{"bytes", readsBytes, func(c *contextValues) types.Value { return types.Long(c.bytes) }},
	{"ip", readsIP, func(c *contextValues) types.Value { return types.IPAddr(netip.PrefixFrom(c.ip, c.ip.BitLen())) }},
	{"tls", readsTLS, func(c *contextValues) types.Value { return types.Boolean(c.tls) }},
	{"mtls_subject", readsSubject, func(c *contextValues) types.Value { return types.String(c.subject) }},
	{"path", readsPath, func(c *contextValues) types.Value { return types.String(c.path) }},
	{"method", readsMethod, func(c *contextValues) types.Value { return types.String(c.method) }},
	{"hour", readsHour, func(c *contextValues) types.Value { return types.Long(c.hour) }},
	{"service", readsService, func(c *contextValues) types.Value { return types.String(c.service) }},
}

// policyReads finds what p can depend on. It errs on the side of more: a form
// it does not know counts as reading the whole variable.
func (w *world) policyReads(p *ast.Policy) reads {
	r := w.scopeReads(p.Principal, true) | w.scopeReads(p.Resource, false)
	for _, c := range p.Conditions {
		r |= w.exprReads(c.Body)
	}
	if w.m.tangled && len(p.Conditions) > 0 {
		r |= readsPrincipal | readsResource
	}
	return r
}

func (w *world) scopeReads(scope ast.IsScopeNode, principal bool) reads {
	bit := readsResource
	if principal {
		bit = readsPrincipal
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
		return !w.staticPrincipals && !isKind(e.Type, numPrincipals, principalType)
	}
	return !w.staticResources && !isKind(e.Type, numResources, resourceType)
}

func (w *world) exprReads(body ast.IsNode) reads {
	var r reads
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
func literalReads(v types.Value) reads {
	switch v := v.(type) {
	case types.EntityUID:
		if isKind(v.Type, numPrincipals, principalType) {
			return readsPrincipal
		}
		if isKind(v.Type, numResources, resourceType) {
			return readsResource
		}
		return 0
	case types.Set, types.Record:
		return readsPrincipal | readsResource
	}
	return 0
}

func isKind(t types.EntityType, n int, name func(int) types.EntityType) bool {
	for k := range n {
		if t == name(k) {
			return true
		}
	}
	return false
}

func variableReads(v ast.NodeTypeVariable) reads {
	switch v.Name {
	case "principal":
		return readsPrincipal
	case "resource":
		return readsResource
	case "action":
		return 0
	case "context":
		return allContext
	}
	return allReads
}

// attrReads is what reading (or asking for) an attribute of a variable needs.
func attrReads(of ast.NodeTypeVariable, attr types.String) reads {
	switch of.Name {
	case "principal", "resource":
		// The node sets these two itself, whatever entities.json says, for
		// every principal; and the first for every resource.
		if attr == "tenant" || (attr == "label" && of.Name == "principal") {
			return 0
		}
	case "context":
		for _, a := range contextAttrs {
			if a.name == attr {
				return a.bit
			}
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
