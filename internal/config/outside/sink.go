// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outside

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/rustyonions/macronode/bundle"
)

// MaxSinks bounds audit.sinks.
const MaxSinks = 16

// Kinds of sinks.
const (
	SinkNDJSON = "ndjson"
	SinkOTLP   = "otlp"
	SinkFile   = "file"
)

// Sink is an element of audit.sinks, taken apart.
type Sink struct {
	Name, Kind, Where string
	Token             bundle.Ref // an object with a bearer token; zero: none
}

var sinkName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// ParseSink takes an element of audit.sinks apart: false where it is none.
func ParseSink(text string) (s Sink, ok bool) {
	var rest, token string
	s.Name, rest, _ = strings.Cut(text, " ")
	s.Kind, s.Where, _ = strings.Cut(rest, " ")
	if !sinkName.MatchString(s.Name) {
		return s, false
	}
	if s.Kind == SinkFile { // paths may have spaces
		return s, path.IsAbs(s.Where) && path.Clean(s.Where) == s.Where && len(s.Where) <= 4096 && !strings.ContainsFunc(s.Where, unicode.IsControl)
	}
	if s.Kind != SinkNDJSON && s.Kind != SinkOTLP {
		return s, false
	}
	s.Where, token, ok = strings.Cut(s.Where, " ")
	if ok {
		r, err := bundle.ParseRef(token)
		if err != nil || r.Kind != bundle.RefObject {
			return s, false
		}
		s.Token = r
	}
	return s, callable(s.Where)
}

// IsSink reports whether s is an element of audit.sinks.
func IsSink(s string) bool {
	_, ok := ParseSink(s)
	return ok
}

// CheckSinks judges audit.sinks; fail is as for CheckWitnesses.
func CheckSinks(sinks []string, fail func(key, format string, args ...any)) {
	if n := len(sinks); n > MaxSinks {
		fail("audit.sinks", "names %d sinks; at most %d are accepted", n, MaxSinks)
	}
	names := map[string]bool{}
	for i, text := range sinks {
		s, ok := ParseSink(text)
		if ok && names[s.Name] {
			fail(fmt.Sprintf("audit.sinks[%d]", i), "duplicate: another is called %s too, and a cursor is one sink's", s.Name)
		}
		names[s.Name] = true
	}
}
