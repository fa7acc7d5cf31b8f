// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSections(t *testing.T) {
	text := "# A b\none\n## It won't (do)\ntwo\n```sh\n# not one\n```\n# C\nthree\n"
	got := Sections(text)
	if len(got) != 3 || got[0].Anchor != "a-b" || got[1].Anchor != "it-wont-do" || got[2].Title != "C" {
		t.Fatalf("sections: %+v", got)
	}
	if want := "# A b\none\n## It won't (do)\ntwo\n```sh\n# not one\n```\n"; got[0].Text != want || !strings.HasPrefix(want, got[0].Text[:5]) {
		t.Errorf("a section is %q, want those below it too", got[0].Text)
	}
	if want := "## It won't (do)\ntwo\n```sh\n# not one\n```\n"; got[1].Text != want {
		t.Errorf("a section is %q, want %q", got[1].Text, want)
	}
}

// The table of alerts, the alert rules and the headings name each other. A rule
// that leads nowhere fails here, not at night.
func TestAlertsLeadSomewhere(t *testing.T) {
	anchors := map[string]bool{}
	for _, s := range Sections(Runbook()) {
		if anchors[s.Anchor] {
			t.Errorf("two sections are linked to as #%s", s.Anchor)
		}
		anchors[s.Anchor] = true
	}
	rules, err := os.ReadFile("../deploy/prometheus/macronode.alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	type rule struct{ name, severity, anchor string }
	var want []rule
	for _, m := range regexp.MustCompile(`(?s)- alert: (\S+)\n.*?severity: sev(\d)\n.*?runbook_url: \S+/docs/runbook\.md#(\S+)`).FindAllStringSubmatch(string(rules), -1) {
		want = append(want, rule{m[1], "SEV-" + m[2], m[3]})
	}
	if n := strings.Count(string(rules), "- alert:"); n != len(want) || n == 0 {
		t.Fatalf("%d alerts, of which %d have a severity and a link", n, len(want))
	}
	table := Alerts(Runbook())
	for _, r := range want {
		if !anchors[r.anchor] {
			t.Errorf("%s links to #%s, which is no section", r.name, r.anchor)
		}
		if !slices.ContainsFunc(table, func(a Alert) bool { return a.Name == r.name && a.Anchor == r.anchor }) {
			t.Errorf("%s has no row in the runbook's table of alerts that leads to #%s", r.name, r.anchor)
		}
	}
	for _, a := range table {
		if !slices.ContainsFunc(want, func(r rule) bool { return r.name == a.Name && r.severity == a.Severity }) {
			t.Errorf("the table has %s as %s, and no rule says so", a.Name, a.Severity)
		}
	}
}
