// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package prometheus_test holds the rules to the metrics, routes and runbook that
// they speak of.
package prometheus_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	bin, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing; scripts/setup.sh installs it")
	}
	if out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules has promtool check the rules and run their tests, and every alert must
// have one: a fire and a time at which it is silent.
func TestRules(t *testing.T) {
	promtool(t, "check", "rules", "macronode.rules.yml", "macronode.alerts.yml")
	files, err := filepath.Glob("*.tests.yml")
	if err != nil || len(files) != 2 {
		t.Fatalf("test files: %v, %v", files, err)
	}
	promtool(t, append([]string{"test", "rules"}, files...)...)
	var tests strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, m := range regexp.MustCompile(`- alert: (\S+)`).FindAllStringSubmatch(read(t, "macronode.alerts.yml"), -1) {
		fires := regexp.MustCompile(`alertname: ` + m[1] + `\n +exp_alerts:\n`)
		if !fires.MatchString(tests.String()) {
			t.Errorf("no test sees %s fire", m[1])
		}
		if n := strings.Count(tests.String(), "alertname: "+m[1]); n < 2 {
			t.Errorf("no test sees %s silent", m[1])
		}
	}
}

// TestMetricsExist holds the rules to metrics that the node has.
func TestMetricsExist(t *testing.T) {
	has := map[string]bool{"up": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		has[m[1]] = true
		if m[2] == "histogram" {
			has[m[1]+"_bucket"], has[m[1]+"_count"], has[m[1]+"_sum"] = true, true, true
		}
	}
	for _, f := range []string{"macronode.rules.yml", "macronode.alerts.yml"} {
		text := regexp.MustCompile(`\{[^{}]*\}|\bby \([^)]*\)`).ReplaceAllString(exprs(t, f), "")
		text = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(text, "")
		for _, name := range regexp.MustCompile(`[a-z][a-z0-9_:]*_[a-z0-9_:]+`).FindAllString(text, -1) {
			if !has[name] && !strings.Contains(name, ":") && name != "histogram_quantile" && name != "label_replace" {
				t.Errorf("%s reads %s, which is no metric of the node", f, name)
			}
		}
	}
}

// TestTimedRoutes holds the pattern of routes that have no latency objective to
// those whose length is the caller's choice: streams and long-running ones.
func TestTimedRoutes(t *testing.T) {
	m := regexp.MustCompile(`route!~"([^"]+)"`).FindStringSubmatch(read(t, "macronode.rules.yml"))
	if m == nil {
		t.Fatal("no rule leaves routes out")
	}
	left := regexp.MustCompile("^(?:" + m[1] + ")$") // as Prometheus anchors it
	var route string
	lines := bufio.NewScanner(strings.NewReader(read(t, "../../test/testdata/routes.golden")))
	for lines.Scan() {
		line := lines.Text()
		flags, isFlags := strings.CutPrefix(line, "  flags")
		switch {
		case line != "" && line[0] != ' ':
			route = line
		case isFlags:
			long := strings.Contains(flags, "streaming") || strings.Contains(flags, "long-running")
			if long && !left.MatchString(route) {
				t.Errorf("%s is streaming or long-running, and in the latency objective", route)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exprs is a rule file's expressions, a line each.
func exprs(t *testing.T, file string) string {
	var b strings.Builder
	for _, m := range regexp.MustCompile(`expr: >-\n +(.*)\n`).FindAllStringSubmatch(read(t, file), -1) {
		b.WriteString(m[1] + "\n")
	}
	return b.String()
}
