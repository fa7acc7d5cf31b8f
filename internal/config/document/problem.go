// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package document

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Class says what kind of refusal an [Error] is.
type Class uint8

// The classes.
const (
	ClassBad     Class = iota // a key or value is wrong
	ClassFeature              // asks for what this build does not have
	ClassTrust                // hash, signature, signer or version
)

// Exit codes that refusals of a bundle end the process with.
const (
	ExitBad   = 3
	ExitTrust = 4
)

func (c Class) String() string {
	switch c {
	case ClassFeature:
		return "feature"
	case ClassTrust:
		return "trust"
	}
	return "bad"
}

// MarshalText writes the class's name.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ExitCode is the process's exit code for a refusal of this class.
func (c Class) ExitCode() int {
	if c == ClassTrust {
		return ExitTrust
	}
	return ExitBad
}

// Problem is one thing wrong with a bundle.
type Problem struct {
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"` // 0: the document as a whole
	Key   string `json:"key,omitempty"`  // dotted path; "" where no key is at fault
	Text  string `json:"text"`           // what is wrong and what is accepted
	Class Class  `json:"class"`
}

// String returns the problem as "FILE:LINE: key "a.b": text".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Key != "" {
		fmt.Fprintf(&b, "key %q: ", Shorten(p.Key))
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error is the refusal of a bundle, with every problem that was found.
type Error struct {
	Class    Class
	Problems []Problem // in the order of the file; never empty
	Err      error     // the cause of a trust refusal, such as bundle.ErrBadSignature; else nil
}

// Error returns one line a problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the process's exit code for this refusal.
func (e *Error) ExitCode() int { return e.Class.ExitCode() }

// maxProblems bounds what one refusal says of a hopeless file.
const maxProblems = 200

// Problems collects what is wrong with one file.
type Problems struct {
	file string
	list []Problem
	over int // beyond maxProblems
}

// NewProblems returns an empty collection for a file, named as errors will.
func NewProblems(file string) *Problems { return &Problems{file: file} }

// Len is how many problems were added.
func (ps *Problems) Len() int { return len(ps.list) + ps.over }

// Add adds a problem. line 0 is the document as a whole, key "" no key.
func (ps *Problems) Add(class Class, line int, key, format string, args ...any) {
	if len(ps.list) >= maxProblems {
		ps.over++
		return
	}
	ps.list = append(ps.list, Problem{File: ps.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...), Class: class})
}

// Bad adds a problem of class bad.
func (ps *Problems) Bad(line int, key, format string, args ...any) {
	ps.Add(ClassBad, line, key, format, args...)
}

// Err returns nil, or an Error of everything collected: of class feature only
// where nothing else is wrong.
func (ps *Problems) Err() error {
	if len(ps.list) == 0 {
		return nil
	}
	e := &Error{Class: ClassFeature, Problems: slices.Clone(ps.list)}
	for _, p := range e.Problems {
		if p.Class == ClassBad {
			e.Class = ClassBad
		}
	}
	slices.SortStableFunc(e.Problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if ps.over > 0 {
		e.Problems = append(e.Problems, Problem{File: ps.file, Text: fmt.Sprintf("and %d more", ps.over), Class: ClassBad})
	}
	return e
}

// Shorten keeps text from a file from flooding an error.
func Shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
