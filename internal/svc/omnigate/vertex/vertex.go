// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package vertex names what edges join and feeds belong to: a name, an object or
// an id that means something to the tenant alone. Whether the name or object exists
// is nobody's question here, so no answer tells it either.
package vertex

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Limits of what follows the kind.
const (
	MaxNameBytes = 253
	MaxIDBytes   = 128
)

// MaxBytes bounds a vertex's text.
const MaxBytes = len(namePrefix) + MaxNameBytes

const (
	namePrefix   = "name/"
	objectPrefix = "object/"
	idPrefix     = "id/"
)

// The first byte of a vertex in a key.
const (
	keyName   = 'n'
	keyObject = 'o'
	keyID     = 'i'
)

// Vertex is the canonical text of one: name/NAME, object/b3:HEX or id/TEXT.
type Vertex string

// Parse reads the text of a vertex. normal makes a name normal or refuses it; nil
// takes names that are printable, without space and in lower case.
func Parse(text string, normal func(string) (string, error)) (Vertex, error) {
	if len(text) > MaxBytes+MaxNameBytes { // what normal may shorten
		return "", errForm()
	}
	if addr, ok := strings.CutPrefix(text, objectPrefix); ok {
		a, err := b3.Parse(addr)
		if err != nil || a.String() != addr {
			return "", macronode.Errorf(macronode.Malformed, "an object is object/b3: and 64 lower-case hex digits")
		}
		return Vertex(text), nil
	}
	if id, ok := strings.CutPrefix(text, idPrefix); ok {
		if !printable(id, MaxIDBytes) {
			return "", macronode.Errorf(macronode.Malformed, "an id is id/ and 1 to %d printable bytes of UTF-8", MaxIDBytes)
		}
		return Vertex(text), nil
	}
	name, ok := strings.CutPrefix(text, namePrefix)
	if !ok {
		return "", errForm()
	}
	if normal != nil {
		var err error
		if name, err = normal(name); err != nil {
			return "", err
		}
	}
	if !printable(name, MaxNameBytes) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsUpper(r) }) {
		return "", macronode.Errorf(macronode.Malformed, "a name has 1 to %d printable bytes in lower case, without space", MaxNameBytes)
	}
	return Vertex(namePrefix + name), nil
}

func errForm() error {
	return macronode.Errorf(macronode.Malformed, "a vertex is name/NAME, object/b3:HEX or id/TEXT")
}

func printable(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// AppendKey appends v as a part of a key: no vertex's is the beginning of another's.
func (v Vertex) AppendKey(b []byte) []byte {
	s := string(v)
	if addr, ok := strings.CutPrefix(s, objectPrefix); ok {
		if a, err := b3.Parse(addr); err == nil {
			return append(append(b, keyObject), a[:]...)
		}
	}
	if id, ok := strings.CutPrefix(s, idPrefix); ok {
		return append(append(append(b, keyID), id...), 0)
	}
	return append(append(append(b, keyName), strings.TrimPrefix(s, namePrefix)...), 0)
}

// CutKey reads the vertex that a key begins with; false where there is none.
func CutKey(key []byte) (v Vertex, rest []byte, ok bool) {
	if len(key) == 0 {
		return "", nil, false
	}
	kind, key := key[0], key[1:]
	if kind == keyObject {
		if len(key) < b3.Size {
			return "", nil, false
		}
		return Vertex(objectPrefix + b3.Addr(key[:b3.Size]).String()), key[b3.Size:], true
	}
	text, rest, ok := bytes.Cut(key, []byte{0})
	switch {
	case !ok:
		return "", nil, false
	case kind == keyName && printable(string(text), MaxNameBytes):
		return Vertex(namePrefix + string(text)), rest, true
	case kind == keyID && printable(string(text), MaxIDBytes):
		return Vertex(idPrefix + string(text)), rest, true
	}
	return "", nil, false
}
