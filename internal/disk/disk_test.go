// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	f, dir := Real(), t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	if err := f.MkdirAllSync(deep); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(deep, "x")
	w, err := f.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err = f.OpenReadWrite(name+"2", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.ReplaceFile(name+"3", []byte("k"), 0o640); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(dir, "a"): 0o700, deep: 0o700, name: 0o600, name + "2": 0o600, name + "3": 0o640,
	} {
		got, err := f.Mode(path)
		if err != nil || got != want {
			t.Errorf("%s: mode %o, %v, want %o", path, got, err, want)
		}
	}
	if err := f.MkdirAllSync(filepath.Join(name, "sub")); err == nil {
		t.Error("made a directory below a file")
	}
	if free, err := f.Free(dir); err != nil || free <= 0 {
		t.Errorf("free %d, %v", free, err)
	}
}

func TestReadFile(t *testing.T) {
	f := Mem()
	if err := f.ReplaceFile("/x", []byte("12345"), FileMode); err != nil {
		t.Fatal(err)
	}
	if b, err := f.ReadFile("/x", 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := f.ReadFile("/x", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := f.ReadFile("/y", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestReplaceCrash: at every step, with or without what was not synced, a crash
// leaves the old content or the new one, and the new one once it is acknowledged.
func TestReplaceCrash(t *testing.T) {
	old, next := bytes.Repeat([]byte("old."), 3000), bytes.Repeat([]byte("newer"), 3000)
	check := func(name string, f *FS, acked bool) {
		t.Helper()
		b, err := f.ReadFile("/d/x", 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if acked && !bytes.Equal(b, next) || !bytes.Equal(b, old) && !bytes.Equal(b, next) {
			t.Fatalf("%s: neither old nor new: %d bytes", name, len(b))
		}
	}
	for percent := 0; percent <= 100; percent += 25 {
		for seed := range uint64(8) {
			base := Crashable()
			if err := errors.Join(base.MkdirAllSync("/d"), base.ReplaceFile("/d/x", old, FileMode)); err != nil {
				t.Fatal(err)
			}
			step := 0
			f := base.WithFaults(func(op errorfs.Op) error {
				step++
				check(fmt.Sprintf("before step %d %v, %d%%, seed %d", step, op.Kind, percent, seed), base.Crash(percent, seed), false)
				return nil
			})
			if err := f.ReplaceFile("/d/x", next, FileMode); err != nil {
				t.Fatal(err)
			}
			check("after", base.Crash(percent, seed), true)
		}
	}
}

// TestReplaceFaults: whatever call fails, the error comes out, the content is
// whole and no temporary file stays.
func TestReplaceFaults(t *testing.T) {
	for i := 0; ; i++ {
		base := Mem()
		if err := base.ReplaceFile("/x", []byte("old"), FileMode); err != nil {
			t.Fatal(err)
		}
		n, hit := 0, errorfs.OpKind(-1)
		f := base.WithFaults(func(op errorfs.Op) error {
			if n++; n == i+1 {
				hit = op.Kind
				return syscall.ENOSPC
			}
			return nil
		})
		err := f.ReplaceFile("/x", []byte("new"), FileMode)
		if hit < 0 {
			if i < 5 || err != nil {
				t.Fatalf("only %d calls, %v", i, err)
			}
			return
		}
		if !IsFull(err) {
			t.Errorf("call %d (kind %d): %v", i, hit, err)
		}
		b, err := base.ReadFile("/x", 10)
		if err != nil || string(b) != "old" && string(b) != "new" {
			t.Errorf("call %d: %q, %v", i, b, err)
		}
		names, err := base.List("/")
		if err != nil || len(names) != 1 {
			t.Errorf("call %d leaves %v, %v", i, names, err)
		}
	}
}

func TestRemoveTemp(t *testing.T) {
	f := Mem()
	for _, name := range []string{"/.tmp-1-x", "/x", "/.tmp"} {
		if err := f.ReplaceFile(name, nil, FileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.RemoveTemp("/"); err != nil {
		t.Fatal(err)
	}
	if names, _ := f.List("/"); len(names) != 2 {
		t.Errorf("left %v", names)
	}
	if err := errors.Join(f.RemoveSync("/x"), f.RemoveSync("/x")); err != nil {
		t.Error(err)
	}
}

func TestMkdirCrash(t *testing.T) {
	f := Crashable()
	if err := f.MkdirAllSync("/a/b/c"); err != nil {
		t.Fatal(err)
	}
	if fi, err := f.Crash(0, 1).Stat("/a/b/c"); err != nil || !fi.IsDir() {
		t.Errorf("lost: %v", err)
	}
}

// TestRemoveCrash: what RemoveSync removed stays away, also where it was removed
// before and not synced.
func TestRemoveCrash(t *testing.T) {
	for _, before := range []bool{false, true} {
		f := Crashable()
		if err := errors.Join(f.MkdirAllSync("/d"), f.ReplaceFile("/d/x", []byte("x"), FileMode)); err != nil {
			t.Fatal(err)
		}
		if before {
			if err := f.Remove("/d/x"); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.RemoveSync("/d/x"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Crash(0, 1).Stat("/d/x"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removed before: %t: it came back: %v", before, err)
		}
	}
}

// TestMkdirAgain: a directory that a failed call left, made and not synced, is
// durable once another call returns.
func TestMkdirAgain(t *testing.T) {
	for n := 1; ; n++ {
		f, calls := Crashable(), 0
		err := f.WithFaults(func(errorfs.Op) error {
			if calls++; calls == n {
				return syscall.EIO
			}
			return nil
		}).MkdirAllSync("/a/b/c")
		if calls < n {
			break
		}
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("call %d: %v", n, err)
		}
		if err := f.MkdirAllSync("/a/b/c"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Crash(0, 1).Stat("/a/b/c"); err != nil {
			t.Errorf("lost after call %d failed and all was done again: %v", n, err)
		}
	}
}

// TestMkdirForeign: the parent of a directory that is there may be nothing that
// the process can sync.
func TestMkdirForeign(t *testing.T) {
	for _, err := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EINVAL, syscall.ENOTSUP} {
		f := Crashable()
		if err := f.MkdirAllSync("/a"); err != nil {
			t.Fatal(err)
		}
		f = f.WithFaults(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpOpenDir && op.Path == "/" {
				return err
			}
			return nil
		})
		if got := f.MkdirAllSync("/a/b"); got != nil {
			t.Errorf("%v below one that is there: %v", err, got)
		}
		if got := f.MkdirAllSync("/new"); !errors.Is(got, err) {
			t.Errorf("%v where one was made: %v", err, got)
		}
	}
}

func TestLockMem(t *testing.T) {
	f := Mem()
	l, err := f.LockDir("/")
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := f.LockDir("/"); !errors.As(err, &held) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.LockDir("/"); err != nil {
		t.Errorf("after release: %v", err)
	}
}

// TestLockProcess locks a directory here and tries it from another process, which
// must learn this one's id; then that process dies holding it, and it is free.
func TestLockProcess(t *testing.T) {
	if dir := os.Getenv("LOCK_DIR"); dir != "" {
		_, err := Real().LockDir(dir)
		fmt.Println("got:", err)
		os.Exit(0) // without releasing
	}
	dir := t.TempDir()
	try := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=TestLockProcess$")
		cmd.Env = append(os.Environ(), "LOCK_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	l, err := Real().LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := Real().LockDir(dir); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("second lock in this process: %v", err)
	}
	if out := try(); !strings.Contains(out, fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("other process: %s", out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if out := try(); !strings.Contains(out, "got: <nil>") {
		t.Errorf("free, but: %s", out)
	}
	if l, err = Real().LockDir(dir); err != nil {
		t.Errorf("after the holder died: %v", err)
	} else if err := l.Close(); err != nil {
		t.Error(err)
	}
}
