// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package words cuts text into the terms that are searched for. Documents and
// queries are cut by the same function, so that what is written can be found.
//
// A term is a run of letters, digits, marks and underscores, in lower case. In
// scripts that put no space between words each character is a term: a query of
// several becomes a phrase. Text is expected in Unicode's composed form (NFC).
package words

import (
	"unicode"
	"unicode/utf8"
)

// MaxTermBytes is where a term is cut off: what is longer is no word.
const MaxTermBytes = 64

// Word is one term and where it stands.
type Word struct {
	Term       []byte
	Start, End int // bytes of the text
}

// Each calls f for each word of text until it returns false. The term is only
// valid during the call.
func Each(text []byte, f func(w Word) bool) {
	term := make([]byte, 0, 2*MaxTermBytes)
	start := -1
	for i := 0; i <= len(text); {
		r, n := rune(-1), 1
		if i < len(text) {
			if c := text[i]; c < utf8.RuneSelf {
				r = rune(c)
			} else {
				r, n = utf8.DecodeRune(text[i:])
				if r == utf8.RuneError && n == 1 {
					r = -1
				}
			}
		}
		alone := r >= utf8.RuneSelf && unspaced(r)
		if inWord(r) && !alone {
			if start < 0 {
				start, term = i, term[:0]
			}
			if len(term) < MaxTermBytes {
				term = appendLower(term, r)
			}
			i += n
			continue
		}
		if start >= 0 {
			if !f(Word{cut(term), start, i}) {
				return
			}
			start = -1
		}
		if alone && inWord(r) {
			term = appendLower(term[:0], r)
			if !f(Word{term, i, i + n}) {
				return
			}
		}
		i += n
	}
}

// Terms returns the terms of a short text.
func Terms(text string) (terms []string) {
	Each([]byte(text), func(w Word) bool {
		terms = append(terms, string(w.Term))
		return true
	})
	return terms
}

func inWord(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
		return true
	case r < utf8.RuneSelf:
		return false
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// unspaced reports whether r is of a script that puts no space between words.
func unspaced(r rune) bool {
	return r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func appendLower(b []byte, r rune) []byte {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return append(b, byte(r))
	}
	return utf8.AppendRune(b, unicode.ToLower(r))
}

// cut shortens a term to MaxTermBytes without breaking a character.
func cut(term []byte) []byte {
	if len(term) <= MaxTermBytes {
		return term
	}
	n := MaxTermBytes
	for n > 0 && !utf8.RuneStart(term[n]) {
		n--
	}
	return term[:n]
}
