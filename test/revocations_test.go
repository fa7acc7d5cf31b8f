// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRevokeKeysAndTenants: all that a minting key made, and all that a tenant
// has, die at once and stay dead over a kill; what is minted afterwards is good.
func TestRevokeKeysAndTenants(t *testing.T) {
	n := startDev(t, t.TempDir())
	n.operate("tenant", "create", "acme").must(t, 0)
	mint := func(tenant string) string {
		t.Helper()
		return strings.TrimSpace(n.operate("cap", "mint", "--tenant", tenant).must(t, 0).out)
	}
	want := func(when string, codes map[string]string) {
		t.Helper()
		for token, code := range codes {
			if _, got := n.code("Bearer " + token); got != code {
				t.Errorf("%s: %q, want %q", when, got, code)
			}
		}
	}
	one, dev := mint("acme"), mint("dev")
	want("before", map[string]string{one: "denied", dev: ""}) // the policy of a development node lets dev alone in
	n.operate("cap", "revoke", "--tenant", "acme", "--kid", "v1").must(t, 0)
	two := mint("acme")
	want("by key", map[string]string{one: "revoked", two: "denied", dev: ""})
	n.operate("cap", "revoke", "--tenant", "acme").must(t, 0)
	dead := map[string]string{one: "revoked", two: "revoked", dev: ""}
	want("by tenant", dead)
	n.kill()
	n.start()
	want("after kill -9", dead)
	three := mint("acme")
	n.operate("cap", "revoke", "--tenant", "system").must(t, 1) // nobody could undo it
	dead[three] = "denied"
	want("after a refusal", dead)

	list := filepath.Join(t.TempDir(), "list")
	n.operate("cap", "revocations", "--export", list).must(t, 0)
	var out struct {
		NodeID      string `json:"node_id"`
		Revocations []struct{ KID string }
	}
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	_, version := n.request("GET", "/version", nil, nil)
	if err := json.Unmarshal(version, &out); err != nil {
		t.Fatal(err)
	}
	offline := func(args ...string) result {
		return command(t, []string{"RON_NODE=http://127.0.0.1:1"}, nil, "ronctl", append([]string{"cap", "revocations", "--verify"}, args...)...)
	}
	got := offline(list, "--node-id", out.NodeID, "--output", "json").must(t, 0).out
	if err := json.Unmarshal([]byte(got), &out); err != nil || len(out.Revocations) != 2 {
		t.Errorf("verified: %s", got)
	}
	pem := filepath.Join(t.TempDir(), "node.pem")
	if err := os.WriteFile(pem, []byte(n.macronode("kms", "export-public", "node", "--data", n.dir).must(t, 0).out), 0o600); err != nil {
		t.Fatal(err)
	}
	offline(list, "--public-key", pem).must(t, 0)
	offline(list).must(t, 2)
	offline(list, "--node-id", "b3:"+strings.Repeat("0", 64)).must(t, 4)
	changed := filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), `"payload": "ey`, `"payload": "fy`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	offline(changed, "--node-id", out.NodeID).must(t, 4)
	if got := n.operate("cap", "revocations", "--import", list).must(t, 0).out; !strings.HasPrefix(got, "0 revocations") {
		t.Errorf("import: %s", got)
	}
	n.operate("cap", "revocations", "--import", changed).must(t, 1)
}
