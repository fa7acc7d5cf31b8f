// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/capability"
)

// code returns the status and code of a GET of the tenant's list with the given
// Authorization.
func (n *node) code(authorization string) (int, string) {
	n.t.Helper()
	resp, text := n.request("GET", "/v1/objects?limit=1", http.Header{"Authorization": {authorization}}, nil)
	var p struct{ Code string }
	if resp.StatusCode != 200 {
		if err := json.Unmarshal(text, &p); err != nil {
			n.t.Fatalf("%d %s: %v", resp.StatusCode, text, err)
		}
	}
	return resp.StatusCode, p.Code
}

// TestBadCapabilities shows every way in which a capability can be wrong to a
// node that runs, and what it says of each.
func TestBadCapabilities(t *testing.T) {
	n := startDev(t, t.TempDir())
	file, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(file))
	whole, err := capability.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	with := func(cs ...capability.Caveat) string {
		t.Helper()
		tok, err := whole.Attenuate(cs...)
		if err != nil {
			t.Fatal(err)
		}
		return tok.Text()
	}
	raw := func(b []byte) string { return capability.TextPrefix + base64.RawURLEncoding.EncodeToString(b) }
	narrow, err := whole.Attenuate(capability.OnActions("object:get"))
	if err != nil {
		t.Fatal(err)
	}
	forged := whole.CBOR()
	forged[len(forged)-1] ^= 1
	// The narrowed token's tag on the caveats of the whole one.
	widened := append(whole.CBOR()[:len(whole.CBOR())-capability.KeyBytes], narrow.CBOR()[len(narrow.CBOR())-capability.KeyBytes:]...)
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		token  string
		status int
		code   string
	}{
		"good":             {text, 200, ""},
		"narrowed, covers": {with(capability.OnActions("object:*"), capability.OnResources("object"), capability.ByMethods("GET"), capability.ConfinedTo("svc-storage"), capability.ExpiresAt(now+60)), 200, ""},
		"forged":           {raw(forged), 401, "forged"},
		"widened":          {raw(widened), 401, "forged"},
		"expired":          {with(capability.ExpiresAt(now - 3600)), 401, "expired"},
		"not yet valid":    {with(capability.NotBefore(now + 3600)), 401, "not_yet_valid"},
		"another node":     {with(capability.ForNode("b3:" + strings.Repeat("0", 64))), 401, "audience"},
		"another network":  {with(capability.FromNets(netip.MustParsePrefix("192.0.2.0/24"))), 401, "address"},
		"another client":   {with(capability.WithClientCert([32]byte{1})), 401, "client_cert"},
		"unknown caveat":   {with(capability.Other(9999, []byte{1})), 403, "caveat"},
		"other action":     {with(capability.OnActions("object:get")), 403, "caveat"},
		"other resource":   {with(capability.OnResources("object/b3:00")), 403, "caveat"},
		"other method":     {with(capability.ByMethods("PUT")), 403, "caveat"},
		"other service":    {with(capability.ConfinedTo("svc-mailbox")), 403, "caveat"},
		"amnesia":          {with(capability.InAmnesia()), 403, "caveat"},
		"other policy":     {with(capability.UnderPolicy([32]byte{1})), 403, "caveat"},
		"too few bytes":    {with(capability.AtMostBytes(3)), 413, "too_large"},
		"no rate":          {with(capability.AtRate(0, 1)), 429, "quota_rate"},
		"padding":          {text + "=", 401, "malformed"},
		"a byte more":      {raw(append(whole.CBOR(), 0)), 401, "malformed"},
		"a byte less":      {raw(whole.CBOR()[1:]), 401, "malformed"},
		"too long":         {raw(make([]byte, capability.MaxTokenBytes+1)), 401, "malformed"},
		"no token":         {"hello", 401, "malformed"},
	} {
		status, code := n.code("Bearer " + c.token)
		if status != c.status || code != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, code, c.status, c.code)
		}
	}
	if status, code := n.code("Basic " + text); status != 401 || code != "malformed" {
		t.Errorf("not a bearer token: %d %s", status, code)
	}
	if resp, _ := n.request("GET", "/v1/objects?cap="+text, nil, nil); resp.StatusCode != 400 {
		t.Errorf("a capability in the URL: %d", resp.StatusCode)
	}
	if strings.Contains(n.log.String(), capability.TextPrefix) {
		t.Error("the log holds a capability")
	}
}

// TestRevocation: revoking any id of a chain kills what descends from it and
// nothing else, at once and over a kill.
func TestRevocation(t *testing.T) {
	n := startDev(t, t.TempDir())
	mint := func() (root, token string) {
		t.Helper()
		var m struct {
			Token  string
			RootID string `json:"root_id"`
		}
		if err := json.Unmarshal([]byte(n.operate("cap", "mint", "--tenant", "dev", "--output", "json").must(t, 0).out), &m); err != nil {
			t.Fatal(err)
		}
		return m.RootID, m.Token
	}
	narrow := func(token string) (id, child string) {
		t.Helper()
		tok, err := capability.Parse(token)
		if err != nil {
			t.Fatal(err)
		}
		if tok, err = tok.Attenuate(capability.OnActions("object:*")); err != nil {
			t.Fatal(err)
		}
		return tok.LeafID().String(), tok.Text()
	}
	root1, parent1 := mint()
	_, child1 := narrow(parent1)
	_, parent2 := mint()
	leaf2, child2 := narrow(parent2)
	want := func(when string) {
		t.Helper()
		for name, c := range map[string]struct {
			token string
			code  string
		}{"revoked": {parent1, "revoked"}, "child of the revoked": {child1, "revoked"}, "parent of the revoked": {parent2, ""}, "revoked child": {child2, "revoked"}} {
			if _, code := n.code("Bearer " + c.token); code != c.code {
				t.Errorf("%s, %s: %q, want %q", when, name, code, c.code)
			}
		}
	}
	n.operate("cap", "revoke", root1).must(t, 0)
	n.operate("cap", "revoke", leaf2).must(t, 0)
	want("at once")
	n.kill()
	n.start()
	want("after kill -9")
}
