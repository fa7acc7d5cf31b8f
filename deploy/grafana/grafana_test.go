// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package grafana_test holds the dashboards to metrics that exist and expressions
// that Prometheus accepts.
package grafana_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

type dashboard struct {
	UID    string
	Title  string
	Panels []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

func TestDashboards(t *testing.T) {
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) != 7 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	has := metrics(t)
	uids := map[string]string{}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboards\n    rules:\n")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if d.UID == "" || uids[d.UID] != "" || d.Title == "" || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q (also of %q), title %q, %d panels", f, d.UID, uids[d.UID], d.Title, len(d.Panels))
		}
		uids[d.UID] = f
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s: %q lies over %q", f, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			for i, target := range p.Targets {
				fmt.Fprintf(&rules, "      - record: d:%s_%d_%d\n        expr: >-\n          %s\n", strings.TrimSuffix(f, ".json"), p.ID, i,
					strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr))
				for _, name := range names(target.Expr) {
					if !has[name] {
						t.Errorf("%s, %q reads %s, which is no metric of the node", f, p.Title, name)
					}
				}
			}
		}
	}
	bin, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing; scripts/setup.sh installs it")
	}
	file := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), bin, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// names are the metrics and recorded series that an expression reads.
func names(expr string) []string {
	expr = regexp.MustCompile(`\{[^{}]*\}|\bby \([^)]*\)|"[^"]*"|\[[^\]]*\]`).ReplaceAllString(expr, "")
	var list []string
	for _, n := range regexp.MustCompile(`[a-z][a-zA-Z0-9_:]*_[a-z0-9_:]+`).FindAllString(expr, -1) {
		if n != "histogram_quantile" && n != "label_replace" {
			list = append(list, n)
		}
	}
	return list
}

// metrics are those of the reference, the runtime's own, and the recorded ones.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	has := map[string]bool{"process_resident_memory_bytes": true, "process_open_fds": true, "process_max_fds": true, "process_start_time_seconds": true,
		"process_cpu_seconds_total": true, "go_goroutines": true, "go_memstats_heap_inuse_bytes": true, "go_gc_duration_seconds_sum": true}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		has[m[1]] = true
		if m[2] == "histogram" {
			has[m[1]+"_bucket"], has[m[1]+"_count"], has[m[1]+"_sum"] = true, true, true
		}
	}
	if text, err = os.ReadFile("../prometheus/macronode.rules.yml"); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- record: (\S+)`).FindAllStringSubmatch(string(text), -1) {
		has[m[1]] = true
	}
	return has
}
