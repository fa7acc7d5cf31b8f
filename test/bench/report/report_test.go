// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	rates := func(p99 float64, list ...float64) (rs []Result) {
		for _, r := range list {
			rs = append(rs, Result{Rate: r, P50: 1, P99: p99})
		}
		return rs
	}
	var s Section
	s.Compare("1 KiB", 1024, rates(2, 300, 100, 290), []Peer{{"MinIO", rates(4, 100, 99, 1000), 3, true}, {"bare", rates(1, 580), 0.7, false}, {"none", nil, 1, true}})
	if len(s.Rows) != 3 || len(s.Runs) != 3 || len(s.Goals) != 3 {
		t.Fatalf("%d rows, %d runs, %d goals", len(s.Rows), len(s.Runs), len(s.Goals))
	}
	if got := s.Rows[0][2] + " " + s.Rows[0][3]; got != "290 100-300" {
		t.Errorf("median and range: %q", got)
	}
	if got := strings.Join(s.Rows[1][7:], "|"); got != "2.90×, p99 0.50×|≥ 3×, p99 ≤ 1×|**missed**, p99 met" {
		t.Errorf("MinIO: %s", got)
	}
	if got := strings.Join(s.Rows[2][7:], "|"); got != "0.50×|≥ 0.7×|**missed**" {
		t.Errorf("bare: %s", got)
	}
	if s.Missed() != 2 {
		t.Errorf("%d goals missed, want 2", s.Missed())
	}
	if m := StatOf([]float64{4, 1, 3, 2}, func(f float64) float64 { return f }); m != (Stat{2.5, 1, 4}) {
		t.Errorf("of an even number: %+v", m)
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	doc, raw := filepath.Join(dir, "docs", "p.md"), filepath.Join(dir, "r.json")
	get := &Section{Name: "get", Title: "GET", Head: []string{"a"}, Rows: [][]string{{"first"}}}
	put := &Section{Name: "put", Title: "PUT", Head: []string{"a"}, Rows: [][]string{{"other"}}}
	if err := Write(doc, raw, []*Section{get, put}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	by := "Words by hand.\n" + string(text) + "More words.\n"
	if err := os.WriteFile(doc, []byte(by), 0o600); err != nil {
		t.Fatal(err)
	}
	get.Rows[0][0] = "second"
	if err := Write(doc, raw, []*Section{get}); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != strings.Replace(by, "first", "second", 1) {
		t.Errorf("more than the section changed:\n%s", again)
	}
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	var back []Section
	if err := json.Unmarshal(data, &back); err != nil || len(back) != 1 || back[0].Rows[0][0] != "second" {
		t.Errorf("JSON: %v: %s", err, data)
	}
	begin, _ := markers("get")
	if _, err := replaceSection("x\n"+begin+"y", "get", "z"); err == nil {
		t.Error("a marker without its end is taken")
	}
}
