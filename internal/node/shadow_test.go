// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/record"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
)

// keepPolicy keeps a policy in the keystore without pinning it, and returns its
// hash.
func keepPolicy(tb testing.TB, o Options, version int64, sources policy.Sources, expires time.Time) string {
	tb.Helper()
	payload, _, err := policy.Build(sources, policy.Meta{Version: version, Issued: time.Unix(1, 0), Expires: expires, Previous: policyPin(tb, o)})
	if err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("policy-bundle@v%d", version)
	if _, _, err := datadir.SignPolicy(tb.Context(), payload, o.Dir, "KMS:key/policy", name, slog.New(slog.DiscardHandler)); err != nil {
		tb.Fatal(err)
	}
	return policy.Hash(payload)
}

// acmeSources is the policy that production makes, with one more file.
func acmeSources(tb testing.TB, n *Node, more string) policy.Sources {
	tb.Helper()
	acme, err := n.operator(tb).Tenant(tb.Context(), "acme")
	if err != nil {
		tb.Fatal(err)
	}
	sources := policy.InitSources(acme.ID)
	delete(sources, "tests.toml")
	sources["more.cedar"] = []byte(more)
	return sources
}

func (n *Node) shadowStatus(tb testing.TB) (s shadow.Status) {
	tb.Helper()
	if err := n.operator(tb).JSON(tb.Context(), "GET", "/v1/admin/policy/shadow", "", nil, &s); err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestShadowPolicy takes a candidate through a reload, sees it flip without
// deciding, replays recorded decisions against it, and takes it out again.
func TestShadowPolicy(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	ctx, c := t.Context(), n.tenant(t)
	sources := acmeSources(t, n, "@id(\"closed\")\nforbid (principal, action == Action::\"object:get\", resource);\n")
	hash := keepPolicy(t, o, 2, sources, time.Time{})
	put, err := c.Put(ctx, strings.NewReader("some bytes"), client.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit(t, o, "[policy]\n", "[policy]\nshadow_kms = \"KMS:obj/policy-bundle@v2\"\nshadow_hash = \""+hash+"\"\n")
	if a, err := n.Reload(ctx); err != nil || len(a.RestartRequired) != 0 {
		t.Fatalf("%+v %v", a, err)
	}
	get := func() error { _, err := c.Stat(ctx, put.Addr); return err }
	if err := get(); err != nil {
		t.Errorf("the shadow policy decided: %v", err)
	}
	poll(t, "a flip", func() bool { return n.shadowStatus(t).Results[shadow.WouldDeny] > 0 })
	s := n.shadowStatus(t)
	if s.BundleHash != hash || s.Version != 2 || s.Flips[0].NowBy[0] != "closed" {
		t.Errorf("%+v", s)
	}
	if got := n.policy.Set().Version(); got != 1 {
		t.Errorf("in force is version %d", got)
	}

	// What was recorded names nothing that the policy did not look at.
	text, err := n.operator(t).Text(ctx, "/v1/admin/policy/decisions", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	list, err := record.Read(strings.NewReader(string(text)))
	if err != nil || len(list) == 0 {
		t.Fatalf("%d decisions: %v", len(list), err)
	}
	if strings.Contains(string(text), put.Addr.String()) || strings.Contains(string(text), "ron1_") {
		t.Error("an object's name or a token is among the decisions")
	}

	// The same sources as a candidate, through the API.
	files := map[string]string{}
	for name, b := range sources {
		files[name] = string(b)
	}
	var report record.Report
	if err := n.operator(t).JSON(ctx, "POST", "/v1/admin/policy/replay", "", map[string]any{"sources": files}, &report); err != nil || report.Flipped == 0 || report.Flips[0].NowBy[0] != "closed" {
		t.Errorf("replay of what the node keeps: %+v %v", report, err)
	}
	if err := n.operator(t).JSON(ctx, "POST", "/v1/admin/policy/replay", "", map[string]any{"sources": files, "decisions": list[:1]}, &report); err != nil || report.Decisions != 1 {
		t.Errorf("replay of one: %+v %v", report, err)
	}
	for name, body := range map[string]any{
		"no candidate":    map[string]any{},
		"two candidates":  map[string]any{"sources": files, "bundle": json.RawMessage("{}")},
		"no policy":       map[string]any{"sources": map[string]string{"a.cedar": "permit ("}},
		"not a bundle":    map[string]any{"bundle": json.RawMessage(`{"a":1}`)},
		"unknown members": map[string]any{"sources": files, "x": 1},
	} {
		if err := n.operator(t).JSON(ctx, "POST", "/v1/admin/policy/replay", "", body, nil); !refused(err, macronode.Invalid) && !refused(err, macronode.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.JSON(ctx, "GET", "/v1/admin/policy/decisions", "", nil, nil); !refused(err, macronode.Denied) {
		t.Errorf("a tenant reads the decisions: %v", err)
	}

	// Out again, and nothing is recorded any more.
	replace(t, o, "shadow_kms = \"KMS:obj/policy-bundle@v2\"\nshadow_hash = \""+hash+"\"\n", "record = 0\n")
	sign(t, o, true)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if s := n.shadowStatus(t); s.BundleHash != "" || s.Recorded != 0 {
		t.Errorf("after it was taken out: %+v", s)
	}
}

// TestBadShadow: a candidate that is not in order is refused at a reload, and
// keeps no node from starting.
func TestBadShadow(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	sources := acmeSources(t, n, "")
	hash := keepPolicy(t, o, 2, sources, time.Unix(1000, 0)) // it expired long ago
	edit(t, o, "[policy]\n", "[policy]\nshadow_kms = \"KMS:obj/policy-bundle@v2\"\nshadow_hash = \""+hash+"\"\n")
	if _, err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "shadow policy") || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired candidate: %v", err)
	}
	end(t, n)
	n = begin(t, o)
	if s := n.shadowStatus(t); s.BundleHash != "" {
		t.Errorf("%+v", s)
	}
	if log := fmt.Sprint(o.Stderr); !strings.Contains(log, "the shadow policy is refused") {
		t.Error("the log does not say so")
	}
}
