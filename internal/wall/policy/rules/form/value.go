// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import "github.com/cedar-policy/cedar-go/types"

// valueKind is the type of a value; broken: there is none, and Cedar must decide.
type valueKind uint8

const (
	broken valueKind = iota
	isBool
	isLong
	isString
	isEntity
	isBoxed // any other, as Cedar keeps it
)

// The entities that a request brings, which need no name to be told apart.
const (
	thePrincipal = 1 + iota
	theResource
)

// value is a Cedar value without an allocation.
type value struct {
	kind  valueKind
	n     int64 // isBool: 1 is true; isLong; isEntity: thePrincipal, theResource or 0
	text  types.String
	typ   types.EntityType
	boxed types.Value
}

func boolean(b bool) value {
	if b {
		return value{kind: isBool, n: 1}
	}
	return value{kind: isBool}
}

func long(n int64, ok bool) value {
	if !ok {
		return value{}
	}
	return value{kind: isLong, n: n}
}

func entity(uid types.EntityUID) value {
	return value{kind: isEntity, typ: uid.Type, text: uid.ID}
}

func valueOf(v types.Value) value {
	switch v := v.(type) {
	case nil:
		return value{}
	case types.Boolean:
		return boolean(bool(v))
	case types.Long:
		return value{kind: isLong, n: int64(v)}
	case types.String:
		return value{kind: isString, text: v}
	case types.EntityUID:
		return entity(v)
	}
	return value{kind: isBoxed, boxed: v}
}

// box is valueOf undone; nil for the principal and resource themselves, which
// have no name here.
func (v value) box() types.Value {
	switch v.kind {
	case isBool:
		return types.Boolean(v.n == 1)
	case isLong:
		return types.Long(v.n)
	case isString:
		return v.text
	case isEntity:
		if v.n != 0 {
			return nil
		}
		return types.NewEntityUID(v.typ, v.text)
	}
	return v.boxed
}

// truth is the value of a form that is a Boolean; maybe: Cedar must decide.
type truth uint8

const (
	no truth = iota
	yes
	maybe
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// not is the other truth, where there is one.
func (t truth) not() truth {
	if t == maybe {
		return maybe
	}
	return t ^ 1
}

func (t truth) value() value {
	if t == maybe {
		return value{}
	}
	return value{kind: isBool, n: int64(t)}
}
