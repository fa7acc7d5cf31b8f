// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// form is a condition made ready to be asked without building Cedar's view of
// the request: the usual operators over what the key holds. Whatever has no
// form here, and every condition that does not come out cleanly, is Cedar's to
// decide; so a form only ever has to be right where it gives an answer.
type form struct {
	op         op
	a, b, c    *form
	value      value                   // of opValue
	name       types.String            // of opAttr and opHas
	attr       int                     // of opContext: in contextAttrs
	typ        types.EntityType        // of opIs and opIsIn
	pattern    types.Pattern           // of opLike
	list       []*form                 // of opHolds
	uids       []types.EntityUID       // of opInAny and opIsIn
	ip         func(types.IPAddr) bool // of opIPTest
	ofResource bool                    // of opTenantAttr and opTenantHas
}

type op uint8

const (
	opValue op = iota
	opPrincipal
	opAction
	opResource
	opContext
	opAttr
	opHas
	opTenantAttr // principal.tenant.name, resource.tenant.name
	opTenantHas
	opNot
	opAnd
	opOr
	opIf
	opEqual
	opLess
	opLessEqual
	opAdd
	opSub
	opMul
	opNegate
	opLike
	opIs
	opIn    // one entity, which an expression names
	opInAny // of uids
	opIsIn
	opContains
	opContainsAll
	opContainsAny
	opIsEmpty
	opHolds // contains, of a set that the rule spells out
	opIPTest
	opIPRange
)

// clause is a condition: when, or unless.
type clause struct {
	body   *form
	unless bool
}

// Rule is a rule's conditions.
type Rule struct {
	// Formed says that all of them have a form. A rule without is Cedar's.
	Formed  bool
	clauses []clause
}

// Of gives the forms of a rule's conditions.
func Of(p *ast.Policy) Rule {
	r := Rule{Formed: true}
	for _, c := range p.Conditions {
		f := formOf(c.Body)
		if f == nil {
			return Rule{}
		}
		r.clauses = append(r.clauses, clause{f, c.Condition == ast.ConditionUnless})
	}
	return r
}

// shortSet is how long a set may be to be gone through.
const shortSet = 8

// formOf gives the form of an expression; nil where it has none.
func formOf(n ast.IsNode) *form {
	switch v := n.(type) {
	case ast.NodeValue:
		return &form{op: opValue, value: valueOf(v.Value)}
	case ast.NodeTypeVariable:
		return variableForm(v)
	case ast.NodeTypeAccess:
		if isContext(v.Arg) {
			return contextForm(v.Value)
		}
		if f, ok := tenantForm(opTenantAttr, v.StrOpNode); ok {
			return f
		}
		return unary(&form{op: opAttr, name: v.Value}, v.Arg)
	case ast.NodeTypeHas:
		if isContext(v.Arg) {
			return hasContext(v.Value)
		}
		if f, ok := tenantForm(opTenantHas, v.StrOpNode); ok {
			return f
		}
		return unary(&form{op: opHas, name: v.Value}, v.Arg)
	case ast.NodeTypeNot:
		return unary(&form{op: opNot}, v.Arg)
	case ast.NodeTypeNegate:
		return unary(&form{op: opNegate}, v.Arg)
	case ast.NodeTypeIsEmpty:
		return unary(&form{op: opIsEmpty}, v.Arg)
	case ast.NodeTypeLike:
		return unary(&form{op: opLike, pattern: v.Value}, v.Arg)
	case ast.NodeTypeIfThenElse:
		f := binary(opIf, ast.BinaryNode{Left: v.If, Right: v.Then})
		c := formOf(v.Else)
		if f == nil || c == nil {
			return nil
		}
		f.c = c
		return f
	case ast.NodeTypeIs:
		return unary(&form{op: opIs, typ: v.EntityType}, v.Left)
	case ast.NodeTypeIsIn:
		return isInForm(v)
	case ast.NodeTypeIn:
		if uids, ok := entityList(v.Right); ok {
			return unary(&form{op: opInAny, uids: uids}, v.Left)
		}
		return binary(opIn, v.BinaryNode)
	case ast.NodeTypeContains:
		return containsForm(v)
	case ast.NodeTypeExtensionCall:
		return extensionForm(v)
	}
	return binaryForm(n)
}

func binaryForm(n ast.IsNode) *form {
	not := func(f *form) *form {
		if f == nil {
			return nil
		}
		return &form{op: opNot, a: f}
	}
	swap := func(b ast.BinaryNode) ast.BinaryNode { return ast.BinaryNode{Left: b.Right, Right: b.Left} }
	switch v := n.(type) {
	case ast.NodeTypeAnd:
		return binary(opAnd, v.BinaryNode)
	case ast.NodeTypeOr:
		return binary(opOr, v.BinaryNode)
	case ast.NodeTypeEquals:
		return binary(opEqual, v.BinaryNode)
	case ast.NodeTypeNotEquals:
		return not(binary(opEqual, v.BinaryNode))
	case ast.NodeTypeLessThan:
		return binary(opLess, v.BinaryNode)
	case ast.NodeTypeLessThanOrEqual:
		return binary(opLessEqual, v.BinaryNode)
	case ast.NodeTypeGreaterThan:
		return binary(opLess, swap(v.BinaryNode))
	case ast.NodeTypeGreaterThanOrEqual:
		return binary(opLessEqual, swap(v.BinaryNode))
	case ast.NodeTypeAdd:
		return binary(opAdd, v.BinaryNode)
	case ast.NodeTypeSub:
		return binary(opSub, v.BinaryNode)
	case ast.NodeTypeMult:
		return binary(opMul, v.BinaryNode)
	case ast.NodeTypeContainsAll:
		return binary(opContainsAll, v.BinaryNode)
	case ast.NodeTypeContainsAny:
		return binary(opContainsAny, v.BinaryNode)
	case ast.NodeTypeSet:
		return setForm(v)
	}
	return nil
}

func unary(f *form, arg ast.IsNode) *form {
	if f.a = formOf(arg); f.a == nil {
		return nil
	}
	return f
}

func binary(o op, n ast.BinaryNode) *form {
	f := &form{op: o, a: formOf(n.Left), b: formOf(n.Right)}
	if f.a == nil || f.b == nil {
		return nil
	}
	return f
}

func variableForm(v ast.NodeTypeVariable) *form {
	switch v.Name {
	case "principal":
		return &form{op: opPrincipal}
	case "action":
		return &form{op: opAction}
	case "resource":
		return &form{op: opResource}
	}
	return nil
}

// tenantForm is the short way to what is asked most: attributes of the tenant.
func tenantForm(o op, n ast.StrOpNode) (*form, bool) {
	of, ok := n.Arg.(ast.NodeTypeAccess)
	if !ok || of.Value != "tenant" {
		return nil, false
	}
	v, ok := of.Arg.(ast.NodeTypeVariable)
	if !ok || v.Name != "principal" && v.Name != "resource" {
		return nil, false
	}
	return &form{op: o, name: n.Value, ofResource: v.Name == "resource"}, true
}

func isContext(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "context"
}

func contextForm(name types.String) *form {
	for i, a := range contextAttrs {
		if a.name == name {
			return &form{op: opContext, attr: i}
		}
	}
	return nil
}

// hasContext: the node gives all of its context's attributes, always.
func hasContext(name types.String) *form {
	if contextForm(name) == nil {
		return nil
	}
	return &form{op: opValue, value: valueOf(types.True)}
}

// entityList is what stands right of "in", where the rule spells it out.
func entityList(n ast.IsNode) ([]types.EntityUID, bool) {
	var nodes []ast.IsNode
	switch v := n.(type) {
	case ast.NodeValue:
		nodes = []ast.IsNode{v}
	case ast.NodeTypeSet:
		nodes = v.Elements
	}
	out := make([]types.EntityUID, 0, len(nodes))
	for _, e := range nodes {
		v, ok := e.(ast.NodeValue)
		if !ok {
			return nil, false
		}
		uid, ok := v.Value.(types.EntityUID)
		if !ok {
			return nil, false
		}
		out = append(out, uid)
	}
	return out, len(out) > 0
}

func isInForm(v ast.NodeTypeIsIn) *form {
	uids, ok := entityList(v.Entity)
	if !ok {
		return nil
	}
	return unary(&form{op: opIsIn, typ: v.EntityType, uids: uids}, v.Left)
}

// setForm makes a set of literals a value.
func setForm(n ast.NodeTypeSet) *form {
	values := make([]types.Value, 0, len(n.Elements))
	for _, e := range n.Elements {
		f := formOf(e)
		if f == nil || f.op != opValue {
			return nil
		}
		values = append(values, f.value.box())
	}
	return &form{op: opValue, value: valueOf(types.NewSet(values...))}
}

// containsForm: a set that the rule spells out is gone through, a long one or
// one of an attribute is asked.
func containsForm(n ast.NodeTypeContains) *form {
	set, ok := n.Left.(ast.NodeTypeSet)
	if !ok || len(set.Elements) > shortSet && setForm(set) != nil {
		return binary(opContains, n.BinaryNode)
	}
	f := &form{op: opHolds}
	for _, e := range set.Elements {
		item := formOf(e)
		if item == nil {
			return nil
		}
		f.list = append(f.list, item)
	}
	return unary(f, n.Right)
}

func extensionForm(n ast.NodeTypeExtensionCall) *form {
	switch {
	case n.Name == "ip" && len(n.Args) == 1:
		lit, ok := n.Args[0].(ast.NodeValue)
		if !ok {
			return nil
		}
		text, ok := lit.Value.(types.String)
		if !ok {
			return nil
		}
		addr, err := types.ParseIPAddr(string(text))
		if err != nil {
			return nil
		}
		return &form{op: opValue, value: valueOf(addr)}
	case n.Name == "isInRange" && len(n.Args) == 2:
		return binary(opIPRange, ast.BinaryNode{Left: n.Args[0], Right: n.Args[1]})
	case len(n.Args) == 1:
		test := map[types.Path]func(types.IPAddr) bool{
			"isIpv4": types.IPAddr.IsIPv4, "isIpv6": types.IPAddr.IsIPv6,
			"isLoopback": types.IPAddr.IsLoopback, "isMulticast": types.IPAddr.IsMulticast,
		}[n.Name]
		if test == nil {
			return nil
		}
		return unary(&form{op: opIPTest, ip: test}, n.Args[0])
	}
	return nil
}
