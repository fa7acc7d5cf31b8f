// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/wall/policy"
)

// sources writes a policy of a few rules and two tests.
func sources(t *testing.T) (dir string) {
	m := &made{TB: t, dir: t.TempDir()}
	dir = m.dir
	m.write(filepath.Join(dir, "a.cedar"), `@id("ops") permit (principal in Tenant::"00000000000000000000000001", action in Action::"operate", resource);
@id("stop") forbid (principal, action == Action::"node:drain", resource) when { context.tls };
@id("more") permit (principal in Tenant::"00000000000000000000000001", action == Action::"node:drain", resource) when { context.bytes < 100 };
@id("never") forbid (principal, action == Action::"node:reload", resource) when { context.hour > 23 };
`)
	m.write(filepath.Join(dir, "tests.toml"), `[[test]]
name = "stops"
tenant = "system"
action = "node:drain"
resource = "node/"
expect = "deny"
[[test]]
name = "reloads"
tenant = "system"
action = "node:reload"
resource = "node/"
expect = "allow"
`)
	return dir
}

func TestPolicyCoverage(t *testing.T) {
	dir := sources(t)
	run := func(code int, args ...string) result {
		t.Helper()
		r := invoke(t, "", append([]string{"policy", "test", dir}, args...)...)
		if r.code != code {
			t.Errorf("%v: exit %d, want %d: %s%s", args, r.code, code, r.out, r.err)
		}
		return r
	}
	var doc testedPolicy
	if err := json.Unmarshal([]byte(run(0, "--coverage", "--output", "json").out), &doc); err != nil {
		t.Fatal(err)
	}
	type counts struct{ decided, matched, missed int }
	want := map[string]counts{"ops": {1, 1, 0}, "stop": {1, 0, 0}, "more": {0, 1, 0}, "never": {0, 0, 1}}
	for _, p := range doc.Coverage.Policies {
		if got := (counts{len(p.DecidedBy), len(p.MatchedBy), len(p.Missed)}); got != want[p.ID] {
			t.Errorf("%s: %+v, want %+v", p.ID, got, want[p.ID])
		}
	}
	if doc.Coverage.Percent != 50 || doc.Coverage.Decided != 2 || len(doc.Coverage.Policies) != 4 {
		t.Errorf("%+v", doc.Coverage)
	}
	if r := run(0, "--min", "50"); !strings.Contains(r.out, "2 of 4 policies decided a test: 50%") {
		t.Errorf("%s", r.out)
	}
	if r := run(1, "--min", "51"); !strings.Contains(r.err, "51% are wanted") {
		t.Errorf("%s", r.err)
	}
	run(2, "--min", "101")
	if strings.Contains(run(0).out, "POLICY") {
		t.Error("coverage is told unasked")
	}
}

func TestPolicyLint(t *testing.T) {
	dir := sources(t)
	var found []policy.Finding
	r := invoke(t, "", "policy", "lint", dir, "--output", "json")
	if err := json.Unmarshal([]byte(r.out), &found); r.code != 1 || err != nil {
		t.Fatalf("%d %v", r.code, err)
	}
	checks := map[string]string{}
	for _, f := range found {
		checks[f.Check+" "+f.Policy] = f.Level
	}
	for check, level := range map[string]string{"unreachable never": "warning", "reads-hour never": "note", "untested more": "note"} {
		if checks[check] != level {
			t.Errorf("%s: %q, want %q", check, checks[check], level)
		}
	}
	if r := invoke(t, "", "policy", "lint", dir, "--level", "warning"); r.code != 1 || strings.Contains(r.out, "note") || !strings.Contains(r.out, "a.cedar:4") {
		t.Errorf("warnings: %+v", r)
	}
	if r := invoke(t, "", "policy", "lint", dir, "--level", "all"); r.code != 2 {
		t.Errorf("an unknown level: %+v", r)
	}
}

func TestPolicyExplainFlags(t *testing.T) {
	dir := sources(t)
	explain := func(args ...string) result {
		return invoke(t, "", append([]string{"policy", "explain", dir}, args...)...)
	}
	drain := []string{"--tenant", "system", "--action", "node:drain", "--resource", "node/"}
	if r := explain(drain...); r.code != 0 || !strings.Contains(r.out, "stop forbids it") || strings.Count(r.out, "matched too") != 2 {
		t.Errorf("forbidden: %+v", r)
	}
	r := explain(append(drain, "--tls=false", "--bytes", "500")...)
	if r.code != 0 || !strings.HasPrefix(r.out, "allow") || !strings.Contains(r.out, "would forbid") || !strings.Contains(r.out, "context.tls") {
		t.Errorf("allowed, and what would have forbidden it: %+v", r)
	}
	if r := explain("--principal", "anonymous", "--action", "node:drain", "--resource", "node/", "--tls=false"); r.code != 0 || !strings.HasPrefix(r.out, "deny") || !strings.Contains(r.out, "would permit") {
		t.Errorf("nobody permits: %+v", r)
	}
	if r := explain(append(drain, "--request", "-")...); r.code != 2 {
		t.Errorf("flags and a document: %+v", r)
	}
}
