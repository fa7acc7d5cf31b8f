// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import "encoding/binary"

// The major types of CBOR that a head is made of.
const (
	majUint  = 0
	majText  = 3
	majArray = 4
	majMap   = 5
)

// maxHeadItems bounds the data items of a head before anything is made of
// them: keys and values of both maps, values of repeated headers, the rest.
const maxHeadItems = 2*maxArgs + 2*maxHeaders + maxHeaderValues + 32

// Package capability reads CBOR too. What is the same is some twenty lines, and public
// packages import root and b3 alone: one for CBOR would be an API to keep for them.

// headEnd returns where the CBOR item at the start of b ends. It allocates
// nothing and knows nothing of what a head means; only the major types that
// occur in one pass, with lengths in their shortest form.
func headEnd(b []byte) (int, *Error) {
	short := errHeadShort
	if len(b) > MaxHeadBytes {
		b, short = b[:MaxHeadBytes], errHeadLarge
	}
	pos := 0
	for left, seen := 1, 0; left > 0; left-- {
		if seen++; seen > maxHeadItems {
			return 0, errHeadMany
		}
		if pos == len(b) {
			return 0, short
		}
		major, info := b[pos]>>5, b[pos]&31
		n, width, bad := argument(b[pos+1:], info)
		if bad != nil {
			if bad == errHeadShort {
				bad = short
			}
			return 0, bad
		}
		pos += 1 + width
		switch major {
		case majUint:
		case majText:
			if n > uint64(len(b)-pos) {
				return 0, short
			}
			pos += int(n)
		case majArray, majMap:
			if n > maxHeadItems {
				return 0, errHeadMany
			}
			if major == majMap {
				n *= 2
			}
			left += int(n)
		default:
			return 0, errHeadType
		}
	}
	return pos, nil
}

// argument reads the argument that belongs to an initial byte's low bits, from
// the width bytes behind it. Only the shortest form passes.
func argument[T string | []byte](b T, info byte) (n uint64, width int, bad *Error) {
	if info < 24 {
		return uint64(info), 0, nil
	}
	if info > 27 {
		return 0, 0, errHeadForm // reserved, or of indefinite length
	}
	width = 1 << (info - 24)
	if len(b) < width {
		return 0, 0, errHeadShort
	}
	for i := range width {
		n = n<<8 | uint64(b[i])
	}
	if n < [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24] {
		return 0, 0, errHeadForm
	}
	return n, width, nil
}

// reader reads the items of a head whose end headEnd found. Its first failure
// sticks, and what is read afterwards is empty. Text is a part of s.
type reader struct {
	s   string
	pos int
	bad *Error
}

func (r *reader) fail(e *Error) {
	if r.bad == nil {
		r.bad = e
	}
}

// item reads the head of an item of the wanted major type.
func (r *reader) item(major byte, otherwise *Error) uint64 {
	if r.bad != nil {
		return 0
	}
	if r.pos == len(r.s) || r.s[r.pos]>>5 != major {
		r.bad = otherwise
		return 0
	}
	n, width, bad := argument(r.s[r.pos+1:], r.s[r.pos]&31)
	if bad != nil {
		r.bad = bad
		return 0
	}
	r.pos += 1 + width
	return n
}

// peek is the major type of the next item.
func (r *reader) peek() byte {
	if r.bad != nil || r.pos == len(r.s) {
		return 0xff
	}
	return r.s[r.pos] >> 5
}

func (r *reader) uint(most uint64, otherwise *Error) uint64 {
	n := r.item(majUint, otherwise)
	if n > most {
		r.fail(otherwise)
		return 0
	}
	return n
}

// text reads 1 to most bytes of text, all of which allowed accepts.
func (r *reader) text(least, most int, allowed func(string) bool, otherwise *Error) string {
	n := r.item(majText, otherwise)
	if r.bad != nil {
		return ""
	}
	if n > uint64(len(r.s)-r.pos) {
		r.bad = errHeadShort
		return ""
	}
	s := r.s[r.pos : r.pos+int(n)]
	r.pos += int(n)
	if len(s) > most {
		r.bad = errHeadLarge
		return ""
	}
	if len(s) < least || !allowed(s) {
		r.bad = otherwise
		return ""
	}
	return s
}

// count reads the head of a map or an array of at most n items.
func (r *reader) count(major byte, most int, otherwise *Error) int {
	n := r.item(major, otherwise)
	if n > uint64(most) {
		r.fail(errHeadMany)
		return 0
	}
	return int(n)
}

// after reports whether key b may follow key a in a deterministic map: by the
// bytes of their encodings, which for text means shorter first.
func after(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// appendItem appends the shortest head of the major type with the argument n.
func appendItem(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), n)
	}
}

func appendText(b []byte, s string) []byte {
	return append(appendItem(b, majText, uint64(len(s))), s...)
}
