// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"math"
	"math/bits"

	"github.com/cedar-policy/cedar-go/types"
)

// Verdict is what a rule says of a request.
type Verdict uint8

// The verdicts.
const (
	Silent  Verdict = iota
	Speaks          // it permits, or forbids
	Unclear         // Cedar must be asked
)

// Ask tries a rule whose scope is met.
func (r *Rule) Ask(f *Frame) Verdict {
	if !r.Formed {
		return Unclear
	}
	for i := range r.clauses {
		c := &r.clauses[i]
		switch f.truth(c.body) {
		case maybe:
			return Unclear
		case no:
			if !c.unless {
				return Silent
			}
		case yes:
			if c.unless {
				return Silent
			}
		}
	}
	return Speaks
}

// truth is the value of a Boolean form.
func (f *Frame) truth(n *form) truth {
	switch n.op {
	case opNot:
		return f.truth(n.a).not()
	case opAnd:
		if t := f.truth(n.a); t != yes {
			return t
		}
		return f.truth(n.b)
	case opOr:
		if t := f.truth(n.a); t != no {
			return t
		}
		return f.truth(n.b)
	case opHas:
		v, known := f.attr(f.eval(n.a), n.name)
		if !known {
			return maybe
		}
		return truthOf(v.kind != broken)
	case opTenantHas:
		_, ok := f.tenantAttr(n)
		return truthOf(ok)
	case opEqual:
		return f.equal(f.eval(n.a), f.eval(n.b))
	case opLess, opLessEqual:
		a, b := f.eval(n.a), f.eval(n.b)
		if a.kind != isLong || b.kind != isLong {
			return maybe
		}
		return truthOf(a.n < b.n || n.op == opLessEqual && a.n == b.n)
	case opLike:
		v := f.eval(n.a)
		if v.kind != isString {
			return maybe
		}
		return truthOf(n.pattern.Match(v.text))
	case opIs, opIn, opInAny, opIsIn:
		return f.relation(n)
	case opIPTest, opIPRange:
		return f.address(n)
	case opContains, opContainsAll, opContainsAny, opIsEmpty:
		return f.set(n)
	case opHolds:
		return f.holds(n)
	}
	if v := f.eval(n); v.kind == isBool {
		return truth(v.n)
	}
	return maybe
}

// eval is the value of a form.
func (f *Frame) eval(n *form) value {
	switch n.op {
	case opValue:
		return n.value
	case opPrincipal:
		return value{kind: isEntity, n: thePrincipal}
	case opResource:
		return value{kind: isEntity, n: theResource}
	case opAction:
		return entity(f.Action)
	case opContext:
		return f.context(n.attr)
	case opTenantAttr:
		if v, ok := f.tenantAttr(n); ok {
			return valueOf(v)
		}
		return value{}
	case opAttr:
		v, _ := f.attr(f.eval(n.a), n.name)
		return v
	case opIf:
		switch f.truth(n.a) {
		case yes:
			return f.eval(n.b)
		case no:
			return f.eval(n.c)
		}
		return value{}
	case opAdd, opSub, opMul, opNegate:
		return f.arithmetic(n)
	}
	return f.truth(n).value()
}

// tenantAttr is an attribute of the principal's or the resource's tenant.
func (f *Frame) tenantAttr(n *form) (types.Value, bool) {
	t := f.Principals
	if n.ofResource {
		t = f.Resources
	}
	return t.Entity.Attributes.Get(n.name)
}

func (f *Frame) context(attr int) value {
	k := &f.Key
	bit := contextAttrs[attr].bit
	if f.Want&bit == 0 {
		return value{} // it is not in the key
	}
	switch bit {
	case ReadsBytes:
		return value{kind: isLong, n: k.Bytes}
	case ReadsTLS:
		return boolean(k.TLS)
	case ReadsSubject:
		return value{kind: isString, text: types.String(k.Subject)}
	case ReadsPath:
		return value{kind: isString, text: types.String(k.Path)}
	case ReadsMethod:
		return value{kind: isString, text: types.String(k.Method)}
	case ReadsHour:
		return value{kind: isLong, n: int64(k.Hour)}
	case ReadsService:
		return value{kind: isString, text: types.String(k.Service)}
	}
	return value{kind: isBoxed, boxed: k.Address()}
}

func (f *Frame) arithmetic(n *form) value {
	a := f.eval(n.a)
	if a.kind != isLong {
		return value{}
	}
	if n.op == opNegate {
		return long(-a.n, a.n != math.MinInt64)
	}
	b := f.eval(n.b)
	if b.kind != isLong {
		return value{}
	}
	switch n.op {
	case opAdd:
		sum := a.n + b.n
		return long(sum, (sum > a.n) == (b.n > 0))
	case opSub:
		diff := a.n - b.n
		return long(diff, (diff < a.n) == (b.n > 0))
	}
	return multiply(a.n, b.n)
}

// multiply has no value where the product does not fit.
func multiply(a, b int64) value {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if (a < 0) != (b < 0) {
		return long(-int64(lo), hi == 0 && lo <= 1<<63)
	}
	return long(int64(lo), hi == 0 && lo < 1<<63)
}

func magnitude(a int64) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}

// equal compares as Cedar does: values of two types are unequal.
func (f *Frame) equal(a, b value) truth {
	if a.kind == broken || b.kind == broken {
		return maybe
	}
	if a.kind != b.kind {
		return no
	}
	switch a.kind {
	case isBool, isLong:
		return truthOf(a.n == b.n)
	case isString:
		return truthOf(a.text == b.text)
	case isEntity:
		return f.same(a, b)
	}
	return truthOf(a.boxed.Equal(b.boxed))
}

// address is a test of an IP address.
func (f *Frame) address(n *form) truth {
	a, ok := f.prefix(n.a)
	if !ok {
		return maybe
	}
	if n.op == opIPTest {
		return truthOf(n.ip(a))
	}
	b, ok := f.prefix(n.b)
	if !ok {
		return maybe
	}
	return truthOf(b.Contains(a))
}

func (f *Frame) prefix(n *form) (types.IPAddr, bool) {
	if n.op == opContext && contextAttrs[n.attr].bit == ReadsIP {
		return f.Key.Address(), f.Want&ReadsIP != 0
	}
	a, ok := f.eval(n).boxed.(types.IPAddr)
	return a, ok
}

// set is an operator on sets.
func (f *Frame) set(n *form) truth {
	a, ok := f.eval(n.a).boxed.(types.Set)
	if !ok {
		return maybe
	}
	if n.op == opIsEmpty {
		return truthOf(a.Len() == 0)
	}
	v := f.eval(n.b).box()
	if v == nil {
		return maybe
	}
	if n.op == opContains {
		return truthOf(a.Contains(v))
	}
	b, ok := v.(types.Set)
	if !ok {
		return maybe
	}
	for e := range b.All() {
		if a.Contains(e) != (n.op == opContainsAll) {
			return truthOf(n.op == opContainsAny)
		}
	}
	return truthOf(n.op == opContainsAll)
}

// holds looks for a value among those that a rule spells out. All of them must
// have a value, also those after the one that is found.
func (f *Frame) holds(n *form) truth {
	want := f.eval(n.a)
	found := false
	for _, item := range n.list {
		switch f.equal(f.eval(item), want) {
		case maybe:
			return maybe
		case yes:
			found = true
		}
	}
	return truthOf(found)
}
