// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

const (
	testDir = "/d/keystore"
	keyPath = "/d/root.key"
)

var testRoot = Root{Kind: KeyFile, Path: keyPath}

// newStore makes a store in a fresh file system.
func newStore(t testing.TB, f *disk.FS) {
	t.Helper()
	if err := f.MkdirAllSync("/d"); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFile(f, keyPath); err != nil {
		t.Fatal(err)
	}
	if err := Create(f, testDir, testRoot); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, f *disk.FS) *Store {
	t.Helper()
	s, err := Open(f, testDir, testRoot, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func load(s *Store, name string) (string, error) {
	var out string
	err := s.Load(name, func(b []byte) error { out = string(b); return nil })
	return out, err
}

func save(t testing.TB, s *Store, name, text string) {
	t.Helper()
	if err := s.Save(name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wantRecord(t testing.TB, s *Store, name, want string) {
	t.Helper()
	if got, err := load(s, name); err != nil || got != want {
		t.Fatalf("%s: %q, %v; want %q", name, got, err, want)
	}
}

func put(t testing.TB, f *disk.FS, path string, b []byte) {
	t.Helper()
	if err := f.ReplaceFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, f *disk.FS, path string) []byte {
	t.Helper()
	b, err := f.ReadFile(path, maxEnvelopeBytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSaveLoadRemoveReopen(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	s := open(t, f)
	save(t, s, "key/a", "one")
	save(t, s, "key/b", "two")
	save(t, s, "obj/c@v1", "three")
	save(t, s, "key/a", "one again")
	if err := s.Remove("key/b"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("key/b"); !errors.Is(err, kms.ErrNoRecord) {
		t.Fatalf("second Remove: %v", err)
	}
	epoch := s.Epoch()
	_ = s.Close()
	if _, err := load(s, "key/a"); !errors.Is(err, kms.ErrVaultClosed) {
		t.Fatalf("after Close: %v", err)
	}
	s = open(t, f)
	if got := s.Names(); !slices.Equal(got, []string{"key/a", "obj/c@v1"}) {
		t.Fatalf("names %v", got)
	}
	wantRecord(t, s, "key/a", "one again")
	wantRecord(t, s, "obj/c@v1", "three")
	if s.Epoch() != epoch {
		t.Fatalf("epoch %d, was %d", s.Epoch(), epoch)
	}
	if _, err := load(s, "key/b"); !errors.Is(err, kms.ErrNoRecord) {
		t.Fatalf("removed record: %v", err)
	}
	files, _ := f.List(testDir)
	n := 0
	for _, name := range files {
		if isRecordFile(name) {
			n++
		}
	}
	if n != 2 {
		t.Fatalf("record files left: %v", files)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	s := open(t, f)
	for _, name := range []string{"", "key/", "key/../x", "key/.x", "other/a", "key/A", "key/a b", "key/a\x00", "key/" + strings.Repeat("a", 200), "a"} {
		if err := s.Save(name, []byte("x")); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if err := s.Save("key/big", make([]byte, kms.MaxRecordBytes+1)); err == nil {
		t.Error("an oversize record was taken")
	}
}

func TestCreateRefusesAnother(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	if err := Create(f, testDir, testRoot); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	if err := WriteKeyFile(f, keyPath); err == nil {
		t.Fatal("the key file was replaced")
	}
	if _, err := Open(f, "/d/none", testRoot, Options{}); !errors.Is(err, ErrAbsent) {
		t.Fatalf("no keystore: %v", err)
	}
}

func TestWrongRoot(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	if err := WriteKeyFile(f, "/d/other.key"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(f, testDir, Root{Kind: KeyFile, Path: "/d/other.key"}, Options{})
	if !errors.Is(err, ErrWrongRoot) {
		t.Fatal(err)
	}
	other := strings.TrimSpace(string(get(t, f, "/d/other.key")))
	if strings.Contains(err.Error(), other[len(rootKeyPrefix):]) {
		t.Fatal("the error tells the key")
	}
	put(t, f, "/d/pass", []byte("correct horse\n"))
	if _, err := Open(f, testDir, Root{Kind: PassphraseFile, Path: "/d/pass"}, Options{}); !errors.Is(err, ErrRootKind) {
		t.Fatal(err)
	}
	put(t, f, "/d/cut.key", []byte(other[:len(other)-3]))
	if _, err := Open(f, testDir, Root{Kind: KeyFile, Path: "/d/cut.key"}, Options{}); err == nil || strings.Contains(err.Error(), other[12:20]) {
		t.Fatal(err)
	}
	if _, err := Open(f, testDir, Root{Kind: KeyFile, Path: "/d/absent"}, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestPassphraseRoot(t *testing.T) {
	f := disk.Mem()
	if err := f.MkdirAllSync("/d"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "/d/pass", []byte("correct horse\r\n"))
	put(t, f, "/d/wrong", []byte("wrong horse\n"))
	put(t, f, "/d/empty", []byte("\n"))
	root := Root{Kind: PassphraseFile, Path: "/d/pass", ScryptLogN: 4}
	if err := Create(f, testDir, Root{Kind: PassphraseFile, Path: "/d/empty"}); err == nil {
		t.Fatal("an empty passphrase was taken")
	}
	if err := Create(f, testDir, root); err != nil {
		t.Fatal(err)
	}
	s, err := Open(f, testDir, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, "key/a", "x")
	_ = s.Close()
	_, err = Open(f, testDir, Root{Kind: PassphraseFile, Path: "/d/wrong"}, Options{})
	if !errors.Is(err, ErrWrongRoot) || strings.Contains(err.Error(), "horse") {
		t.Fatal(err)
	}
	// Another store's sealed key, under the same passphrase, is bound to it.
	if err := Create(f, "/d/second", root); err != nil {
		t.Fatal(err)
	}
	h, _, err := parseEnvelope(get(t, f, testDir+"/root"))
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := parseEnvelope(get(t, f, "/d/second/root"))
	if err != nil {
		t.Fatal(err)
	}
	forged := envelope(&h, body)
	put(t, f, testDir+"/root", forged)
	put(t, f, testDir+"/root.copy", forged)
	if _, err := Open(f, testDir, root, Options{}); !errors.Is(err, ErrWrongRoot) {
		t.Fatal(err)
	}
}

func TestSystemdRoot(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	if err := f.MkdirAllSync("/run/cred"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "/run/cred/ronroot", get(t, f, keyPath))
	root, err := ParseRoot("systemd:ronroot")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(f, testDir, root, Options{}); err == nil || !strings.Contains(err.Error(), "LoadCredential") {
		t.Fatalf("without a directory: %v", err)
	}
	root.CredentialsDir = "/run/cred"
	s, err := Open(f, testDir, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestParseRoot(t *testing.T) {
	for spec, want := range map[string]error{
		"keyfile:/etc/root.key": nil, "keyfile:root.key": nil, "passphrase-file:/p": nil, "systemd:name": nil,
		"https://kms.example/v1": ErrRootAbsent, "vault+https://x": ErrRootAbsent, "": ErrRootSpec, "keyfile:": ErrRootSpec,
		"systemd:../x": ErrRootSpec, "/etc/root.key": ErrRootSpec, "env:X": ErrRootSpec, "keyfile:a\x00b": ErrRootSpec,
	} {
		if _, err := ParseRoot(spec); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", spec, err, want)
		}
	}
}

func TestRootModeIsEnforced(t *testing.T) {
	dir := t.TempDir()
	f := disk.Real()
	root := Root{Kind: KeyFile, Path: filepath.Join(dir, "root.key")}
	if err := WriteKeyFile(f, root.Path); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(root.Path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatal(fi.Mode(), err)
	}
	store := filepath.Join(dir, "keystore")
	if err := Create(f, store, root); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o644: false, 0o700: false} {
		if err := os.Chmod(root.Path, mode); err != nil {
			t.Fatal(err)
		}
		s, err := Open(f, store, root, Options{})
		if ok != (err == nil) || !ok && !errors.Is(err, ErrRootMode) {
			t.Errorf("%#o: %v", mode, err)
		}
		if s != nil {
			_ = s.Close()
		}
	}
	files, err := os.ReadDir(store)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, e := range files {
		if fi, _ := e.Info(); fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", e.Name(), fi.Mode())
		}
	}
}

func TestRecovery(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	s := open(t, f)
	save(t, s, "key/a", "precious")
	_ = s.Close()
	plain, err := ExportRecovery(f, testDir, testRoot)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ExportRecovery(f, testDir, testRoot, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	line := recoveryLine(plain)
	if !bytes.HasPrefix(line, []byte(recoveryPrefix)) || bytes.Contains(sealed, line[len(recoveryPrefix):]) {
		t.Fatal("the export is not as documented")
	}
	// The root is lost, and its sealed copies with it.
	for _, p := range []string{keyPath, testDir + "/root", testDir + "/root.copy"} {
		if err := f.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	to := Root{Kind: KeyFile, Path: "/d/new.key"}
	if err := WriteKeyFile(f, to.Path); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("# only a comment\n"), append([]byte(recoveryPrefix), "AAAA"...), line[:len(line)-4], sealed} {
		if err := Restore(f, testDir, bad, to); !errors.Is(err, ErrRecovery) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if err := Create(f, "/d/other", to); err != nil {
		t.Fatal(err)
	}
	foreign, err := ExportRecovery(f, "/d/other", to)
	if err != nil {
		t.Fatal(err)
	}
	if err := Restore(f, testDir, foreign, to); !errors.Is(err, ErrRecovery) {
		t.Fatalf("another store's export: %v", err)
	}
	if err := Restore(f, testDir, sealed, to, identity); err != nil {
		t.Fatal(err)
	}
	s, err = Open(f, testDir, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, s, "key/a", "precious")
	_ = s.Close()
	if err := Restore(f, testDir, plain, to); err != nil {
		t.Fatal(err)
	}
}

// Nothing secret is in any file in the clear, nor in any log or error.
func TestNothingLeaks(t *testing.T) {
	var logs bytes.Buffer
	f := disk.Mem()
	newStore(t, f)
	s, err := Open(f, testDir, testRoot, Options{Log: slog.New(slog.NewTextHandler(&logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	const planted = "planted-secret-0123456789abcdef"
	save(t, s, "key/a", planted)
	files, _ := f.List(testDir)
	root := string(bytes.TrimSpace(get(t, f, keyPath)))
	for _, name := range files {
		b := get(t, f, f.PathJoin(testDir, name))
		if bytes.Contains(b, []byte(planted)) || bytes.Contains(b, []byte(root[len(rootKeyPrefix):])) {
			t.Errorf("%s holds a secret in the clear", name)
		}
	}
	if out := fmt.Sprintf("%+v %#v", s.recordKey, s.recordKey); out != "[secret] [secret]" {
		t.Errorf("a key prints: %q", out)
	}
	_ = s.Close()
	if strings.Contains(logs.String(), planted) {
		t.Error("a log line tells a secret")
	}
}

func TestNewerFormatIsNamed(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	b := get(t, f, testDir+"/root")
	b[len(magic)] = formatVersion + 1
	h := b[:len(b)-sumBytes]
	put(t, f, testDir+"/root", append(bytes.Clone(h), sum(h)...))
	if _, err := Open(f, testDir, testRoot, Options{}); !errors.Is(err, errNewer) {
		t.Fatal(err)
	}
}

// Leftovers of an interrupted change go at the next Open.
func TestSweep(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	s := open(t, f)
	save(t, s, "key/a", "x")
	_ = s.Close()
	put(t, f, testDir+"/key+a.999.rec", []byte("left over"))
	w, err := f.Create(testDir+"/.tmp-x-root", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	s = open(t, f)
	wantRecord(t, s, "key/a", "x")
	files, _ := f.List(testDir)
	slices.Sort(files)
	if want := []string{"key+a.2.rec", "manifest", "manifest.copy", "root", "root.copy"}; !slices.Equal(files, want) {
		t.Fatalf("files %v", files)
	}
}
