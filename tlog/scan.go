// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"crypto/sha256"
	"strconv"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/b3"
)

// scan reads an entry in one pass, the way it must have been written: every
// member once and in order, every text and number in its one form, and the hash
// its own. It says false of anything else, without saying why.
func scan(entry []byte) (*Record, bool) {
	r := &Record{}
	return r, scanInto(r, string(entry), new(scratch), false)
}

// scratch is where the bytes that are hashed are put together.
type scratch [1 + MaxRecordBytes]byte

// leaf is LeafHash of an entry.
func (b *scratch) leaf(entry string) Hash {
	b[0] = 0
	return sha256.Sum256(b[:1+copy(b[1:], entry)])
}

// scanInto is scan into a Record whose texts share entry's memory. Lean, the attributes
// are looked at and not kept.
func scanInto(r *Record, entry string, buf *scratch, lean bool) bool {
	s := scanner{b: entry, ok: true, lean: lean}
	s.lit(`{"actor":`)
	r.Actor = s.text()
	s.lit(`,"attrs":`)
	r.Attrs = s.attrs()
	s.lit(`,`)
	from := len(entry) - len(s.b)
	s.lit(`"hash":`)
	r.Hash = s.addr()
	s.lit(`,`)
	to := len(entry) - len(s.b)
	s.lit(`"kind":`)
	r.Kind = s.text()
	s.lit(`,"prev":`)
	r.Prev = s.addr()
	s.lit(`,"reason":`)
	r.Reason = s.text()
	s.lit(`,"seq":`)
	r.Seq = uint64(max(s.integer(false), 0)) //nolint:gosec // not negative
	s.lit(`,"stream":`)
	r.Stream = s.text()
	s.lit(`,"subject":`)
	r.Subject = s.text()
	s.lit(`,"ts_ms":`)
	r.TSMilli = s.integer(true)
	s.lit(`,"v":`)
	r.V = uint64(max(s.integer(false), 0)) //nolint:gosec // not negative
	s.lit(`,"writer":`)
	r.Writer = s.text()
	s.lit(`}`)
	if !s.ok || s.b != "" || r.V != Version || len(entry) > MaxRecordBytes {
		return false
	}
	// What is hashed is the entry without the hash member.
	n := copy(buf[:], entry[:from])
	n += copy(buf[n:], entry[to:])
	return blake3.Sum256(buf[:n]) == r.Hash
}

// scanner takes canonical JSON from the front of b; ok is false once something
// else came.
type scanner struct {
	b    string
	ok   bool
	lean bool
}

func (s *scanner) lit(t string) {
	if len(s.b) < len(t) || s.b[:len(t)] != t {
		s.ok, s.b = false, ""
		return
	}
	s.b = s.b[len(t):]
}

func (s *scanner) addr() (a b3.Addr) {
	const open, shut = `"b3:`, 1 + b3.TextLen
	if len(s.b) < shut+1 || s.b[:len(open)] != open || s.b[shut] != '"' {
		s.ok, s.b = false, ""
		return a
	}
	bad := byte(0)
	for i := range a {
		at := len(open) + 2*i
		hi, lo := nibbles[s.b[at]], nibbles[s.b[at+1]]
		bad |= hi | lo
		a[i] = hi<<4 | lo&15
	}
	if bad > 15 {
		s.ok = false
	}
	s.b = s.b[shut+1:]
	return a
}

// nibbles are the values of hex digits in lower case; 0xff: it is none.
var nibbles = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte(hexDigits) {
		t[c] = byte(i)
	}
	return t
}()

// integer reads digits as strconv writes them, within what JSON keeps exactly.
func (s *scanner) integer(signed bool) int64 {
	i := 0
	if signed && len(s.b) > 0 && s.b[0] == '-' {
		i = 1
	}
	first := i
	var n int64
	for i < len(s.b) && i-first < 17 && s.b[i]-'0' <= 9 {
		n = n*10 + int64(s.b[i]-'0')
		i++
	}
	switch {
	case i == first, n > MaxInteger, s.b[first] == '0' && i > 1:
		s.ok, s.b = false, ""
		return 0
	}
	s.b = s.b[i:]
	if first == 1 {
		n = -n
	}
	return n
}

// text reads a JSON text with exactly the escapes of RFC 8785.
func (s *scanner) text() string {
	if len(s.b) == 0 || s.b[0] != '"' {
		s.ok, s.b = false, ""
		return ""
	}
	b := s.b[1:]
	high := byte(0)
	for i := 0; i < len(b); i++ {
		c := b[i]
		high |= c
		switch {
		case c == '"':
			s.b = b[i+1:]
			if high >= utf8.RuneSelf && !utf8.ValidString(b[:i]) {
				s.ok = false
			}
			return b[:i]
		case c == '\\':
			return s.escaped(b)
		case c < ' ':
			s.ok, s.b = false, ""
			return ""
		}
	}
	s.ok, s.b = false, ""
	return ""
}

// escaped reads the rest of a text in which there is an escape.
func (s *scanner) escaped(b string) string {
	end := 0
	for end < len(b) && b[end] != '"' {
		if b[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(b) {
		s.ok, s.b = false, ""
		return ""
	}
	text, err := strconv.Unquote(`"` + b[:end] + `"`)
	e := encoder{}
	e.text(text)
	// Written again it must be the same: Go's escapes are more than JSON's.
	if err != nil || e.err != nil || len(e.b) != end+2 || string(e.b[1:end+1]) != b[:end] {
		s.ok, s.b = false, ""
		return ""
	}
	s.b = b[end+1:]
	return text
}

func (s *scanner) attrs() Attrs {
	s.lit(`{`)
	var m Attrs
	if !s.lean {
		m = Attrs{}
	}
	if len(s.b) > 0 && s.b[0] == '}' {
		s.b = s.b[1:]
		return m
	}
	last := ""
	for first := true; s.ok; first = false {
		k := s.text()
		if !first && compareUTF16(last, k) >= 0 {
			s.ok = false
		}
		s.lit(`:`)
		if len(s.b) > 0 && s.b[0] == '"' {
			if v := s.text(); m != nil {
				m[k] = v
			}
		} else if v := s.integer(true); m != nil {
			m[k] = v
		}
		last = k
		if len(s.b) > 0 && s.b[0] == '}' {
			s.b = s.b[1:]
			break
		}
		s.lit(`,`)
	}
	return m
}
