// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// tenantID returns a tenant's id.
func (n *node) tenantID(label string) string {
	n.t.Helper()
	var doc struct{ ID string }
	if err := json.Unmarshal([]byte(n.operate("tenant", "show", label, "--output", "json").must(n.t, 0).out), &doc); err != nil {
		n.t.Fatal(err)
	}
	return doc.ID
}

// install builds the policy in dir as version v while the node runs, pins it and
// reloads.
func (n *node) install(dir string, v int) {
	n.t.Helper()
	n.pin(dir, v)
	n.operate("node", "reload").must(n.t, 0)
}

// pin is install for a node that does not run.
func (n *node) pin(dir string, v int) {
	n.t.Helper()
	name := fmt.Sprintf("policy-bundle@v%d", v)
	out := n.macronode("policy", "build", dir, "-o", filepath.Join(n.t.TempDir(), "policy.json"), "--data", n.dir, "--install", name, "--output", "json").must(n.t, 0).out
	var built struct {
		BundleHash string `json:"bundle_hash"`
	}
	if err := json.Unmarshal([]byte(out), &built); err != nil {
		n.t.Fatal(err)
	}
	n.edit(func(text string) string {
		head, policy, _ := strings.Cut(text, "[policy]")
		policy = regexp.MustCompile(`policy-bundle@v\d+`).ReplaceAllString(policy, name)
		return head + "[policy]" + regexp.MustCompile(`(?m)^bundle_hash = "[^"]*"`).ReplaceAllString(policy, `bundle_hash = "`+built.BundleHash+`"`)
	})
}

// TestStrangers acts as a tenant with every right over its own data, who probes
// for another's: what is there answers as what is not.
func TestStrangers(t *testing.T) {
	n, header := startTwo(t)
	beta := strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
	secret := []byte(strings.Repeat("acme's own bytes ", 5000))
	there, missing := b3.Sum(secret).String(), b3.Sum([]byte("nobody's")).String()
	if resp, text := n.request("PUT", "/o/"+there, nil, strings.NewReader(string(secret))); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	corr := regexp.MustCompile(`[0-9a-f]{32}`)
	probe := func(method, addr string, h http.Header) string {
		header := http.Header{"Authorization": {"Bearer " + beta}}
		for k, v := range h {
			header[k] = v
		}
		resp, text := n.request(method, "/o/"+addr, header, nil)
		resp.Header.Del("Date")
		resp.Header.Del("X-Corr-Id")
		return fmt.Sprintln(resp.StatusCode, resp.Header) + corr.ReplaceAllString(string(text), "CORR")
	}
	for name, h := range map[string]http.Header{
		"plain": nil, "range": {"Range": {"bytes=0-1"}}, "beyond": {"Range": {"bytes=99999999-"}},
		"none match": {"If-None-Match": {`"` + there + `"`}}, "match": {"If-Match": {`"` + missing + `"`}},
	} {
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			a, b := probe(method, there, h), probe(method, missing, h)
			if a != b || !strings.HasPrefix(a, "404 ") {
				t.Errorf("%s %s: there %s, not there %s", method, name, a, b)
			}
		}
	}
	if resp, text := n.request("GET", "/v1/objects", http.Header{"Authorization": {"Bearer " + beta}}, nil); resp.StatusCode != 200 || strings.Contains(string(text), "b3:") {
		t.Errorf("the list: %d %s", resp.StatusCode, text)
	}
	// A first put of bytes that another tenant holds is a first put.
	resp, text := n.request("PUT", "/o/"+there, http.Header{"Authorization": {"Bearer " + beta}}, strings.NewReader(string(secret)))
	if resp.StatusCode != 201 || !strings.Contains(string(text), `"existed":false`) {
		t.Errorf("a first put: %d %s", resp.StatusCode, text)
	}
	if out := n.operate("tenant", "usage", "beta", "--output", "json").must(t, 0).out; !strings.Contains(out, fmt.Sprintf(`"stored_bytes": %d`, len(secret))) {
		t.Errorf("it is not charged in full: %s", out)
	}
	if probe("DELETE", there, nil); n.ronctl("stat", there).code != 0 {
		t.Error("a tenant's delete took another's object")
	}
}

// TestForbidThatErrors: a rule that cannot be evaluated denies, though others
// permit.
func TestForbidThatErrors(t *testing.T) {
	n := startSigned(t, nil)
	n.ronctl("ls").must(t, 0)
	sources := filepath.Join(t.TempDir(), "policy")
	n.macronode("policy", "defaults", sources, "--tenant", n.tenantID("acme")).must(t, 0)
	// It passes strict validation, and overflows for every request with a body.
	rule := "@id(\"overflow\")\nforbid (principal, action == Action::\"object:put\", resource) when { context.bytes * 9223372036854775807 < 0 };\n"
	if err := os.WriteFile(filepath.Join(sources, "overflow.cedar"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(sources, "tests.toml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of the policy's own tests", len(tests))
	n.install(sources, 2)
	resp, text := n.request("POST", "/o", nil, strings.NewReader("a body of some bytes"))
	if resp.StatusCode != 403 || !strings.Contains(string(text), `"code":"denied"`) {
		t.Errorf("put: %d %s", resp.StatusCode, text)
	}
	if got := n.metric("policy_decisions_total", `decision="error"`); got == 0 {
		t.Error("the error is not counted")
	}
	n.ronctl("ls").must(t, 0)
}
