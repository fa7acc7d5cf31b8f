// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package extract

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// values takes the strings (names of members too) and the literals out of JSON, with
// spaces between them. What is not quite JSON, or cut off, gives what could be read.
func values(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		switch c := b[i]; c {
		case '"':
			out, i = quoted(out, b, i+1)
			out = append(out, ' ')
		case '{', '}', '[', ']', ':', ',':
			out = append(out, ' ')
			i++
		default:
			out = append(out, c)
			i++
		}
	}
	return out
}

// quoted appends the string that begins at b[i], without its quotes and escapes, and
// returns where it ends.
func quoted(out, b []byte, i int) ([]byte, int) {
	for i < len(b) {
		c := b[i]
		i++
		if c == '"' {
			return out, i
		}
		if c != '\\' || i >= len(b) {
			out = append(out, c)
			continue
		}
		e := b[i]
		i++
		switch e {
		case 'n', 't', 'r', 'b', 'f':
			out = append(out, ' ')
		case 'u':
			var r rune
			r, i = escape(b, i)
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, e)
		}
	}
	return out, i
}

// escape reads the four digits at b[i], and a second escape that belongs to them.
func escape(b []byte, i int) (rune, int) {
	r, ok := hex4(b, i)
	if !ok {
		return utf8.RuneError, i
	}
	i += 4
	if !utf16.IsSurrogate(r) {
		return r, i
	}
	if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
		if low, ok := hex4(b, i+2); ok {
			if whole := utf16.DecodeRune(r, low); whole != utf8.RuneError {
				return whole, i + 6
			}
		}
	}
	return utf8.RuneError, i
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[i:i+4]), 16, 16)
	return rune(n), err == nil
}
