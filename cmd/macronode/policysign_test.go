// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/bundle"
)

// anchor makes a signing key and returns it as a trust anchor.
func (m *made) anchor(name, alg string) bundle.Anchor {
	m.Helper()
	m.ok("kms", "create", name, "--alg", alg, "--purpose", "bundle")
	a := bundle.Anchor{Name: name, Version: 1}
	key := m.keys()[name]
	for _, p := range key.Newest().Public {
		switch p.Alg {
		case bundle.AlgEd25519:
			a.Ed25519 = p.Raw
		case bundle.AlgMLDSA65:
			a.MLDSA65 = p.Raw
		}
	}
	return a
}

// TestPolicySigners: two of three must sign, each with its own command; a hybrid
// one counts only with both halves, and nobody counts twice.
func TestPolicySigners(t *testing.T) {
	m := initialised(t)
	src, out := m.file("policy"), m.file("p.json")
	if r := invoke(t, "", "policy", "defaults", src); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	trustFile := filepath.Join(m.dir, "trust.json")
	trust, err := bundle.ParseTrust([]byte(m.read(trustFile)))
	if err != nil {
		t.Fatal(err)
	}
	trust.Policy.Threshold = 2
	trust.Policy.Anchors = append(trust.Policy.Anchors, m.anchor("second", "ed25519+ml-dsa-65"), m.anchor("third", "ed25519"))
	text, err := trust.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.write(trustFile, string(text))
	m.ok("kms", "create", "stranger", "--alg", "ed25519", "--purpose", "bundle")

	m.ok("policy", "build", src, "-o", out, "--version", "2")
	m.fails(4, "1 of 3 anchors signed, 2 needed", "policy", "verify", out)
	var done signedPolicy
	m.document(&done, "policy", "sign", out, "-o", out, "--key", "KMS:key/policy")
	if done.Enough || len(done.Signed) != 1 {
		t.Errorf("one signer signed twice: %+v", done)
	}
	m.document(&done, "policy", "sign", out, "-o", out, "--key", "KMS:key/stranger")
	if done.Enough || len(done.Signed) != 1 || done.Threshold != 2 {
		t.Errorf("a stranger signed: %+v", done)
	}
	hash := done.BundleHash
	m.document(&done, "policy", "sign", out, "-o", out, "--key", "KMS:key/second", "--install", "policy-bundle@v2")
	if !done.Enough || len(done.Signed) != 2 || done.BundleHash != hash {
		t.Errorf("two signed: %+v", done)
	}
	if r := m.ok("policy", "verify", out); !strings.Contains(r.out, "policy#v1, second#v1") || !strings.Contains(r.out, "enough") {
		t.Errorf("verify: %s", r.out)
	}

	// Half of the hybrid anchor's signature does not count.
	env, err := bundle.Decode([]byte(m.read(out)))
	if err != nil {
		t.Fatal(err)
	}
	var kept []bundle.Signature
	for _, s := range env.Signatures {
		if s.KeyID != "second#v1/ml-dsa-65" {
			kept = append(kept, s)
		}
	}
	env.Signatures = kept
	half, err := env.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.write(out, string(half))
	m.fails(4, "hybrid", "policy", "verify", out)
	m.document(&done, "policy", "sign", out, "-o", out, "--key", "KMS:key/third")
	if !done.Enough || len(done.Signed) != 2 {
		t.Errorf("the third signed: %+v", done)
	}
}

// TestPolicyFollows: a bundle says which one it follows, older content comes back
// as a new version, and the mark is nobody's to write.
func TestPolicyFollows(t *testing.T) {
	m := initialised(t)
	src := m.file("policy")
	if r := invoke(t, "", "policy", "defaults", src); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	var first, again builtPolicy
	m.document(&first, "policy", "build", src, "-o", m.file("2.json"))
	if first.Version != 2 || first.Previous != m.pin() {
		t.Errorf("the first build: %+v", first)
	}
	m.document(&again, "policy", "build", m.file("2.json"), "-o", m.file("7.json"), "--version", "7", "--previous", first.BundleHash)
	if again.Version != 7 || again.Previous != first.BundleHash || again.BundleHash == first.BundleHash || again.Tests != first.Tests {
		t.Errorf("issued again: %+v", again)
	}
	content := func(file string) string {
		env, err := bundle.Decode([]byte(m.read(file)))
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(env.Payload, &doc); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"version", "issued_at", "previous"} {
			delete(doc, k)
		}
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if content(m.file("2.json")) != content(m.file("7.json")) {
		t.Error("issuing again changed the content")
	}
	m.fails(2, "node's own", "kms", "put-object", "policy-mark", "--in", m.file("2.json"))
}
