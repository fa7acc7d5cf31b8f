// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
)

// made is a data directory, and a place for other files.
type made struct {
	testing.TB
	dir, files string
	bundle     string
	recovery   string
}

func initialised(t testing.TB) *made {
	t.Helper()
	m := &made{TB: t, dir: filepath.Join(t.TempDir(), "data"), files: t.TempDir()}
	m.bundle, m.recovery = filepath.Join(m.dir, datadir.BundleName), m.file("recovery.key")
	r := m.ok("init", "--tenant", "acme", "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--recovery-out", m.recovery)
	for _, said := range []string{m.bundle, m.recovery, "tenant acme", "macronode run --config"} {
		if !strings.Contains(r.out, said) {
			t.Errorf("init does not say %q:\n%s", said, r.out)
		}
	}
	return m
}

func (m *made) file(name string) string { return filepath.Join(m.files, name) }

// run adds --data to the command line.
func (m *made) run(args ...string) result {
	m.Helper()
	return invoke(m, "", append(args, "--data", m.dir)...)
}

func (m *made) ok(args ...string) result {
	m.Helper()
	r := m.run(args...)
	if r.code != 0 {
		m.Fatalf("macronode %v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r
}

// fails expects an exit code and a text in standard error.
func (m *made) fails(code int, wants string, args ...string) {
	m.Helper()
	r := m.run(args...)
	if r.code != code || !strings.Contains(r.err, wants) {
		m.Errorf("macronode %v: exit %d, want %d and %q\n%s%s", args, r.code, code, wants, r.out, r.err)
	}
}

// document decodes a command's JSON.
func (m *made) document(to any, args ...string) {
	m.Helper()
	r := m.ok(append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(r.out), to); err != nil {
		m.Fatalf("macronode %v: %v\n%s", args, err, r.out)
	}
}

func (m *made) read(path string) string {
	m.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	return string(text)
}

func (m *made) write(path, text string) string {
	m.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.Fatal(err)
	}
	return path
}

// variant is a copy of the bundle, and of its signature, with parts replaced.
func (m *made) variant(name string, pairs ...string) string {
	m.Helper()
	text := m.read(m.bundle)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			m.Fatalf("the bundle does not hold %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	m.write(m.file(name+".sig"), m.read(m.bundle+".sig"))
	return m.write(m.file(name), text)
}

func TestInit(t *testing.T) {
	m := initialised(t)
	for name, mode := range map[string]os.FileMode{".": 0o700, "root.key": 0o600, "trust.json": 0o600, "operator.cap": 0o600, "tenant.cap": 0o600, "keystore": 0o700} {
		info, err := os.Stat(filepath.Join(m.dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %04o", name, info.Mode(), err, mode)
		}
	}
	m.fails(3, "is not empty", "init")
	m.fails(3, "is not empty", "init", "--tenant", "acme")
	m.dir = m.file("")
	m.fails(3, "is not empty", "init")
	m.dir = filepath.Join(t.TempDir(), "other")
	m.fails(2, "is there already", "init", "--recovery-out", m.recovery)
	var r struct {
		Dir    string `json:"dir"`
		NodeID string `json:"node_id"`
	}
	m.document(&r, "init", "--tls", "none")
	if r.Dir != m.dir || !strings.HasPrefix(r.NodeID, "b3:") {
		t.Errorf("%+v", r)
	}
}

func TestBundles(t *testing.T) {
	m := initialised(t)
	m.ok("bundle", "verify", m.bundle)
	hash := strings.TrimSpace(invoke(t, "", "bundle", "hash", m.bundle).out)
	if !strings.Contains(m.read(m.bundle), `bundle_hash = "`+hash+`"`) {
		t.Errorf("hash %q is not the bundle's", hash)
	}
	var shown struct {
		Version    int      `json:"version"`
		Hash       string   `json:"bundle_hash"`
		Document   string   `json:"document_hash"`
		Signatures []string `json:"signatures"`
	}
	show := func(file string) {
		t.Helper()
		r := invoke(t, "", "bundle", "show", file, "--output", "json")
		if err := json.Unmarshal([]byte(r.out), &shown); err != nil {
			t.Fatalf("%v\n%s%s", err, r.out, r.err)
		}
	}
	if show(m.bundle); shown.Version != 1 || shown.Hash != hash || shown.Document != hash || len(shown.Signatures) != 2 {
		t.Errorf("%+v", shown)
	}

	changed := m.variant("changed.toml", "[server]\n", "[server]\nmax_inflight = 99\n")
	if show(changed); shown.Hash == shown.Document {
		t.Errorf("a changed bundle: %+v", shown)
	}
	m.fails(4, "wrong hash", "bundle", "verify", changed)
	var signed datadir.SignedBundle
	m.document(&signed, "bundle", "sign", changed, "--bump")
	if signed.Version != 2 {
		t.Errorf("%+v", signed)
	}
	m.ok("bundle", "verify", changed)
	if m.document(&signed, "bundle", "sign", changed, "--bump"); signed.Version != 3 {
		t.Errorf("a second bump: %+v", signed)
	}

	bad := m.variant("bad.toml", "bind =", "bnid =")
	before := m.read(bad)
	m.fails(3, "did you mean", "bundle", "sign", bad, "--bump")
	if m.read(bad) != before {
		t.Error("a refused sign changed the file")
	}
	m.fails(2, "want KMS:key/NAME", "bundle", "sign", changed, "--key", "ops-release")
	m.fails(1, "nobody", "bundle", "sign", changed, "--key", "KMS:key/nobody")
	m.fails(1, "purpose", "bundle", "sign", changed, "--key", "KMS:key/tls")
	m.fails(3, "no such file", "bundle", "verify", m.file("none.toml"))
}

// TestTrust: hash, signature, signer and version end with 4, keys and values
// with 3, and keys and values come first.
func TestTrust(t *testing.T) {
	m := initialised(t)
	other := initialised(t)
	good := m.variant("good.toml", "[server]\n", "[server]\nmax_inflight = 99\n")
	m.ok("bundle", "sign", good, "--bump")
	if r := m.ok("config", "validate", good); !strings.Contains(r.out, "version 2") || !strings.Contains(r.out, "ops-release") {
		t.Errorf("validate: %s", r.out)
	}
	stranger := m.variant("stranger.toml", "version = 1", "version = 5")
	other.ok("bundle", "sign", stranger)
	unsigned := m.variant("unsigned.toml")
	if err := os.Remove(unsigned + ".sig"); err != nil {
		t.Fatal(err)
	}
	m.ok("kms", "create", "another", "--alg", "ed25519+ml-dsa-65", "--purpose", "bundle")
	unknown := m.variant("unknown.toml", "version = 1", "version = 5")
	m.ok("bundle", "sign", unknown, "--key", "KMS:key/another")
	for file, want := range map[string]struct {
		code int
		text string
	}{
		stranger: {4, "sign"},
		unknown:  {4, "sign"},
		m.variant("wronghash.toml", "version = 1", "version = 9"):                   {4, "wrong hash"},
		m.variant("badkey.toml", "bind =", "bnid ="):                                {3, "did you mean"},
		m.variant("badvalue.toml", "cache_ttl_ms = 250", "cache_ttl_ms = \"long\""): {3, "cache_ttl_ms"},
		m.variant("nottoml.toml", "[server]", "[server"):                            {3, "nottoml.toml"},
		m.write(m.file("broken.toml"), ""):                                          {3, "meta"},
		m.variant("badboth.toml", "version = 1", "version = 9", "bind =", "bnid ="): {3, "did you mean"},
	} {
		m.fails(want.code, want.text, "config", "validate", file)
		m.fails(want.code, want.text, "config", "print", file)
		m.fails(want.code, want.text, "bundle", "verify", file)
		m.fails(want.code, want.text, "run", "--config", file)
	}
	m.fails(4, "signature", "config", "validate", unsigned)
	if !buildinfo.BuiltIn().Amnesia {
		m.fails(3, "amnesia", "config", "validate", m.variant("feature.toml", "[policy]", "[amnesia]\nenabled = true\n[policy]"))
	}

	// Version: as if version 2 had been applied.
	l, err := datadir.CheckBundle(good, m.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := datadir.Open(disk.Real(), m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetApplied(l.Applied()); err != nil {
		t.Fatal(err)
	}
	m.ok("config", "validate", good)
	m.fails(4, "below the last applied", "config", "validate", m.bundle)
	twin := m.variant("twin.toml", "version = 1", "version = 2")
	m.ok("bundle", "sign", twin)
	m.fails(4, "another hash", "config", "validate", twin)
	old, err := datadir.CheckBundle(m.bundle, "", "")
	if err != nil {
		t.Fatal(err)
	}
	m.ok("config", "validate", m.bundle, "--allow-rollback", old.Applied().String())
	m.fails(4, "", "config", "validate", m.bundle, "--allow-rollback", l.Applied().String())
	m.fails(4, "", "config", "validate", m.bundle, "--allow-rollback", "nonsense")
	// A bump goes above what was applied, not only above the file.
	var signed datadir.SignedBundle
	if m.document(&signed, "bundle", "sign", m.variant("next.toml"), "--bump"); signed.Version != 3 {
		t.Errorf("%+v", signed)
	}
	m.ok("config", "validate", m.file("next.toml"))
	m.write(filepath.Join(m.dir, datadir.AppliedName), "{")
	m.fails(4, datadir.AppliedName, "config", "validate", good)
}

func TestConfig(t *testing.T) {
	m := initialised(t)
	if r := m.ok("config", "print", m.bundle); !strings.Contains(r.out, "bind = \"127.0.0.1:0\"") || !strings.Contains(r.out, "default") {
		t.Errorf("print:\n%s", r.out)
	}
	var printed struct {
		Values []struct{ Key, Origin string } `json:"values"`
	}
	if m.document(&printed, "config", "print", m.bundle); len(printed.Values) < 50 {
		t.Errorf("print --output json has %d values", len(printed.Values))
	}
	if r := invoke(t, "", "config", "validate", m.bundle); r.code != 0 || !strings.Contains(r.out, "signature not checked") {
		t.Errorf("%+v", r)
	}
	other := m.variant("other.toml", "[server]\n", "[server]\nmax_inflight = 99\n", "bind = \"127.0.0.1:0\"", "bind = \"127.0.0.1:1\"")
	r := invoke(t, "", "config", "diff", m.bundle, other)
	if r.code != 0 || !strings.Contains(r.out, "server.max_inflight") || !strings.Contains(r.out, "(rebind)") {
		t.Errorf("diff: %+v", r)
	}
	if r := invoke(t, "", "config", "diff", m.bundle, m.bundle, "--output", "json"); r.code != 0 || strings.TrimSpace(r.out) != "[]" {
		t.Errorf("no difference: %+v", r)
	}
}

func TestHeldDirectory(t *testing.T) {
	m := initialised(t)
	lock, err := disk.Real().LockDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.fails(10, "", "run", "--config", m.bundle)
	m.fails(10, "", "kms", "restore-root", "--in", m.recovery)
	m.fails(10, "admin.sock", "kms", "list") // no node answers there
	m.fails(10, "holds", "kms", "import", "x", "--in", m.recovery)
	m.ok("kms", "export-public", "audit")      // needs no lock
	m.ok("config", "validate", m.bundle)       // nor does this
	m.ok("bundle", "sign", m.bundle, "--bump") // the keys are read beside the holder
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	m.ok("kms", "list")
}

func TestCheck(t *testing.T) {
	m := initialised(t)
	if r := m.run("check"); r.code != 0 || !strings.Contains(r.out, "policy bundle") {
		t.Errorf("check: %+v", r)
	}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := m.run("check"); r.code == 0 || !strings.Contains(r.out, "chmod 0700") {
		t.Errorf("an open directory: %+v", r)
	}
	if err := os.Chmod(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.write(m.bundle, strings.Replace(m.read(m.bundle), "version = 1", "version = 7", 1))
	if r := m.run("check"); r.code != 4 || !strings.Contains(r.out, "macronode bundle sign") {
		t.Errorf("a bundle changed after signing: %+v", r)
	}
}
