// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// A crash after each write of a change, with what was not synced kept or lost,
// leaves the state before or after, and the store works on.
func TestCrashAtEveryStep(t *testing.T) {
	changes := map[string]struct {
		do    func(*Store) error
		check func(*Store) string // "old", "new", or what is wrong
	}{
		"replace": {
			func(s *Store) error { return s.Save("key/a", []byte("new")) },
			func(s *Store) string { got, err := load(s, "key/a"); return fmt.Sprint(got, errText(err)) },
		},
		"add": {
			func(s *Store) error { return s.Save("key/new", []byte("new")) },
			func(s *Store) string {
				got, err := load(s, "key/new")
				if errors.Is(err, kms.ErrNoRecord) {
					return "old"
				}
				return fmt.Sprint(got, errText(err))
			},
		},
		"remove": {
			func(s *Store) error { return s.Remove("key/a") },
			func(s *Store) string {
				got, err := load(s, "key/a")
				if errors.Is(err, kms.ErrNoRecord) {
					return "new"
				}
				return fmt.Sprint(got, errText(err))
			},
		},
	}
	for name, c := range changes {
		seen := map[string]int{}
		for step := 0; ; step++ {
			base := disk.Crashable()
			newStore(t, base)
			s := open(t, base)
			save(t, s, "key/a", "old")
			save(t, s, "key/other", "other")
			_ = s.Close()
			n, failed := 0, false
			faulty := base.WithFaults(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
					return nil
				}
				if n++; n > step {
					failed = true
					return errors.New("power is gone")
				}
				return nil
			})
			n = -1 << 30 // opening does not count
			s, err := Open(faulty, testDir, testRoot, Options{})
			if err != nil {
				t.Fatal(err)
			}
			n = 0
			acked := c.do(s) == nil
			// Last the process alone ends: everything it did is there.
			for _, unsynced := range []int{0, 50, 100, processAlone} {
				f := base
				if unsynced != processAlone {
					f = base.Crash(unsynced, uint64(step))
				}
				s, err := Open(f, testDir, testRoot, Options{})
				if err != nil {
					t.Fatalf("%s, step %d, %d%%: %v", name, step, unsynced, err)
				}
				state := c.check(s)
				if state != "old" && state != "new" || acked && state != "new" {
					t.Fatalf("%s, step %d, %d%% (acknowledged: %v): %q", name, step, unsynced, acked, state)
				}
				seen[state]++
				wantRecord(t, s, "key/other", "other")
				save(t, s, "key/a", "later")
				wantRecord(t, s, "key/a", "later")
				_ = s.Close()
			}
			_ = s.Close()
			if !failed {
				break
			}
		}
		if seen["old"] == 0 || seen["new"] == 0 {
			t.Errorf("%s: the steps do not bite: %v", name, seen)
		}
	}
}

// processAlone stands for a crash that loses nothing of what was written.
const processAlone = -1

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A write that fails and one that works after it: memory follows the disk.
func TestFailedWriteThenWorks(t *testing.T) {
	base := disk.Mem()
	newStore(t, base)
	for step := range 12 {
		n := -1 << 30
		f := base.WithFaults(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if n++; n == step+1 {
				return errors.New("disk trouble")
			}
			return nil
		})
		s, err := Open(f, testDir, testRoot, Options{})
		if err != nil {
			t.Fatal(err)
		}
		n = 0
		first := s.Save("key/a", fmt.Appendf(nil, "a%d", step))
		n = -1 << 30
		if first != nil {
			if got, err := load(s, "key/a"); err == nil && got != fmt.Sprintf("a%d", step) && got != fmt.Sprintf("again%d", step-1) && step > 0 {
				t.Fatalf("step %d: %q", step, got)
			}
			// What is answered now is what a restart finds.
			now, nowErr := load(s, "key/a")
			again, err := Open(base, testDir, testRoot, Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			if then, thenErr := load(again, "key/a"); now != then || (nowErr == nil) != (thenErr == nil) {
				t.Errorf("step %d: %q, %v before a restart, %q, %v after it", step, now, nowErr, then, thenErr)
			}
			_ = again.Close()
		} else {
			wantRecord(t, s, "key/a", fmt.Sprintf("a%d", step))
		}
		save(t, s, "key/a", fmt.Sprintf("again%d", step))
		wantRecord(t, s, "key/a", fmt.Sprintf("again%d", step))
		_ = s.Close()
		s = open(t, base)
		wantRecord(t, s, "key/a", fmt.Sprintf("again%d", step))
		_ = s.Close()
	}
}

// TestSecondCopyBehind: where the manifest's second copy could not be written, the
// records that it names stay until it is; and where the first is lost then,
// nothing is removed that it alone named.
func TestSecondCopyBehind(t *testing.T) {
	base := disk.Mem()
	newStore(t, base)
	s := open(t, base)
	save(t, s, "key/a", "old")
	_ = s.Close()
	s = open(t, base.WithFaults(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, manifestFile+copySuffix) {
			return errors.New("a bad sector")
		}
		return nil
	}))
	save(t, s, "key/a", "new") // the first copy makes it durable
	_ = s.Close()
	if err := base.ReplaceFile(base.PathJoin(testDir, manifestFile), []byte("torn"), disk.FileMode); err != nil {
		t.Fatal(err)
	}
	records := func() (names []string) {
		all, err := base.List(testDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			if isRecordFile(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	before := records()
	wantRecord(t, open(t, base), "key/a", "old")
	if after := records(); !slices.Equal(before, after) || len(after) != 2 {
		t.Errorf("records %v, before %v", after, before)
	}
}

func TestCreateCrashesAnywhere(t *testing.T) {
	for step := 0; ; step++ {
		base := disk.Crashable()
		if err := base.MkdirAllSync("/d"); err != nil {
			t.Fatal(err)
		}
		if err := WriteKeyFile(base, keyPath); err != nil {
			t.Fatal(err)
		}
		n, failed := 0, false
		faulty := base.WithFaults(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if n++; n > step {
				failed = true
				return errors.New("power is gone")
			}
			return nil
		})
		_ = Create(faulty, testDir, testRoot)
		f := base.Crash(50, uint64(step))
		s, err := Open(f, testDir, testRoot, Options{})
		if errors.Is(err, ErrAbsent) {
			if err = Create(f, testDir, testRoot); err == nil {
				s, err = Open(f, testDir, testRoot, Options{})
			}
		}
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		save(t, s, "key/a", "x")
		_ = s.Close()
		if !failed {
			return
		}
	}
}

func TestResealAndItsCrashes(t *testing.T) {
	base := disk.Crashable()
	newStore(t, base)
	s := open(t, base)
	save(t, s, "key/a", "x")
	_ = s.Close()
	to := Root{Kind: KeyFile, Path: "/d/new.key"}
	if err := WriteKeyFile(base, to.Path); err != nil {
		t.Fatal(err)
	}
	for step := 0; ; step++ {
		clone := base.Crash(100, 1)
		n, failed := 0, false
		faulty := clone.WithFaults(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if n++; n > step {
				failed = true
				return errors.New("power is gone")
			}
			return nil
		})
		err := Reseal(faulty, testDir, testRoot, to)
		f := clone.Crash(50, uint64(step))
		opened := 0
		for _, root := range []Root{to, testRoot} {
			s, err := Open(f, testDir, root, Options{})
			if err != nil {
				if !errors.Is(err, ErrWrongRoot) {
					t.Fatalf("step %d: %v", step, err)
				}
				continue
			}
			opened++
			wantRecord(t, s, "key/a", "x")
			_ = s.Close()
		}
		if opened != 1 { // opening by one makes it the one
			t.Fatalf("step %d: %d roots open it", step, opened)
		}
		if !failed {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(clone, testDir, testRoot, Options{}); !errors.Is(err, ErrWrongRoot) {
				t.Fatalf("the old root still opens: %v", err)
			}
			return
		}
	}
}
