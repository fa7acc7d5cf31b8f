// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package flips shows what another policy would have decided otherwise.
package flips

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Decision is the part of a recorded decision that is shown.
type Decision struct {
	TSMS    int64 `json:"ts_ms"`
	Request struct {
		Tenant, Action, Resource string
	} `json:"request"`
}

// Flip is a group of decisions that would be otherwise, for the same reasons on
// both sides.
type Flip struct {
	Was       string     `json:"was"`
	Now       string     `json:"now"`
	WasBy     []string   `json:"was_by"`
	NowBy     []string   `json:"now_by"`
	Dropped   []string   `json:"dropped"` // obligations
	Added     []string   `json:"added"`
	Message   string     `json:"message"`
	Count     int        `json:"count"`
	Uncertain int        `json:"uncertain"`
	Examples  []Decision `json:"examples"`
}

// Report is what a replay found.
type Report struct {
	Decisions  int    `json:"decisions"`
	Same       int    `json:"same"`
	Flipped    int    `json:"flipped"`
	Unreadable int    `json:"unreadable"`
	Flips      []Flip `json:"flips"`
}

// Write tells the report.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "%d decisions, %d the same, %d flip\n", r.Decisions, r.Same, r.Flipped)
	if r.Unreadable > 0 {
		fmt.Fprintf(w, "%d could not be read\n", r.Unreadable)
	}
	Write(w, r.Flips)
}

// Tell prints the report in doc, and is an error that exits with 1 where decisions
// flip that may not.
func Tell(doc json.RawMessage, print func(v any, text func(io.Writer)) error, allow bool) error {
	var r Report
	if err := json.Unmarshal(doc, &r); err != nil {
		return fmt.Errorf("this is no replay report: %w", err)
	}
	err := print(doc, r.Write)
	if err == nil && r.Flipped > 0 && !allow {
		err = cli.Exit(fmt.Errorf("%d of %d decisions flip", r.Flipped, r.Decisions), macronode.ExitFailed)
	}
	return err
}

// Write tells each group in a line, with its newest example.
func Write(w io.Writer, flips []Flip) {
	if len(flips) == 0 {
		return
	}
	fmt.Fprintf(w, "\nCOUNT\tWAS\tBY\tWOULD BE\tBY\tFOR EXAMPLE\n")
	by := func(list []string) string {
		if len(list) == 0 {
			return "(no policy permits it)"
		}
		return strings.Join(list, ", ")
	}
	for _, f := range flips {
		now, notes := f.Now, ""
		if len(f.Dropped)+len(f.Added) > 0 {
			now = strings.TrimSpace(now + " " + signed("-", f.Dropped) + signed("+", f.Added))
		}
		if f.Message != "" {
			notes += ": " + f.Message
		}
		if f.Uncertain > 0 {
			notes += fmt.Sprintf(" (%d uncertain: the record is coarse there)", f.Uncertain)
		}
		for _, e := range f.Examples[max(0, len(f.Examples)-1):] {
			notes = strings.TrimSpace(e.Request.Tenant+" "+e.Request.Action+" "+e.Request.Resource) + notes
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", f.Count, f.Was, by(f.WasBy), now, by(f.NowBy), notes)
	}
}

func signed(sign string, list []string) string {
	var out strings.Builder
	for _, s := range list {
		out.WriteString(sign + s + " ")
	}
	return out.String()
}
