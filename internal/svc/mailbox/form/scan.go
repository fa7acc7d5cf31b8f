// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

// What a scanner finds wrong. Their texts are for callers.
var (
	errJSON     = errors.New("it is not JSON")
	errObject   = errors.New("it is not a JSON object")
	errTrailing = errors.New("more follows the JSON object")
	errUTF8     = errors.New("a text is not UTF-8")
	errDepth    = errors.New("it is nested too deeply")
	errMembers  = errors.New("it has too many members")
	errNumber   = errors.New("a number is wanted, without fraction or exponent")
	errText     = errors.New("a text is wanted")
	errList     = errors.New("a list is wanted")
	errMember   = errors.New("it has an unknown member")
	errTwice    = errors.New("a member stands twice")
)

// maxNested bounds how deep a value may be, before the JSON reader of the standard
// library, which is recursive, sees it.
const maxNested = 64

// scanner walks through one JSON text that is all there. It allocates nothing
// itself; the slices it gives lie in the text.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// next is the next byte that is no space, or 0.
func (s *scanner) next() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// take steps over c.
func (s *scanner) take(c byte) bool {
	if s.next() != c || c == 0 {
		return false
	}
	s.i++
	return true
}

// end says whether nothing but spaces follows.
func (s *scanner) end() error {
	if s.space(); s.i < len(s.b) {
		return errTrailing
	}
	return nil
}

// quoted steps over a string and returns it with its quotes.
func (s *scanner) quoted() ([]byte, error) {
	if s.next() != '"' {
		return nil, errText
	}
	start := s.i
	for i := start + 1; ; i++ {
		at := bytes.IndexByte(s.b[i:], '"')
		if at < 0 {
			return nil, errJSON
		}
		i += at
		slashes := 0
		for j := i - 1; j > start && s.b[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			s.i = i + 1
			return s.b[start:s.i], nil
		}
	}
}

// plain reports whether what is between the quotes stands for itself: no escape
// and no control character. ASCII alone is looked at.
func plain(in []byte) bool {
	for _, c := range in {
		if c < ' ' || c == '\\' {
			return false
		}
	}
	return true
}

// text is the value of a string.
func (s *scanner) text() (string, error) {
	q, err := s.quoted()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(q) {
		return "", errUTF8
	}
	if in := q[1 : len(q)-1]; plain(in) {
		return string(in), nil
	}
	var v string
	if json.Unmarshal(q, &v) != nil {
		return "", errJSON
	}
	return v, nil
}

// integer is the value of a number that is a whole one as it stands.
func (s *scanner) integer() (int64, error) {
	s.space()
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	digits := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	switch {
	case s.i == digits, s.b[digits] == '0' && s.i > digits+1:
		return 0, errNumber
	case s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i] == 'e' || s.b[s.i] == 'E'):
		return 0, errNumber
	}
	n, err := strconv.ParseInt(string(s.b[start:s.i]), 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

// raw steps over any value and returns it, valid and as it stands.
func (s *scanner) raw() ([]byte, error) {
	s.space()
	start, depth := s.i, 0
	for {
		switch s.next() {
		case 0:
			return nil, errJSON
		case '"':
			if _, err := s.quoted(); err != nil {
				return nil, err
			}
		case '{', '[':
			if depth++; depth > maxNested {
				return nil, errDepth
			}
			s.i++
			continue
		case '}', ']':
			if depth--; depth < 0 {
				return nil, errJSON
			}
			s.i++
		case ',', ':':
			if depth == 0 {
				return nil, errJSON
			}
			s.i++
			continue
		default:
			for s.i < len(s.b) && !bytes.ContainsRune([]byte(" \t\r\n,:{}[]\""), rune(s.b[s.i])) {
				s.i++
			}
		}
		if depth > 0 {
			continue
		}
		v := s.b[start:s.i]
		switch {
		case !utf8.Valid(v):
			return nil, errUTF8
		case !json.Valid(v):
			return nil, errJSON
		}
		return v, nil
	}
}

// object calls f with each member's name; f steps over the value. most bounds
// the members.
func (s *scanner) object(most int, f func(name string) error) error {
	if !s.take('{') {
		return errObject
	}
	if s.take('}') {
		return nil
	}
	for n := 0; ; n++ {
		if n == most {
			return errMembers
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return errJSON
		}
		if err := f(name); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

// list calls f before each element; f steps over it. most bounds the elements.
func (s *scanner) list(most int, f func() error) error {
	if !s.take('[') {
		return errList
	}
	if s.take(']') {
		return nil
	}
	for n := 0; ; n++ {
		if n == most {
			return errMembers
		}
		if err := f(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}
