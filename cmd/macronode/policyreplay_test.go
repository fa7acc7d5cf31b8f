// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyReplay replays decisions offline: exit 0 where nothing flips, 1 where
// something does.
func TestPolicyReplay(t *testing.T) {
	m := initialised(t)
	src := m.file("policy")
	if r := invoke(t, "", "policy", "defaults", src); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	list := m.write(m.file("d.ndjson"), `{"ts_ms":1,"bundle_hash":"","request":{"tenant":"system","action":"node:drain","resource":"node/"},"decision":"allow","reasons":["operator"]}
{"ts_ms":2,"bundle_hash":"","request":{"principal":"anonymous","action":"node:drain","resource":"node/"},"decision":"deny"}
`)
	replay := func(args ...string) result { return invoke(t, "", append([]string{"policy", "replay"}, args...)...) }
	if r := replay("--decisions", list, "--candidate", src); r.code != 0 || !strings.Contains(r.out, "2 decisions, 2 the same") {
		t.Errorf("the same policy: %+v", r)
	}
	// Its own tests fail; it is looked at all the same.
	m.write(filepath.Join(src, "zz.cedar"), "@id(\"stop\") forbid (principal, action == Action::\"node:drain\", resource);\n")
	if r := replay("--decisions", list, "--candidate", src); r.code != 1 || !strings.Contains(r.out, "stop") || !strings.Contains(r.err, "flip") {
		t.Errorf("another one: %+v", r)
	}
	if r := replay("--decisions", list, "--candidate", src, "--allow-flips"); r.code != 0 {
		t.Errorf("flips that are allowed: %+v", r)
	}
	if r := replay("--decisions", filepath.Join(src, "zz.cedar"), "--candidate", src); r.code != 3 || !strings.Contains(r.err, "no decision") {
		t.Errorf("no decisions: %+v", r)
	}
	if r := replay("--candidate", src); r.code != 2 {
		t.Errorf("without decisions: %+v", r)
	}
}
