// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package drill breaks things on purpose and says whether a node takes it as it
// should. A drill starts a throw-away node, does what its name says, compares what
// it saw with what it expected, step by step, and leaves nothing behind.
//
// A drill is one file: a Drill value with its play, and a line in All. It sees the
// node as anybody does, through its files and its two interfaces.
package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limit is how long a drill may take.
const Limit = 30 * time.Second

// Drill is one thing that can go wrong, and how it is tried.
type Drill struct {
	Name  string
	Shows string // in a line
	// NotLive says why it cannot be run against a node that runs already; empty
	// where it can.
	NotLive string

	play func(context.Context, *scene) error
}

// All returns every drill, by name.
func All() []Drill {
	return []Drill{badCapability, corruptObject, decompressionBomb, diskFull, facetOutage, malformedOAP, oversize, policyOutage, quotaStorm, serviceCrash, slowClient}
}

// Find returns the drill with this name.
func Find(name string) (Drill, bool) {
	all := All()
	i := slices.IndexFunc(all, func(d Drill) bool { return d.Name == name })
	if i < 0 {
		return Drill{}, false
	}
	return all[i], true
}

// Options of Run.
type Options struct {
	Binary string // of macronode
	Dir    string // where the throw-away directory is made; empty: the drill chooses
	Keep   bool   // leave that directory
}

// Report is what a drill did and saw.
type Report struct {
	Name    string  `json:"name"`
	Shows   string  `json:"shows"`
	Pass    bool    `json:"pass"`
	Error   string  `json:"error,omitempty"` // why it did not pass
	Seconds float64 `json:"seconds"`
	EndedMS int64   `json:"ended_ms"` // unix milliseconds
	Binary  string  `json:"binary"`
	// Dir held the node's data; it is there after the drill only where Kept.
	Dir   string   `json:"dir"`
	Kept  bool     `json:"kept"`
	Steps []Step   `json:"steps"`
	Log   []string `json:"log,omitempty"` // the node's last lines, where it did not pass
}

// Step is one thing that a drill did. Numbers have their unit in their name.
type Step struct {
	Did     string             `json:"did"`
	Expect  string             `json:"expect"`
	Saw     string             `json:"saw"`
	Numbers map[string]float64 `json:"numbers,omitempty"`
	Pass    bool               `json:"pass"`
}

// count keeps a number for the report.
func (s *Step) count(name string, v float64) {
	if s.Numbers == nil {
		s.Numbers = make(map[string]float64)
	}
	s.Numbers[name] = v
}

// saw says in words what there was to see.
func (s *Step) saw(format string, args ...any) { s.Saw = fmt.Sprintf(format, args...) }

// Run carries the drill out. It returns once the node is gone and, unless it was
// to be kept, its directory too; the end of ctx cuts it short.
func (d Drill) Run(ctx context.Context, o Options) Report {
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, Limit, fmt.Errorf("it did not end within %s", Limit))
	defer cancel()
	s := &scene{options: o, report: Report{Name: d.Name, Shows: d.Shows, Binary: o.Binary, Steps: []Step{}}}
	err := ctx.Err()
	if err == nil {
		err = d.play(ctx, s)
	}
	if cut := context.Cause(ctx); cut != nil {
		err = cut
		if errors.Is(cut, context.Canceled) {
			err = errors.New("interrupted")
		}
	}
	r := &s.report
	if err != nil {
		r.Error, r.Log = err.Error(), s.log.Lines(tailLines)
	}
	if err := s.end(); err != nil && r.Error == "" {
		r.Error = err.Error()
	}
	r.Pass = r.Error == ""
	r.Seconds, r.EndedMS = time.Since(begun).Seconds(), time.Now().UnixMilli()
	return *r
}

// step does one thing and keeps what it saw. An error of f is a step that did not
// pass; what comes after it makes no sense, so it is returned.
func (s *scene) step(ctx context.Context, did, expect string, f func(context.Context, *Step) error) error {
	st := Step{Did: did, Expect: expect}
	err := f(ctx, &st)
	if err == nil {
		err = ctx.Err()
	}
	st.Pass = err == nil
	if err != nil {
		if st.Saw != "" {
			st.Saw += "; "
		}
		st.Saw += err.Error()
	}
	s.report.Steps = append(s.report.Steps, st)
	if err != nil {
		return fmt.Errorf("%s: %w", did, err)
	}
	return nil
}
