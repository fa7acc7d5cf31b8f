// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// Flip is a group of decisions that another policy would decide otherwise, for
// the same reasons on both sides.
type Flip struct {
	Was   string   `json:"was"` // "allow", "deny" or "error"
	Now   string   `json:"now"`
	WasBy []string `json:"was_by"` // the policies that decided; none: nothing permitted it
	NowBy []string `json:"now_by"`
	// Dropped and Added are obligations; only where both allow.
	Dropped []string `json:"dropped,omitempty"`
	Added   []string `json:"added,omitempty"`
	Message string   `json:"message,omitempty"` // of a policy that failed
	Count   int      `json:"count"`
	// Uncertain counts those of Count whose record is coarse where the candidate
	// looks.
	Uncertain int `json:"uncertain,omitempty"`
	// Examples are a few of them.
	Examples []Decision `json:"examples"`
}

// Report is what another policy would have done.
type Report struct {
	Decisions int `json:"decisions"`
	Same      int `json:"same"`
	Flipped   int `json:"flipped"`
	// Unreadable counts records that are no request any more.
	Unreadable int    `json:"unreadable,omitempty"`
	Flips      []Flip `json:"flips"`
	// Untold counts flips that belong to groups beyond those listed.
	Untold int `json:"untold,omitempty"`
}

// Limits of a tally.
const (
	maxFlips    = 256
	maxExamples = 8
)

// Tally gathers what a candidate would do otherwise. It is its caller's to guard.
type Tally struct {
	r      Report
	groups map[string]int // into r.Flips
}

// NewTally is empty.
func NewTally() *Tally { return &Tally{groups: map[string]int{}} }

// Add compares the decision d on r with the candidate's answer a on the same
// request, and reports whether it flips.
func (t *Tally) Add(d Decision, r *wall.PolicyRequest, candidate *rules.Set, a rules.Answer) bool {
	t.r.Decisions++
	f := Flip{Was: d.Outcome, Now: a.Outcome.String(), WasBy: sorted(d.Reasons), NowBy: sorted(a.Decision.Reasons)}
	if f.Was == f.Now && f.Was == rules.Allowed.String() {
		now := a.Obligations()
		f.Dropped, f.Added = without(d.Obligations, now), without(now, d.Obligations)
	}
	if f.Was == f.Now && len(f.Dropped)+len(f.Added) == 0 {
		t.r.Same++
		return false
	}
	t.r.Flipped++
	if len(a.Failures) > 0 {
		f.Message = a.Failures[0].Message
	}
	key := strings.Join([]string{f.Was, f.Now, strings.Join(f.WasBy, "\x01"), strings.Join(f.NowBy, "\x01"),
		strings.Join(f.Dropped, "\x01"), strings.Join(f.Added, "\x01")}, "\x00")
	i, ok := t.groups[key]
	if !ok {
		if len(t.r.Flips) == maxFlips {
			t.r.Untold++
			return true
		}
		i = len(t.r.Flips)
		t.groups[key] = i
		t.r.Flips = append(t.r.Flips, f)
	}
	g := &t.r.Flips[i]
	if g.Examples = append(g.Examples, d); len(g.Examples) > maxExamples {
		g.Examples = slices.Delete(g.Examples, 0, 1) // the newest say most
	}
	g.Count++
	for _, looked := range candidate.Reads(r) {
		if slices.Contains(d.Coarse, looked) {
			g.Uncertain++
			break
		}
	}
	return true
}

// Report is what was gathered, the greatest groups first.
func (t *Tally) Report() Report {
	out := t.r
	out.Flips = make([]Flip, len(t.r.Flips))
	for i, f := range t.r.Flips {
		f.Examples = slices.Clone(f.Examples)
		out.Flips[i] = f
	}
	slices.SortStableFunc(out.Flips, func(a, b Flip) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// without is what of a is not in b.
func without(a, b []string) []string {
	var out []string
	for _, s := range sorted(a) {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// Replay asks a candidate every recorded question again. It ends with ctx.
func Replay(ctx context.Context, candidate *rules.Set, list []Decision) (Report, error) {
	t := NewTally()
	for i := range list {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		d := &list[i]
		r, err := d.Request.Compile(nil)
		if err != nil || (d.Outcome != "allow" && d.Outcome != "deny" && d.Outcome != "error") {
			t.r.Unreadable++
			continue
		}
		r.Time = d.At()
		t.Add(*d, r, candidate, candidate.Decide(r, r.Time, 0))
	}
	return t.Report(), nil
}

// Limits of a file of decisions.
const (
	// MaxDecisions bounds the lines that Read accepts.
	MaxDecisions = 1 << 16
	maxLine      = 64 << 10
)

// Read reads decisions, one a line, as they are exported. Unknown members are
// refused: a file of something else is not a file of no flips.
func Read(in io.Reader) ([]Decision, error) {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	var out []Decision
	for line := 1; s.Scan(); line++ {
		text := bytes.TrimSpace(s.Bytes())
		if len(text) == 0 {
			continue
		}
		if len(out) == MaxDecisions {
			return nil, fmt.Errorf("more than %d decisions", MaxDecisions)
		}
		var d Decision
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&d); err != nil {
			return nil, fmt.Errorf("line %d is no decision: %w", line, err)
		}
		if dec.More() {
			return nil, fmt.Errorf("line %d holds more than a decision", line)
		}
		out = append(out, d)
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("a line is over %d bytes", maxLine)
		}
		return nil, err
	}
	return out, nil
}

// Write writes decisions as Read reads them.
func Write(w io.Writer, list []Decision) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i := range list {
		if err := enc.Encode(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
