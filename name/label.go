// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package name

import (
	"slices"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// scripts is a set of scripts, a bit each.
type scripts uint64

// span is a range of characters that the same scripts use.
type span struct {
	lo, hi rune
	set    scripts
}

// scriptsOf returns the scripts that use r; false where no name may have it.
func scriptsOf(r rune) (scripts, bool) {
	i, found := slices.BinarySearchFunc(allowed[:], r, func(s span, r rune) int {
		switch {
		case s.hi < r:
			return -1
		case s.lo > r:
			return 1
		}
		return 0
	})
	if !found {
		return 0, false
	}
	return allowed[i].set, true
}

// judgeLabel holds one label, in Unicode and mapped, to what IDNA leaves open.
func judgeLabel(label string) error {
	runes := []rune(label)
	all, beside := everywhere, everywhere // what uses all of it, and all of it but Latin
	var digits rune                       // zero of the digits seen; 0: none yet
	for i, r := range runes {
		set, ok := scriptsOf(r)
		if !ok {
			return refuse(Character, "a name may not have the character U+%04X", r)
		}
		if err := inContext(runes, i); err != nil {
			return err
		}
		all &= set
		if set&scriptLatn == 0 {
			beside &= set
		}
		if unicode.Is(unicode.Nd, r) {
			zero := zeroOf(r)
			if digits != 0 && digits != zero {
				return refuse(Script, "digits of two systems stand in one label")
			}
			digits = zero
		}
	}
	if all == 0 && beside&(scriptJpan|scriptHanb|scriptKore) == 0 {
		return refuse(Script, "letters of scripts that are not written together stand in one label")
	}
	if looksASCII(label) {
		return refuse(Confusable, "a label can be taken for one of Latin letters")
	}
	return nil
}

// inContext holds the characters that need others around them to the rules of
// RFC 5892, appendix A; joiners were judged with the mapping.
func inContext(runes []rune, i int) error {
	near := func(j int) rune {
		if j < 0 || j >= len(runes) {
			return 0
		}
		return runes[j]
	}
	of := func(r rune, want scripts) bool {
		set, ok := scriptsOf(r)
		return ok && set != everywhere && set&want != 0
	}
	ok := true
	switch runes[i] {
	case 0xb7: // middle dot: between two l
		ok = near(i-1) == 'l' && near(i+1) == 'l'
	case 0x375: // Greek lower numeral sign
		ok = of(near(i+1), scriptGrek)
	case 0x5f3, 0x5f4: // Hebrew geresh, gershayim
		ok = of(near(i-1), scriptHebr)
	case 0x30fb: // Katakana middle dot
		ok = slices.ContainsFunc(runes, func(r rune) bool { return r != 0x30fb && of(r, scriptHira|scriptKana|scriptHani) })
	}
	if !ok {
		return refuse(Character, "the character U+%04X may not stand there", runes[i])
	}
	return nil
}

// zeroOf returns the zero of the system of digits that the digit r is of: they stand
// in rows of ten, each after its zero.
func zeroOf(r rune) rune {
	for z := r; ; z-- {
		if !unicode.Is(unicode.Nd, z-1) || r-z == 9 {
			return z
		}
	}
}

// looksASCII reports whether a label that is not ASCII can be taken for one that is:
// each of its letters looks like one.
func looksASCII(label string) bool {
	other := false
	for _, r := range norm.NFD.String(label) {
		switch _, like := slices.BinarySearch(lookalikes[:], r); {
		case like:
			other = true
		case r < 0x80, unicode.Is(unicode.Mn, r):
		default:
			return false
		}
	}
	return other
}
