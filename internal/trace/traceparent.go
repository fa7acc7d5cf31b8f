// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package trace

import "encoding/hex"

// parentLen is the length of a version 00 traceparent.
const parentLen = 55

// Parent is a W3C traceparent: where in which trace the caller is.
type Parent struct {
	TraceID [16]byte
	SpanID  [8]byte
	Sampled bool
}

// Parse reads a traceparent. Of versions after 00 the known part counts; what
// is malformed, or names no trace or span, is no parent.
func Parse(s string) (p Parent, ok bool) {
	if len(s) < parentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Parent{}, false
	}
	var version, flags [1]byte
	if !unhex(version[:], s[:2]) || !unhex(p.TraceID[:], s[3:35]) || !unhex(p.SpanID[:], s[36:52]) || !unhex(flags[:], s[53:55]) {
		return Parent{}, false
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(s) != parentLen, len(s) > parentLen && s[parentLen] != '-':
		return Parent{}, false
	case p.TraceID == [16]byte{}, p.SpanID == [8]byte{}:
		return Parent{}, false
	}
	p.Sampled = flags[0]&1 != 0
	return p, true
}

// unhex takes lower-case digits alone, as the format demands.
func unhex(dst []byte, s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// String returns the version 00 form.
func (p Parent) String() string {
	b := make([]byte, 0, parentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, p.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, p.SpanID[:])
	if p.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}
