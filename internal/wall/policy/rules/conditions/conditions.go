// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package conditions reads what the conditions of Cedar policies say, without
// evaluating them: for lint.
package conditions

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// possible is what a conjunction of conditions leaves of the context.
type possible struct {
	longs map[types.String][2]int64      // from, to; both included
	texts map[types.String]types.String  // must be exactly this
	bools map[types.String]types.Boolean // must be this
	clash string                         // what cannot be
}

// Clash says why the conditions can never be met together, be it that they
// contradict each other or what the context can hold; "" where they may. It finds
// plain contradictions between attributes and literals, and no others.
func Clash(list []ast.ConditionType) string {
	p := possible{
		// What the node fills in: hours of a day, and lengths.
		longs: map[types.String][2]int64{"hour": {0, 23}, "bytes": {0, math.MaxInt64}},
		texts: map[types.String]types.String{}, bools: map[types.String]types.Boolean{},
	}
	for _, c := range list {
		p.must(c.Body, c.Condition == ast.ConditionWhen)
	}
	return p.clash
}

// ReadContext reports whether some condition reads the attribute of the context.
func ReadContext(list []ast.ConditionType, attr types.String) bool {
	found := false
	each(list, func(n ast.IsNode) {
		a, ok := contextAttribute(n)
		found = found || (ok && a == attr)
	})
	return found
}

// Entities calls f with every entity that the conditions name.
func Entities(list []ast.ConditionType, f func(types.EntityUID)) {
	each(list, func(n ast.IsNode) {
		if v, ok := n.(ast.NodeValue); ok {
			eachEntity(v.Value, f)
		}
	})
}

// Labels calls f with every literal that the conditions compare principal.label
// with.
func Labels(list []ast.ConditionType, f func(string)) {
	each(list, func(n ast.IsNode) {
		if label, ok := comparedLabel(n); ok {
			f(label)
		}
	})
}

func each(list []ast.ConditionType, f func(ast.IsNode)) {
	for _, c := range list {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			f(n)
			return true
		})
	}
}

// contextAttribute is the attribute that n reads of the context.
func contextAttribute(n ast.IsNode) (types.String, bool) {
	a, ok := n.(ast.NodeTypeAccess)
	if !ok {
		return "", false
	}
	v, ok := a.Arg.(ast.NodeTypeVariable)
	return a.Value, ok && v.Name == "context"
}

// must narrows p to where n is want. What it does not understand narrows nothing.
func (p *possible) must(n ast.IsNode, want bool) {
	switch v := n.(type) {
	case ast.NodeTypeNot:
		p.must(v.Arg, !want)
	case ast.NodeTypeAnd:
		if want {
			p.must(v.Left, true)
			p.must(v.Right, true)
		}
	case ast.NodeTypeOr:
		if !want { // neither of them
			p.must(v.Left, false)
			p.must(v.Right, false)
		}
	case ast.NodeTypeAccess:
		if attr, ok := contextAttribute(n); ok {
			p.bool(attr, types.Boolean(want))
		}
	case ast.NodeTypeEquals:
		p.compare(v.Left, v.Right, equals, want)
	case ast.NodeTypeNotEquals:
		p.compare(v.Left, v.Right, equals, !want)
	case ast.NodeTypeLessThan:
		p.compare(v.Left, v.Right, less, want)
	case ast.NodeTypeLessThanOrEqual:
		p.compare(v.Right, v.Left, less, !want)
	case ast.NodeTypeGreaterThan:
		p.compare(v.Right, v.Left, less, want)
	case ast.NodeTypeGreaterThanOrEqual:
		p.compare(v.Left, v.Right, less, !want)
	}
}

type relation bool

const (
	equals relation = false
	less   relation = true
)

// compare narrows p to where "left rel right" is want, one of them an attribute
// and the other a literal.
func (p *possible) compare(left, right ast.IsNode, rel relation, want bool) {
	attr, ok := contextAttribute(left)
	lit, isLit := right.(ast.NodeValue)
	turned := false
	if !ok || !isLit {
		if attr, ok = contextAttribute(right); !ok {
			return
		}
		if lit, isLit = left.(ast.NodeValue); !isLit {
			return
		}
		turned = true
	}
	switch v := lit.Value.(type) {
	case types.Long:
		p.long(attr, int64(v), rel, turned, want)
	case types.String:
		if rel == equals && want {
			if old, ok := p.texts[attr]; ok && old != v {
				p.clash = fmt.Sprintf("context.%s cannot be both %q and %q", attr, string(old), string(v))
			}
			p.texts[attr] = v
		}
	case types.Boolean:
		if rel == equals {
			p.bool(attr, v == types.Boolean(want))
		}
	}
}

func (p *possible) bool(attr types.String, b types.Boolean) {
	if old, ok := p.bools[attr]; ok && old != b {
		p.clash = fmt.Sprintf("context.%s cannot be both true and false", attr)
	}
	p.bools[attr] = b
}

// long narrows an attribute's range. turned: the literal stands on the left.
func (p *possible) long(attr types.String, n int64, rel relation, turned, want bool) {
	r, ok := p.longs[attr]
	if !ok {
		return
	}
	switch {
	case rel == equals && want:
		r = [2]int64{max(r[0], n), min(r[1], n)}
	case rel == equals:
	case !turned && want: // attr < n
		r[1] = min(r[1], under(n))
	case !turned: // attr >= n
		r[0] = max(r[0], n)
	case want: // n < attr
		r[0] = max(r[0], over(n))
	default: // n >= attr
		r[1] = min(r[1], n)
	}
	p.longs[attr] = r
	for _, a := range slices.Sorted(maps.Keys(p.longs)) {
		if b := p.longs[a]; b[0] > b[1] && p.clash == "" {
			p.clash = fmt.Sprintf("context.%s has no such value", a)
		}
	}
}

// under and over are the next numbers, stopping at the ends.
func under(n int64) int64 { return max(n, math.MinInt64+1) - 1 }
func over(n int64) int64  { return min(n, math.MaxInt64-1) + 1 }

// eachEntity calls f with every entity in a literal.
func eachEntity(v types.Value, f func(types.EntityUID)) {
	switch v := v.(type) {
	case types.EntityUID:
		f(v)
	case types.Set:
		for e := range v.All() {
			eachEntity(e, f)
		}
	}
}

// comparedLabel is the literal that n compares principal.label with.
func comparedLabel(n ast.IsNode) (string, bool) {
	eq, ok := n.(ast.NodeTypeEquals)
	if !ok {
		return "", false
	}
	for _, pair := range [][2]ast.IsNode{{eq.Left, eq.Right}, {eq.Right, eq.Left}} {
		a, ok := pair[0].(ast.NodeTypeAccess)
		if !ok || a.Value != "label" {
			continue
		}
		v, isVar := a.Arg.(ast.NodeTypeVariable)
		lit, isLit := pair[1].(ast.NodeValue)
		if text, isText := lit.Value.(types.String); isVar && isLit && isText && v.Name == "principal" {
			return string(text), true
		}
	}
	return "", false
}
