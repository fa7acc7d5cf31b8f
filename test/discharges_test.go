// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThirdParty plays all three sides with ronctl: who guards a capability, the
// third party, and the bearer, against a node that runs.
func TestThirdParty(t *testing.T) {
	n := startDev(t, t.TempDir())
	dir := t.TempDir()
	key, guarded := filepath.Join(dir, "sso.key"), filepath.Join(dir, "guarded.cap")
	if err := os.WriteFile(key, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(n.ronctl("cap", "third-party", "add", "--location", "https://sso.example/", "--key-id", "sso-1", "--key-file", key, "--actions", "object:*").must(t, 0).out)
	if err := os.WriteFile(guarded, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	var tickets []struct{ Ticket string }
	if err := json.Unmarshal([]byte(n.ronctl("cap", "tickets", "@"+guarded, "--output", "json").must(t, 0).out), &tickets); err != nil || len(tickets) != 1 {
		t.Fatalf("tickets: %v", err)
	}
	discharge := func(args ...string) string {
		t.Helper()
		args = append([]string{"cap", "discharge", "--ticket", tickets[0].Ticket, "--key-file", key}, args...)
		return strings.TrimSpace(n.ronctl(args...).must(t, 0).out)
	}
	bind := func(d string) string {
		t.Helper()
		return strings.TrimSpace(n.ronctl("cap", "bind", "--cap", "@"+guarded, d).must(t, 0).out)
	}
	free := discharge("--expires", "10m")
	for name, c := range map[string]struct {
		proof  string
		status int
		code   string
	}{
		"bound":              {bind(free), 200, ""},
		"missing":            {"", 401, "discharge"},
		"not bound":          {free, 401, "discharge"},
		"twice":              {bind(free) + "," + bind(free), 401, "discharge"},
		"no capability":      {"ron1_x", 401, "malformed"},
		"narrower":           {bind(discharge("--actions", "object:get")), 403, "caveat"},
		"beyond its network": {bind(discharge("--ip", "192.0.2.0/24")), 401, "address"},
	} {
		resp, text := n.request("GET", "/v1/objects?limit=1", http.Header{"Authorization": {"Bearer " + token}, "X-Ron-Discharge": {c.proof}}, nil)
		var p struct{ Code string }
		_ = json.Unmarshal(text, &p)
		if resp.StatusCode != c.status || p.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, resp.StatusCode, p.Code, c.status, c.code)
		}
	}
	// ronctl binds by itself, and a discharge can be revoked.
	n.ronctl("ls", "--cap", "@"+guarded, "--discharge", free).must(t, 0)
	n.ronctl("ls", "--cap", "@"+guarded).must(t, 6)
	if out := n.ronctl("cap", "mint", "--cap", "@"+guarded, "--discharge", free); out.code != 6 {
		t.Errorf("minting with it: exit %d", out.code)
	}
	n.operate("cap", "revoke", free).must(t, 0)
	n.ronctl("ls", "--cap", "@"+guarded, "--discharge", free).must(t, 6)
	n.ronctl("ls", "--cap", "@"+guarded, "--discharge", discharge()).must(t, 0)
}
