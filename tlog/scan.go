// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/b3"
)

// scan reads an entry in one pass, the way it must have been written: every
// member once and in order, every text and number in its one form, and the hash
// its own. It says false of anything else, without saying why.
func scan(entry []byte) (*Record, bool) {
	s := scanner{b: entry, ok: true}
	r := &Record{}
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
	if !s.ok || len(s.b) > 0 || r.V != Version {
		return nil, false
	}
	// What is hashed is the entry without the hash member.
	var buf [MaxRecordBytes]byte
	n := copy(buf[:], entry[:from])
	n += copy(buf[n:], entry[to:])
	if blake3.Sum256(buf[:n]) != r.Hash {
		return nil, false
	}
	return r, true
}

// scanner takes canonical JSON from the front of b; ok is false once something
// else came.
type scanner struct {
	b  []byte
	ok bool
}

func (s *scanner) lit(t string) {
	if len(s.b) < len(t) || string(s.b[:len(t)]) != t {
		s.ok, s.b = false, nil
		return
	}
	s.b = s.b[len(t):]
}

func (s *scanner) addr() (a b3.Addr) {
	const quoted = b3.TextLen + 2
	if len(s.b) < quoted || s.b[0] != '"' || s.b[quoted-1] != '"' {
		s.ok, s.b = false, nil
		return a
	}
	a, err := b3.Parse(string(s.b[1 : quoted-1]))
	if err != nil {
		s.ok = false
	}
	s.b = s.b[quoted:]
	return a
}

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
		s.ok, s.b = false, nil
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
		s.ok, s.b = false, nil
		return ""
	}
	b := s.b[1:]
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			s.b = b[i+1:]
			if !utf8.Valid(b[:i]) {
				s.ok = false
			}
			return string(b[:i])
		case c == '\\':
			return s.escaped(b)
		case c < ' ':
			s.ok, s.b = false, nil
			return ""
		}
	}
	s.ok, s.b = false, nil
	return ""
}

// escaped reads the rest of a text in which there is an escape.
func (s *scanner) escaped(b []byte) string {
	end := 0
	for end < len(b) && b[end] != '"' {
		if b[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(b) {
		s.ok, s.b = false, nil
		return ""
	}
	text, err := strconv.Unquote(`"` + string(b[:end]) + `"`)
	e := encoder{}
	e.text(text)
	// Written again it must be the same: Go's escapes are more than JSON's.
	if err != nil || e.err != nil || len(e.b) != end+2 || !bytes.Equal(e.b[1:end+1], b[:end]) {
		s.ok, s.b = false, nil
		return ""
	}
	s.b = b[end+1:]
	return text
}

func (s *scanner) attrs() Attrs {
	s.lit(`{`)
	m := Attrs{}
	if len(s.b) > 0 && s.b[0] == '}' {
		s.b = s.b[1:]
		return m
	}
	last := ""
	for s.ok {
		k := s.text()
		if len(m) > 0 && compareUTF16(last, k) >= 0 {
			s.ok = false
		}
		s.lit(`:`)
		if len(s.b) > 0 && s.b[0] == '"' {
			m[k] = s.text()
		} else {
			m[k] = s.integer(true)
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
