// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package report writes what was measured, and whether it is what was wanted.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Section is the report of one part.
type Section struct {
	Name    string     `json:"name"`
	Title   string     `json:"title"`
	Facts   []string   `json:"facts"`
	Took    string     `json:"took"`
	Notes   []string   `json:"notes"`
	Servers []string   `json:"servers,omitempty"`
	Head    []string   `json:"head"`
	Rows    [][]string `json:"rows"`
	Goals   []Goal     `json:"goals,omitempty"`
	Runs    []Run      `json:"runs,omitempty"`
}

// Goal is a figure that was set beforehand.
type Goal struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	Met  bool   `json:"met"`
}

// Run keeps every run, for who wants other statistics.
type Run struct {
	Cell   string   `json:"cell"`
	Server string   `json:"server"`
	Rounds []Result `json:"rounds"`
}

// Stat is the median and the range of some runs.
type Stat struct{ Median, Low, High float64 }

// StatOf looks at one figure of a non-empty list of runs.
func StatOf[T any](runs []T, figure func(T) float64) Stat {
	v := make([]float64, 0, len(runs))
	for _, r := range runs {
		v = append(v, figure(r))
	}
	slices.Sort(v)
	n := len(v)
	return Stat{Median: (v[(n-1)/2] + v[n/2]) / 2, Low: v[0], High: v[n-1]}
}

// Peer is what the node is compared with in one cell.
type Peer struct {
	Name string
	Runs []Result
	Goal float64 // the node's rate as a multiple of the peer's; 0: none
	P99  bool    // the node's p99 is to be no worse
}

// Compare adds a row for the node and one for each peer that ran.
func (s *Section) Compare(cell string, size int64, node []Result, peers []Peer) {
	rate := func(r Result) float64 { return r.Rate }
	p50 := func(r Result) float64 { return r.P50 }
	p99 := func(r Result) float64 { return r.P99 }
	line := func(name string, runs []Result, ratio, want, verdict string) {
		st := StatOf(runs, rate)
		s.Row(cell, name, Number(st.Median), Number(st.Low)+"-"+Number(st.High), Number(st.Median*float64(size)/1e6),
			fmt.Sprintf("%.2f", StatOf(runs, p50).Median), fmt.Sprintf("%.2f", StatOf(runs, p99).Median), ratio, want, verdict)
		s.Runs = append(s.Runs, Run{cell, name, runs})
	}
	line("macronode", node, "", "", "")
	for _, p := range peers {
		if len(p.Runs) == 0 {
			continue
		}
		ratio := StatOf(node, rate).Median / StatOf(p.Runs, rate).Median
		got, want, met := fmt.Sprintf("%.2f×", ratio), "", []string{}
		if p.Goal > 0 {
			want = fmt.Sprintf("≥ %g×", p.Goal)
			met = append(met, s.Judge(cell+": rate to "+p.Name, want, got, ratio >= p.Goal))
		}
		if p.P99 {
			tail := StatOf(node, p99).Median / StatOf(p.Runs, p99).Median
			got += fmt.Sprintf(", p99 %.2f×", tail)
			want = strings.TrimPrefix(want+", p99 ≤ 1×", ", ")
			met = append(met, "p99 "+s.Judge(cell+": p99 to "+p.Name, "≤ 1×", fmt.Sprintf("%.2f×", tail), tail <= 1))
		}
		line(p.Name, p.Runs, got, want, strings.Join(met, ", "))
	}
}

// Judge records a goal and returns one word.
func (s *Section) Judge(what, want, got string, met bool) string {
	s.Goals = append(s.Goals, Goal{what, want, got, met})
	if met {
		return "met"
	}
	return "**missed**"
}

// Value adds a row of the form what, value, goal, verdict.
func (s *Section) Value(what, got, want string, met *bool) {
	verdict := ""
	if met != nil {
		verdict = s.Judge(what, want, got, *met)
	}
	Say("%s: %s %s %s", what, got, want, verdict)
	s.Row(what, got, want, verdict)
}

func (s *Section) Row(cells ...string) { s.Rows = append(s.Rows, cells) }

func (s *Section) Note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

func (s *Section) Missed() int {
	n := 0
	for _, g := range s.Goals {
		if !g.Met {
			n++
		}
	}
	return n
}

// Markdown is the section as it stands in the report.
func (s *Section) Markdown() string {
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

// Number prints a figure with about three digits that say something.
func Number(f float64) string {
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

// Write writes the sections that were measured into the document and
// leaves the others as they are; the JSON has the measured ones alone.
func Write(file, data string, done []*Section) error {
	doc, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		doc, err = []byte("# Performance\n\nWritten by `make bench`.\n"), nil
	}
	if err != nil {
		return err
	}
	text := string(doc)
	for _, s := range done {
		if text, err = replaceSection(text, s.Name, s.Markdown()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	all, err := json.MarshalIndent(done, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range []string{file, data} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(file, []byte(text), 0o644), os.WriteFile(data, append(all, '\n'), 0o644))
}

// Say prints progress.
func Say(format string, args ...any) {
	fmt.Printf("%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// Result is what one run of one cell came to. Latencies are in milliseconds.
type Result struct {
	Rate float64 `json:"ops_per_s"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}
