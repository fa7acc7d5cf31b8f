// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package openloop

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Good is the rate of good answers of the flows that whose names.
func (r *Result) Good(whose func(string) bool) float64 {
	return r.sum(whose, func(f *FlowResult) int { return f.Done }) / r.Seconds
}

// Asked is the rate of requests that were due.
func (r *Result) Asked(whose func(string) bool) float64 {
	return r.sum(whose, func(f *FlowResult) int { return f.Due }) / r.Seconds
}

func (r *Result) sum(whose func(string) bool, what func(*FlowResult) int) float64 {
	n := 0
	for i := range r.Flows {
		if f := &r.Flows[i]; whose(f.Name) {
			n += what(f)
		}
	}
	return float64(n)
}

// At is a percentile of latencies in milliseconds; NaN where there is none.
func (r *Result) At(whose func(string) bool, p int, what func(*FlowResult) []uint32) float64 {
	var us []uint32
	for i := range r.Flows {
		if f := &r.Flows[i]; whose(f.Name) {
			us = append(us, what(f)...)
		}
	}
	return Millis(us, p)
}

// Admitted and Refused are what At looks at.
func Admitted(f *FlowResult) []uint32 { return f.AdmittedUS }
func Refused(f *FlowResult) []uint32  { return f.RefusedUS }

// Millis is a percentile of microseconds, in milliseconds; it sorts them.
func Millis(us []uint32, p int) float64 {
	if len(us) == 0 {
		return math.NaN()
	}
	slices.Sort(us)
	return float64(us[(len(us)*p+99)/100-1]) / 1000
}

// Answers counts them by status and code, and what went wrong.
func (r *Result) Answers() string {
	codes := map[string]int{}
	lost, wrong, bare, reopened := 0, 0, 0, 0
	for _, f := range r.Flows {
		for c, n := range f.Codes {
			codes[c] += n
		}
		lost += f.Unsent + f.Unanswered
		wrong += f.Wrong
		bare += f.Bare
		reopened += f.Reopened
	}
	var parts []string
	for _, c := range slices.Sorted(maps.Keys(codes)) {
		parts = append(parts, fmt.Sprintf("%d × %s", codes[c], c))
	}
	for _, x := range []struct {
		n    int
		what string
	}{{lost, "no answer"}, {wrong, "wrong length"}, {bare, "no `Retry-After`"}, {reopened, "connections opened again"}} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", x.n, x.what))
		}
	}
	return strings.Join(parts, ", ")
}

// Tidy reports whether every request had an answer that is right in form, on a
// connection that stayed.
func (r *Result) Tidy() bool {
	return r.sum(func(string) bool { return true }, func(f *FlowResult) int { return f.Unsent + f.Unanswered + f.Wrong + f.Bare + f.Reopened }) == 0
}
