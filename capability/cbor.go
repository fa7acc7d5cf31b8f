// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"encoding/binary"
	"unicode/utf8"
)

// The major types of CBOR.
const (
	majUint  = 0
	majNeg   = 1
	majBytes = 2
	majText  = 3
	majArray = 4
	majMap   = 5
	majTag   = 6
	majOther = 7
	majNone  = 0xff // after a failure
)

// The simple values that may occur.
const (
	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
)

// Package oap reads CBOR of its own: why they share nothing is said there.

// maxDepth bounds how deep the value of an unknown caveat may nest.
const maxDepth = 8

// appendHead appends the shortest head of the major type with the argument n.
func appendHead(b []byte, major byte, n uint64) []byte {
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
	return append(appendHead(b, majText, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, majBytes, uint64(len(s))), s...)
}

// reader reads deterministic CBOR and nothing else. Its first failure sticks:
// what is read afterwards is empty, so callers look at why once, at the end. It
// allocates nothing; text and bytes are parts of s.
type reader struct {
	s   string
	pos int
	why string // the first failure, for the caller of the node to read
}

func (r *reader) fail(why string) {
	if r.why == "" {
		r.why = why
	}
	r.pos = len(r.s)
}

// head reads a data item's head. Of majOther, arg is the simple value.
func (r *reader) head() (major byte, arg uint64) {
	if r.pos >= len(r.s) {
		r.fail("it ends early")
		return majNone, 0
	}
	b := r.s[r.pos]
	r.pos++
	major, low := b>>5, b&31
	if low < 24 {
		return major, uint64(low)
	}
	if major == majOther {
		r.fail("floats, other simple values and open ends are not accepted")
		return majNone, 0
	}
	if low > 27 {
		r.fail("lengths must be definite")
		return majNone, 0
	}
	n := 1 << (low - 24)
	if len(r.s)-r.pos < n {
		r.fail("it ends early")
		return majNone, 0
	}
	for _, c := range []byte(r.s[r.pos : r.pos+n]) {
		arg = arg<<8 | uint64(c)
	}
	r.pos += n
	if arg < 24 || n > 1 && arg>>(4*n) == 0 {
		r.fail("an integer or length is not in its shortest form")
		return majNone, 0
	}
	return major, arg
}

// want reads a head that must have the given major type.
func (r *reader) want(major byte, why string) uint64 {
	m, arg := r.head()
	if m != major {
		r.fail(why)
		return 0
	}
	return arg
}

// take returns the next n bytes.
func (r *reader) take(n uint64) string {
	if n > uint64(len(r.s)-r.pos) {
		r.fail("it ends early")
		return ""
	}
	s := r.s[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s
}

func (r *reader) text(why string) string {
	s := r.take(r.want(majText, why))
	if !utf8.ValidString(s) {
		r.fail("a text is not UTF-8")
		return ""
	}
	return s
}

func (r *reader) bytes(why string) string { return r.take(r.want(majBytes, why)) }

// fixed reads a byte string that must have length n.
func (r *reader) fixed(n int, why string) string {
	s := r.bytes(why)
	if len(s) != n {
		r.fail(why)
		return ""
	}
	return s
}

// skip reads one data item of any accepted sort.
func (r *reader) skip(depth int) {
	if depth == 0 {
		r.fail("it nests too deep")
		return
	}
	major, arg := r.head()
	switch major {
	case majUint, majNeg, majNone:
	case majBytes:
		r.take(arg)
	case majText:
		if !utf8.ValidString(r.take(arg)) {
			r.fail("a text is not UTF-8")
		}
	case majArray:
		for ; arg > 0 && r.why == ""; arg-- {
			r.skip(depth - 1)
		}
	case majMap:
		r.skipMap(arg, depth)
	case majTag:
		r.fail("tags are not accepted")
	case majOther:
		if arg != simpleFalse && arg != simpleTrue && arg != simpleNull {
			r.fail("floats, other simple values and open ends are not accepted")
		}
	}
}

// skipMap reads n pairs whose keys, as encoded, must rise.
func (r *reader) skipMap(n uint64, depth int) {
	last := ""
	for ; n > 0 && r.why == ""; n-- {
		start := r.pos
		r.skip(depth - 1)
		key := r.s[start:r.pos]
		if key <= last { // an encoded key is never empty
			r.fail("map keys are out of order or occur twice")
			return
		}
		last = key
		r.skip(depth - 1)
	}
}

// nextText splits the first text off a sequence of texts that was read before.
func nextText(s string) (item, rest string) {
	r := reader{s: s}
	_, n := r.head()
	item = r.take(n)
	return item, s[r.pos:]
}
