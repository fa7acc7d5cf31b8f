// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package ask reads the language of search queries. It makes a tree of what is
// asked, within limits on its cost, and knows no index.
//
//	budget report           both words, anywhere
//	budget OR report        one of them; AND binds more tightly
//	budget -draft           without a word; NOT draft is the same
//	"annual report"         words in this order
//	repo*                   words that begin so
//	budgte~ or budgte~2     words within so many edits
//	name:invoice            in a field: text, title, name, type
//	size:>10MiB size:<=1kB  comparisons of size, or of created:2026-11-24
//	(a OR b) -c             parentheses group
package ask

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/agext/levenshtein"

	"github.com/rustyonions/macronode/internal/svc/omnigate/search/words"
)

// Limits of a query, which bound what it may cost.
const (
	MaxBytes   = 1024 // of text
	MaxLeaves  = 32   // words, phrases, prefixes, comparisons
	MaxDepth   = 8    // of parentheses and negations
	MaxPhrase  = 16   // words
	MaxFuzzy   = 4    // words with ~
	MinPrefix  = 2    // characters before *
	minFuzzy   = 4    // characters of a word with ~1, one more for ~2
	maxNumeral = 20   // bytes of a number
)

// Field is where something is looked for.
type Field uint8

// The fields.
const (
	Any Field = iota // text, title and name
	Text
	Title
	Name
	Type
	Size    // bytes
	Created // unix ms
)

var fieldNames = [...]string{Any: "", Text: "text", Title: "title", Name: "name", Type: "type", Size: "size", Created: "created"}

func (f Field) String() string { return fieldNames[f] }

// Node is one of And, Or, Not, Phrase, Prefix, Fuzzy, Range, TypeIs.
type Node interface{ node() }

type (
	// And wants all of them.
	And []Node
	// Or wants one of them.
	Or []Node
	// Not wants documents without it.
	Not struct{ Node Node }
	// Phrase wants the terms in this order, one after the other.
	Phrase struct {
		Field Field
		Terms []string
	}
	// Prefix wants a term that begins so.
	Prefix struct {
		Field Field
		Start string
	}
	// Fuzzy wants a term within Edits of Term, which has the same first character. An
	// edit puts, takes or changes a character, or swaps two.
	Fuzzy struct {
		Field Field
		Term  string
		Edits int
	}
	// Range wants a number in [Min, Max].
	Range struct {
		Field    Field
		Min, Max int64
	}
	// TypeIs wants a media type; with Major all that begin so, "text/".
	TypeIs struct {
		Type  string
		Major bool
	}
)

func (And) node()    {}
func (Or) node()     {}
func (Not) node()    {}
func (Phrase) node() {}
func (Prefix) node() {}
func (Fuzzy) node()  {}
func (Range) node()  {}
func (TypeIs) node() {}

// Error says what is wrong with a query, in words for who wrote it.
type Error struct {
	At   int // byte of the query
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("at %d: %s", e.At+1, e.Text) }

// Parse reads q, which is in composed form (NFC). An empty one, or one of nothing but
// punctuation, is nil: it asks for everything.
func Parse(q string) (Node, error) {
	if len(q) > MaxBytes {
		return nil, &Error{MaxBytes, fmt.Sprintf("a query has at most %d bytes", MaxBytes)}
	}
	if !utf8.ValidString(q) {
		return nil, &Error{0, "the query is not UTF-8"}
	}
	p := &parser{q: q}
	n, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(p.q) {
		return nil, p.fail("a ) has no (")
	}
	return n, nil
}

type parser struct {
	q             string
	at            int
	leaves, fuzzy int
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{p.at, fmt.Sprintf(format, args...)}
}

func (p *parser) skip() {
	for p.at < len(p.q) && strings.IndexByte(" \t\r\n", p.q[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) end() bool {
	p.skip()
	return p.at >= len(p.q) || p.q[p.at] == ')'
}

// word takes w where it stands alone.
func (p *parser) word(w string) bool {
	rest, ok := strings.CutPrefix(p.q[p.at:], w)
	if !ok || rest != "" && strings.IndexByte(" \t\r\n()", rest[0]) < 0 {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) or(depth int) (Node, error) {
	if depth > MaxDepth {
		return nil, p.fail("at most %d levels of parentheses", MaxDepth)
	}
	var list Or
	for {
		n, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		if n != nil {
			list = append(list, n)
		}
		if p.skip(); !p.word("OR") {
			break
		}
	}
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
		return list[0], nil
	}
	return list, nil
}

func (p *parser) and(depth int) (Node, error) {
	var list And
	for !p.end() {
		mark := p.at
		if p.word("OR") {
			p.at = mark
			break
		}
		if p.word("AND") {
			continue
		}
		n, err := p.unary(depth)
		if err != nil {
			return nil, err
		}
		if n != nil {
			list = append(list, n)
		}
	}
	switch len(list) {
	case 0:
		return nil, nil
	case 1:
		return list[0], nil
	}
	return list, nil
}

func (p *parser) unary(depth int) (Node, error) {
	not := false
	switch {
	case p.word("NOT"):
		not = true
		p.skip()
	case p.q[p.at] == '-' && p.at+1 < len(p.q):
		not = true
		p.at++
	case p.q[p.at] == '+':
		p.at++
	}
	if p.end() {
		return nil, nil // a sign without a word
	}
	n, err := p.primary(depth)
	if err != nil || n == nil || !not {
		return n, err
	}
	return Not{n}, nil
}

func (p *parser) primary(depth int) (Node, error) {
	if p.q[p.at] == '(' {
		p.at++
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.skip(); p.at >= len(p.q) {
			return nil, p.fail("a ( is not closed")
		}
		p.at++
		return n, nil
	}
	f, err := p.field()
	if err != nil {
		return nil, err
	}
	if p.at < len(p.q) && p.q[p.at] == '"' {
		return p.quoted(f)
	}
	start := p.at
	for p.at < len(p.q) && strings.IndexByte(" \t\r\n()\"", p.q[p.at]) < 0 {
		p.at++
	}
	return p.value(f, p.q[start:p.at], start)
}

// field takes "name:" where it is one.
func (p *parser) field() (Field, error) {
	n := 0
	for n < len(p.q)-p.at && (p.q[p.at+n] >= 'a' && p.q[p.at+n] <= 'z' || p.q[p.at+n] == '_') {
		n++
	}
	if n == 0 || p.at+n >= len(p.q) || p.q[p.at+n] != ':' {
		return Any, nil
	}
	name := p.q[p.at : p.at+n]
	for f := Text; f <= Created; f++ {
		if f.String() == name {
			p.at += n + 1
			return f, nil
		}
	}
	near, best := "", 3
	for _, f := range fieldNames[Text:] {
		if d := levenshtein.Distance(name, f, nil); d < best {
			near, best = f, d
		}
	}
	if near != "" {
		return Any, p.fail("there is no field %q; did you mean %s? To look for the text, put it in quotes", name, near)
	}
	return Any, p.fail("there is no field %q: they are text, title, name, type, size and created. To look for the text, put it in quotes", name)
}

func (p *parser) leaf() error {
	if p.leaves++; p.leaves > MaxLeaves {
		return p.fail("at most %d words", MaxLeaves)
	}
	return nil
}

func (p *parser) quoted(f Field) (Node, error) {
	end := strings.IndexByte(p.q[p.at+1:], '"')
	if end < 0 {
		return nil, p.fail("a quotation is not closed")
	}
	start := p.at
	text := p.q[p.at+1 : p.at+1+end]
	p.at += end + 2
	if f == Type || f == Size || f == Created {
		return p.value(f, text, start)
	}
	return p.phrase(f, text)
}

func (p *parser) phrase(f Field, text string) (Node, error) {
	terms := words.Terms(text)
	if len(terms) == 0 {
		return nil, nil
	}
	if len(terms) > MaxPhrase {
		return nil, p.fail("a phrase has at most %d words", MaxPhrase)
	}
	return Phrase{f, terms}, p.leaf()
}

func (p *parser) value(f Field, v string, start int) (Node, error) {
	switch f {
	case Type:
		n, err := ParseType(v)
		if err != nil {
			return nil, &Error{start, err.Error()}
		}
		return n, p.leaf()
	case Size, Created:
		r, err := compare(f, v)
		if err != nil {
			return nil, &Error{start, err.Error()}
		}
		return r, p.leaf()
	}
	if s, ok := strings.CutSuffix(v, "*"); ok {
		return p.prefix(f, s)
	}
	if s, edits, ok := cutEdits(v); ok {
		return p.near(f, s, edits)
	}
	return p.phrase(f, v)
}

func (p *parser) prefix(f Field, s string) (Node, error) {
	terms := words.Terms(s)
	if len(terms) == 0 {
		return nil, nil
	}
	if len(terms) > 1 {
		return nil, p.fail("* ends one word, and %q is %d", s, len(terms))
	}
	if utf8.RuneCountInString(terms[0]) < MinPrefix {
		return nil, p.fail("at least %d characters before *", MinPrefix)
	}
	return Prefix{f, terms[0]}, p.leaf()
}

// cutEdits takes ~, ~1 or ~2 from the end.
func cutEdits(v string) (s string, edits int, ok bool) {
	for suffix, n := range map[string]int{"~": 1, "~1": 1, "~2": 2} {
		if s, ok := strings.CutSuffix(v, suffix); ok {
			return s, n, true
		}
	}
	return v, 0, false
}

func (p *parser) near(f Field, s string, edits int) (Node, error) {
	terms := words.Terms(s)
	if len(terms) == 0 {
		return nil, nil
	}
	if len(terms) > 1 {
		return nil, p.fail("~ ends one word, and %q is %d", s, len(terms))
	}
	if least := minFuzzy + edits - 1; utf8.RuneCountInString(terms[0]) < least {
		return nil, p.fail("a word with ~%d has at least %d characters", edits, least)
	}
	if p.fuzzy++; p.fuzzy > MaxFuzzy {
		return nil, p.fail("at most %d words with ~", MaxFuzzy)
	}
	return Fuzzy{f, terms[0], edits}, p.leaf()
}
