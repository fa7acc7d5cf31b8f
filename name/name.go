// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package name says what a name is and which of its spellings counts.
//
// A name is one or more labels with dots between them, such as "site.logo" or
// "straße.münchen". Normalize turns any spelling of a name into the one that is
// stored and compared: Unicode's NFC, lower case, mapped by UTS 46 (non-transitional,
// so that ß and ς stay what they are), with labels in Unicode and not in Punycode.
// Normalizing twice changes nothing.
//
// # What is refused
//
//   - what IDNA 2008 does not let into a label: spaces, slashes, underscores, signs,
//     emoji, hyphens at a label's ends or in its third and fourth place, broken joiners
//     and broken right-to-left text;
//   - labels that are empty or have more than MaxLabelBytes, names of more than MaxBytes,
//     counted in Punycode, as in the DNS, or more than MaxUTF8Bytes in UTF-8;
//   - characters that Unicode does not recommend for identifiers (UTS 39);
//   - labels in which scripts are mixed that nobody writes together: a Cyrillic а in a
//     Latin word, digits of two systems. Latin beside Japanese, Korean or Chinese is not
//     mixed (UTS 39, highly restrictive);
//   - labels of one other script that can be taken for ASCII letters throughout, such
//     as "аррӏе" in Cyrillic. This also meets a few honest short words, whose owners
//     have to write something beside them.
//
// Each label is judged by itself, as in the DNS.
//
// What Unicode says comes from tables of one pinned version, UnicodeVersion.
package name

//go:generate sh -c "go run ../scripts/unicode > tables.new && mv tables.new tables.go"

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Limits of a name: of its form in Punycode, and of its normal form in UTF-8.
const (
	MaxBytes      = 253
	MaxLabelBytes = 63
	MaxUTF8Bytes  = 512
)

// maxInput bounds what is looked at: no name has a longer spelling that makes sense.
const maxInput = 4 * MaxBytes

// ErrRefused is wrapped by every error of this package: what was given is no name.
var ErrRefused = errors.New("this is no name")

// Rule says which rule a spelling breaks. The list is closed.
type Rule string

// The rules.
const (
	Length     Rule = "length"     // empty, too long, or an empty or too long label
	Form       Rule = "form"       // not UTF-8, a hyphen or dot in the wrong place, a broken A-label
	Character  Rule = "character"  // a character that no name may have
	Direction  Rule = "direction"  // right-to-left text that would be shown in another order
	Script     Rule = "script"     // scripts, or systems of digits, that are not written together
	Confusable Rule = "confusable" // another script that looks like ASCII letters throughout
)

// Rules are all of them.
func Rules() []Rule { return []Rule{Length, Form, Character, Direction, Script, Confusable} }

// Error says why a spelling is no name.
type Error struct {
	Rule Rule
	text string
}

func (e *Error) Error() string { return e.text }

// Unwrap returns ErrRefused.
func (e *Error) Unwrap() error { return ErrRefused }

func refuse(r Rule, format string, args ...any) error {
	return &Error{Rule: r, text: fmt.Sprintf(format, args...)}
}

// RuleOf returns the rule that err speaks of; "" where it is not of this package.
func RuleOf(err error) Rule {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Rule
	}
	return ""
}

// Normalize returns the one spelling of the name that s spells. Errors wrap
// ErrRefused.
func Normalize(s string) (string, error) {
	if plain(s) {
		return s, nil
	}
	switch {
	case s == "":
		return "", refuse(Length, "a name has one label at least")
	case len(s) > maxInput:
		return "", refuse(Length, "a name has at most %d bytes", MaxBytes)
	case !utf8.ValidString(s):
		return "", refuse(Form, "a name is UTF-8 text")
	}
	p := profile()
	ascii, err := p.ToASCII(s)
	if err != nil {
		return "", judge(s, err)
	}
	if err := lengths(ascii); err != nil {
		return "", err
	}
	u, err := p.ToUnicode(ascii)
	if err != nil {
		return "", judge(s, err)
	}
	if len(u) > MaxUTF8Bytes {
		return "", refuse(Length, "the name has %d bytes in UTF-8, %d are allowed", len(u), MaxUTF8Bytes)
	}
	if !norm.NFC.IsNormalString(u) {
		return "", refuse(Form, "the name has no normal form")
	}
	for label := range strings.SplitSeq(u, ".") {
		if err := judgeLabel(label); err != nil {
			return "", err
		}
	}
	// What is stored must spell itself.
	if again, err := p.ToASCII(u); err != nil || again != ascii {
		return "", refuse(Form, "the name has no normal form")
	}
	return u, nil
}

// Valid reports whether s is a name in its normal form.
func Valid(s string) bool {
	if plain(s) {
		return true
	}
	n, err := Normalize(s)
	return err == nil && n == s
}

// Prefix returns what names that begin with the spelling s begin with: s in NFC and
// lower case. It is no name by itself, and judged by nothing but its length.
func Prefix(s string) (string, error) {
	if len(s) > maxInput || !utf8.ValidString(s) {
		return "", refuse(Length, "the beginning of a name has at most %d bytes of UTF-8", maxInput)
	}
	return norm.NFC.String(strings.ToLower(norm.NFC.String(s))), nil
}

// plain reports whether s is a name of ASCII letters, digits, hyphens and dots in
// its normal form. It says no where that takes a closer look.
func plain(s string) bool {
	if s == "" || len(s) > MaxBytes {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			c := s[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
			continue
		}
		l := s[start:i]
		if l == "" || len(l) > MaxLabelBytes || l[0] == '-' || l[len(l)-1] == '-' || len(l) >= 4 && l[2] == '-' && l[3] == '-' {
			return false
		}
		start = i + 1
	}
	return true
}

// profile is UTS 46 non-transitional with every check of IDNA 2008 that a program
// can make.
func profile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(true), idna.ValidateLabels(true),
		idna.CheckHyphens(true), idna.CheckJoiners(true), idna.BidiRule(), idna.VerifyDNSLength(true))
}

// lengths holds a name in Punycode to the limits.
func lengths(ascii string) error {
	if len(ascii) > MaxBytes {
		return refuse(Length, "the name has %d bytes in Punycode, %d are allowed", len(ascii), MaxBytes)
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > MaxLabelBytes {
			return refuse(Length, "a label has 1 to %d bytes in Punycode", MaxLabelBytes)
		}
	}
	return nil
}

// judge tells from what was given which rule the mapping refused it by.
func judge(s string, err error) error {
	text := strings.TrimPrefix(err.Error(), "idna: ")
	if strings.Contains(text, "disallowed rune") {
		return refuse(Character, "a name has letters, digits, hyphens and dots: %s", text)
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > MaxLabelBytes {
			return refuse(Length, "a label has 1 to %d bytes in Punycode", MaxLabelBytes)
		}
	}
	switch {
	case len(s) > MaxBytes:
		return refuse(Length, "a name has at most %d bytes in Punycode", MaxBytes)
	case mixesDirections(s):
		return refuse(Direction, "its right-to-left text would be shown in another order")
	}
	return refuse(Form, "a label is not of the form of IDNA 2008")
}

func mixesDirections(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko)
	})
}
