// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// section is the report of one part.
type section struct {
	Name    string      `json:"name"`
	Title   string      `json:"title"`
	Facts   []string    `json:"facts"`
	Took    string      `json:"took"`
	Notes   []string    `json:"notes"`
	Servers []string    `json:"servers,omitempty"`
	Head    []string    `json:"head"`
	Rows    [][]string  `json:"rows"`
	Goals   []goal      `json:"goals,omitempty"`
	Runs    []rawResult `json:"runs,omitempty"`
}

// goal is a figure that was set beforehand.
type goal struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	Met  bool   `json:"met"`
}

// rawResult keeps every run, for who wants other statistics.
type rawResult struct {
	Cell   string   `json:"cell"`
	Server string   `json:"server"`
	Rounds []result `json:"rounds"`
}

// stat is the median and the range of some runs.
type stat struct{ Median, Low, High float64 }

// statOf looks at one figure of a non-empty list of runs.
func statOf[T any](runs []T, figure func(T) float64) stat {
	v := make([]float64, 0, len(runs))
	for _, r := range runs {
		v = append(v, figure(r))
	}
	slices.Sort(v)
	n := len(v)
	return stat{Median: (v[(n-1)/2] + v[n/2]) / 2, Low: v[0], High: v[n-1]}
}

// peer is what the node is compared with in one cell.
type peer struct {
	name string
	runs []result
	goal float64 // the node's rate as a multiple of the peer's; 0: none
	p99  bool    // the node's p99 is to be no worse
}

// compare adds a row for the node and one for each peer that ran.
func (s *section) compare(cell string, size int64, node []result, peers []peer) {
	rate := func(r result) float64 { return r.Rate }
	p50 := func(r result) float64 { return r.P50 }
	p99 := func(r result) float64 { return r.P99 }
	line := func(name string, runs []result, ratio, want, verdict string) {
		st := statOf(runs, rate)
		s.row(cell, name, number(st.Median), number(st.Low)+"-"+number(st.High), number(st.Median*float64(size)/1e6),
			fmt.Sprintf("%.2f", statOf(runs, p50).Median), fmt.Sprintf("%.2f", statOf(runs, p99).Median), ratio, want, verdict)
		s.Runs = append(s.Runs, rawResult{cell, name, runs})
	}
	line("macronode", node, "", "", "")
	for _, p := range peers {
		if len(p.runs) == 0 {
			continue
		}
		ratio := statOf(node, rate).Median / statOf(p.runs, rate).Median
		got, want, met := fmt.Sprintf("%.2f×", ratio), "", []string{}
		if p.goal > 0 {
			want = fmt.Sprintf("≥ %g×", p.goal)
			met = append(met, s.judge(cell+": rate to "+p.name, want, got, ratio >= p.goal))
		}
		if p.p99 {
			tail := statOf(node, p99).Median / statOf(p.runs, p99).Median
			got += fmt.Sprintf(", p99 %.2f×", tail)
			want = strings.TrimPrefix(want+", p99 ≤ 1×", ", ")
			met = append(met, "p99 "+s.judge(cell+": p99 to "+p.name, "≤ 1×", fmt.Sprintf("%.2f×", tail), tail <= 1))
		}
		line(p.name, p.runs, got, want, strings.Join(met, ", "))
	}
}

// judge records a goal and returns one word.
func (s *section) judge(what, want, got string, met bool) string {
	s.Goals = append(s.Goals, goal{what, want, got, met})
	if met {
		return "met"
	}
	return "**missed**"
}

// value adds a row of the form what, value, goal, verdict.
func (s *section) value(what, got, want string, met *bool) {
	verdict := ""
	if met != nil {
		verdict = s.judge(what, want, got, *met)
	}
	say("%s: %s %s %s", what, got, want, verdict)
	s.row(what, got, want, verdict)
}

func (s *section) row(cells ...string) { s.Rows = append(s.Rows, cells) }

func (s *section) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// servers says what was run, and which version.
func (s *section) servers(list ...*server) {
	slices.SortFunc(list, func(a, b *server) int { return strings.Compare(b.name, a.name) })
	for _, v := range list {
		s.Servers = append(s.Servers, fmt.Sprintf("%s (%s): %s", v.name, v.version, v.command))
	}
}

func (s *section) missed() int {
	n := 0
	for _, g := range s.Goals {
		if !g.Met {
			n++
		}
	}
	return n
}

// markdown is the section as it stands in the report.
func (s *section) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", s.Title)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	for _, v := range s.Servers {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	for _, f := range s.Facts {
		fmt.Fprintf(&b, "- %s\n", f)
	}
	fmt.Fprintf(&b, "- this part took %s\n\n", s.Took)
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(s.Head)
	line(slices.Repeat([]string{"---"}, len(s.Head)))
	for _, r := range s.Rows {
		line(r)
	}
	return b.String()
}

// number prints a figure with about three digits that say something.
func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

func markers(name string) (begin, end string) {
	return "<!-- bench " + name + " begin -->\n", "<!-- bench " + name + " end -->\n"
}

// replaceSection puts text between a part's markers, or behind the last line
// where there are none.
func replaceSection(doc, name, text string) (string, error) {
	begin, end := markers(name)
	before, rest, ok := strings.Cut(doc, begin)
	if !ok {
		return strings.TrimRight(doc, "\n") + "\n\n" + begin + text + end, nil
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("the report has %q without %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + text + end + after, nil
}

// writeReport writes the sections that were measured into the document and
// leaves the others as they are; the JSON has the measured ones alone.
func writeReport(set settings, done []*section) error {
	doc, err := os.ReadFile(set.report)
	if errors.Is(err, fs.ErrNotExist) {
		doc, err = []byte("# Performance\n\nWritten by `make bench`.\n"), nil
	}
	if err != nil {
		return err
	}
	text := string(doc)
	for _, s := range done {
		if text, err = replaceSection(text, s.Name, s.markdown()); err != nil {
			return fmt.Errorf("%s: %w", set.report, err)
		}
	}
	all, err := json.MarshalIndent(done, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range []string{set.report, set.json} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(set.report, []byte(text), 0o644), os.WriteFile(set.json, append(all, '\n'), 0o644))
}
