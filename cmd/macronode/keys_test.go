// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/datadir"
)

// keyList is what kms list --output json prints.
type keyList struct {
	Keys    []datadir.KeyInfo `json:"keys"`
	Objects []struct {
		Name    string `json:"name"`
		Version uint64 `json:"version"`
	} `json:"objects"`
}

func (m *made) keys() map[string]datadir.KeyInfo {
	m.Helper()
	var l keyList
	m.document(&l, "kms", "list")
	keys := map[string]datadir.KeyInfo{}
	for _, k := range l.Keys {
		keys[k.Name] = k
	}
	return keys
}

func TestKeys(t *testing.T) {
	m := initialised(t)
	for _, name := range []string{"ops-release", "policy", "node", "tls", "audit"} {
		if _, ok := m.keys()[name]; !ok {
			t.Errorf("a new directory has no key %q", name)
		}
	}
	m.ok("kms", "create", "webhook")
	m.ok("kms", "create", "webhook") // the same again
	if r := m.run("kms", "create", "webhook", "--alg", "ml-dsa-65"); r.code == 0 {
		t.Errorf("another key of the same name: %+v", r)
	}
	if r := m.ok("kms", "rotate", "webhook"); !strings.Contains(r.out, "v2") {
		t.Errorf("rotate: %s", r.out)
	}
	if k := m.keys()["webhook"]; k.Newest().Version != 2 || len(k.Versions) != 2 {
		t.Errorf("after a rotation: %+v", k)
	}
	m.fails(1, "nobody", "kms", "rotate", "nobody")

	// Public keys come without lock and root secret.
	if err := os.Rename(filepath.Join(m.dir, "root.key"), m.file("away")); err != nil {
		t.Fatal(err)
	}
	if r := m.ok("kms", "export-public", "webhook"); strings.Count(r.out, "BEGIN PUBLIC KEY") != 2 {
		t.Errorf("export-public: %s", r.out)
	}
	m.fails(1, "nobody", "kms", "export-public", "nobody")
	m.fails(3, "kms.root", "kms", "list")
	if err := os.Rename(m.file("away"), filepath.Join(m.dir, "root.key")); err != nil {
		t.Fatal(err)
	}
}

func TestImport(t *testing.T) {
	m := initialised(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := m.write(m.file("server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	m.ok("kms", "import", "server", "--alg", "ecdsa-p256", "--purpose", "tls", "--in", file)
	if r := m.ok("kms", "export-public", "server"); !strings.Contains(r.out, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))) {
		t.Errorf("the imported key has another public key:\n%s", r.out)
	}
	if r := m.run("kms", "import", "other", "--alg", "ed25519", "--in", file); r.code == 0 {
		t.Errorf("a P-256 key was imported as Ed25519: %+v", r)
	}
	if r := m.run("kms", "import", "garbage", "--in", m.write(m.file("garbage"), "no key")); r.code == 0 || strings.Contains(r.err, "no key in") {
		t.Errorf("garbage was imported, or is quoted: %+v", r)
	}
	m.fails(3, "no such file", "kms", "import", "none", "--in", m.file("none"))
	if _, ok := m.keys()["other"]; ok {
		t.Error("a refused import left a key")
	}
}

func TestPutObject(t *testing.T) {
	m := initialised(t)
	file := m.write(m.file("object"), "some bytes")
	if r := m.ok("kms", "put-object", "thing", "--in", file); !strings.Contains(r.out, "KMS:obj/thing@v1") {
		t.Errorf("put-object: %s", r.out)
	}
	m.write(file, "other bytes")
	if r := m.ok("kms", "put-object", "thing", "--in", file, "--version", "2"); !strings.Contains(r.out, "KMS:obj/thing@v2") {
		t.Errorf("put-object: %s", r.out)
	}
	m.write(file, "yet others")
	if r := m.run("kms", "put-object", "thing", "--in", file, "--version", "1"); r.code == 0 {
		t.Errorf("an older version was replaced: %+v", r)
	}
	var l keyList
	m.document(&l, "kms", "list")
	versions := 0
	for _, o := range l.Objects {
		if o.Name == "thing" {
			versions++
		}
	}
	if versions != 2 {
		t.Errorf("objects %+v", l.Objects)
	}
}

// TestLostRoot: the root key is gone, and the recovery export brings every key
// back under a new one.
func TestLostRoot(t *testing.T) {
	m := initialised(t)
	before := m.keys()
	later := m.file("later.key")
	m.ok("kms", "export-recovery", "--out", later)
	for _, file := range []string{m.recovery, later} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", file, info.Mode(), err)
		}
		if !strings.Contains(m.read(file), "kms restore-root") {
			t.Errorf("the export does not say what takes it:\n%s", m.read(file))
		}
	}
	rootKey := filepath.Join(m.dir, datadir.RootKeyName)
	lost := m.read(rootKey)
	if err := os.Remove(rootKey); err != nil {
		t.Fatal(err)
	}
	m.fails(3, "kms.root", "kms", "list")
	m.fails(3, "kms.root", "run", "--config", m.bundle)

	stranger := initialised(t)
	m.fails(1, "recovery export", "kms", "restore-root", "--in", stranger.recovery)
	m.fails(1, "recovery export", "kms", "restore-root", "--in", m.bundle)
	for _, file := range []string{m.recovery, later} {
		m.ok("kms", "restore-root", "--in", file)
		after := m.keys()
		for name, k := range before {
			was, _ := json.Marshal(k)
			if is, _ := json.Marshal(after[name]); string(is) != string(was) {
				t.Errorf("key %s after the restore: %s, was %s", name, is, was)
			}
		}
	}
	if m.read(rootKey) == lost {
		t.Error("the new root is the lost one")
	}
	m.write(rootKey, lost)
	m.fails(3, "kms.root", "kms", "list") // the old root opens it no more
}

func TestPolicies(t *testing.T) {
	m := initialised(t)
	src := m.file("policy")
	plain := func(args ...string) result { t.Helper(); return invoke(t, "", args...) }
	if r := plain("policy", "defaults", src); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := plain("policy", "defaults", src); r.code != 2 || !strings.Contains(r.err, "not empty") {
		t.Errorf("defaults over a policy: %+v", r)
	}
	if r := plain("policy", "test", src); r.code != 0 || !strings.Contains(r.out, "0 failed") {
		t.Errorf("the default policy's tests: %+v", r)
	}
	if r := plain("policy", "lint", src); r.code != 0 {
		t.Errorf("the default policy has findings: %+v", r)
	}
	out := m.file("policy.bundle.json")
	var built builtPolicy
	m.document(&built, "policy", "build", src, "-o", out, "--install", "policy-bundle@v2")
	if built.Version != 2 || built.Installed != "KMS:obj/policy-bundle@v2" || !strings.HasPrefix(built.BundleHash, "blake3:") || built.Tests == 0 {
		t.Errorf("build: %+v", built)
	}
	if r := m.ok("policy", "verify", out); !strings.Contains(r.out, built.BundleHash) {
		t.Errorf("verify: %s", r.out)
	}
	stranger := initialised(t)
	stranger.fails(4, "", "policy", "verify", out)
	m.fails(4, "", "policy", "verify", m.bundle)
	if r := plain("policy", "test", out); r.code != 0 {
		t.Errorf("test of a bundle: %+v", r)
	}

	request := `{"tenant":"system","action":"node:drain","resource":"node/"}`
	if r := invoke(t, request, "policy", "explain", out, "--request", "-"); r.code != 0 || !strings.Contains(strings.ToLower(r.out), "allow") && !strings.Contains(strings.ToLower(r.out), "permit") {
		t.Errorf("explain: %+v", r)
	}
	if r := invoke(t, "", "policy", "explain", src, "--request", m.write(m.file("request"), `{"tenat":"system"}`)); r.code != 3 || !strings.Contains(r.err, "tenat") {
		t.Errorf("explain of nonsense: %+v", r)
	}
	if r := plain("policy", "explain", src); r.code != 2 {
		t.Errorf("explain without a request: %+v", r)
	}

	// The config that pins it is accepted by check.
	m.write(m.bundle, strings.NewReplacer("policy-bundle@v1", "policy-bundle@v2", m.pin(), built.BundleHash).Replace(m.read(m.bundle)))
	m.ok("bundle", "sign", m.bundle, "--bump")
	if r := m.run("check"); strings.Contains(r.out, "ERROR") {
		t.Errorf("check: %+v", r)
	}

	// What fails its own tests, or does not parse, is not built.
	m.write(filepath.Join(src, "zz.cedar"), "forbid (principal, action, resource);\n")
	if r := plain("policy", "test", src); r.code != 1 || !strings.Contains(r.out, "FAILED") {
		t.Errorf("a policy that fails its tests: %+v", r)
	}
	m.fails(3, "", "policy", "build", src, "-o", m.file("no.json"))
	m.write(filepath.Join(src, "zz.cedar"), "permit (principal, action == Action::\"no:such\", resource);\n")
	m.fails(3, "zz.cedar", "policy", "build", src, "-o", m.file("no.json"))
	m.write(filepath.Join(src, "zz.cedar"), "permit (\n")
	m.fails(3, "zz.cedar", "policy", "build", src, "-o", m.file("no.json"))
	if _, err := os.Stat(m.file("no.json")); err == nil {
		t.Error("a refused build wrote a bundle")
	}
	m.fails(3, "no such file", "policy", "build", m.file("none"), "-o", m.file("no.json"))
}

// pin is the policy hash that the bundle pins.
func (m *made) pin() string {
	m.Helper()
	text := m.read(m.bundle)
	at := strings.LastIndex(text, "blake3:")
	return text[at : at+len("blake3:")+64]
}
