// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/docs"
)

// Every alert of the table prints its section: a page at night needs no network.
func TestRunbookPrintsEveryAlert(t *testing.T) {
	alerts := docs.Alerts(docs.Runbook())
	if len(alerts) < 10 {
		t.Fatalf("%d alerts in the runbook", len(alerts))
	}
	for _, al := range alerts {
		r := invoke(t, "", "runbook", al.Name, "--output", "json")
		var got struct{ Alert, Title, Text, Severity string }
		if err := json.Unmarshal([]byte(r.out), &got); r.code != 0 || err != nil {
			t.Fatalf("%s: exit %d, %v: %s", al.Name, r.code, err, r.err)
		}
		if got.Alert != al.Name || docs.Anchor(got.Title) != al.Anchor || len(got.Text) < 100 {
			t.Errorf("%s printed the section %q of %d bytes", al.Name, got.Title, len(got.Text))
		}
	}
	if r := invoke(t, "", "runbook", "macronodenotready"); r.code != 0 || !strings.Contains(r.out, "SEV-1") || !strings.Contains(r.out, "won't become ready") {
		t.Errorf("a name in lower case: exit %d: %.200s", r.code, r.out)
	}
	if r := invoke(t, "", "runbook", "disk"); r.code != macronode.ExitUsage || !strings.Contains(r.err, "MacronodeDiskFull") {
		t.Errorf("an unknown alert: exit %d: %s", r.code, r.err)
	}
	if r := invoke(t, "", "runbook", "all"); r.code != 0 || r.out != docs.Runbook() {
		t.Errorf("all: exit %d, %d bytes of %d", r.code, len(r.out), len(docs.Runbook()))
	}
}
