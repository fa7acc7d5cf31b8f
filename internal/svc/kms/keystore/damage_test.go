// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Every flipped byte of every file is seen, only what it concerns is lost, and
// what is kept twice is mended.
func TestFlippedBytes(t *testing.T) {
	base := disk.Crashable()
	newStore(t, base)
	s := open(t, base)
	save(t, s, "key/a", "content of a")
	save(t, s, "obj/b@v1", "content of b")
	_ = s.Close()
	files, err := base.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		whole := get(t, base, base.PathJoin(testDir, name))
		for i := range whole {
			f := base.Crash(100, 1)
			b := bytes.Clone(whole)
			b[i] ^= 0x40
			put(t, f, f.PathJoin(testDir, name), b)
			s, err := Open(f, testDir, testRoot, Options{})
			if err != nil {
				t.Fatalf("%s byte %d: %v", name, i, err)
			}
			for record, want := range map[string]string{"key/a": "content of a", "obj/b@v1": "content of b"} {
				got, err := load(s, record)
				if strings.HasPrefix(name, strings.Replace(record, "/", "+", 1)) {
					var d *kms.DamagedError
					if !errors.As(err, &d) || d.Name != record || strings.Contains(err.Error(), "content") {
						t.Fatalf("%s byte %d: %v", name, i, err)
					}
				} else if err != nil || got != want {
					t.Fatalf("%s byte %d: %s: %q, %v", name, i, record, got, err)
				}
			}
			_ = s.Close()
			if !isRecordFile(name) && !bytes.Equal(get(t, f, f.PathJoin(testDir, name)), whole) && !strings.HasPrefix(name, manifestFile) {
				t.Fatalf("%s byte %d was not mended", name, i)
			}
		}
		for n := range len(whole) { // torn
			if _, _, err := parseEnvelope(whole[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes pass", name, n, len(whole))
			}
		}
	}
}

func TestBothCopiesDamaged(t *testing.T) {
	for _, name := range []string{rootFile, manifestFile} {
		f := disk.Mem()
		newStore(t, f)
		s := open(t, f)
		save(t, s, "key/a", "x")
		_ = s.Close()
		for _, suffix := range []string{"", copySuffix} {
			b := get(t, f, f.PathJoin(testDir, name+suffix))
			b[len(b)/2] ^= 1
			put(t, f, f.PathJoin(testDir, name+suffix), b)
		}
		if _, err := Open(f, testDir, testRoot, Options{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// An older copy of a record, a deleted record, a record under another's name and
// another store's record are all seen.
func TestReplacedRecordsAreSeen(t *testing.T) {
	f := disk.Mem()
	newStore(t, f)
	s := open(t, f)
	save(t, s, "key/a", "first")
	old := get(t, f, f.PathJoin(testDir, fileName("key/a", s.Records()["key/a"])))
	save(t, s, "key/a", "second")
	save(t, s, "key/b", "b")
	pathA := f.PathJoin(testDir, fileName("key/a", s.Records()["key/a"]))
	pathB := f.PathJoin(testDir, fileName("key/b", s.Records()["key/b"]))
	newA, newB := get(t, f, pathA), get(t, f, pathB)
	damaged := func(what string) {
		t.Helper()
		var d *kms.DamagedError
		if _, err := load(s, "key/a"); !errors.As(err, &d) || d.Name != "key/a" {
			t.Errorf("%s: %v", what, err)
		}
		wantRecord(t, s, "key/b", "b")
	}
	put(t, f, pathA, old)
	damaged("an older copy")
	put(t, f, pathA, newB)
	damaged("another record")
	if err := f.Remove(pathA); err != nil {
		t.Fatal(err)
	}
	damaged("no file")
	// The same header over another body: right name and generation, own seal.
	h, _, err := parseEnvelope(newA)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := seal(make([]byte, keyBytes), &h, []byte("forged"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, f, pathA, forged)
	damaged("a forged record")
	put(t, f, pathA, newA)
	wantRecord(t, s, "key/a", "second")
	if err := f.Remove(pathA); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("key/a"); err != nil {
		t.Fatalf("a damaged record cannot be removed: %v", err)
	}
}

func TestRollbackOfTheWholeStore(t *testing.T) {
	base := disk.Crashable()
	newStore(t, base)
	s := open(t, base)
	save(t, s, "key/a", "first")
	before := base.Crash(100, 1)
	save(t, s, "key/a", "second")
	epoch := s.Epoch()
	_ = s.Close()
	if _, err := Open(before, testDir, testRoot, Options{MinEpoch: epoch}); !errors.Is(err, ErrRolledBack) {
		t.Fatal(err)
	}
	s, err := Open(base, testDir, testRoot, Options{MinEpoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}
