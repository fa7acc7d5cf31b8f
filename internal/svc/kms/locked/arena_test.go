// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package locked

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestTakeWipesItsSource(t *testing.T) {
	a := New(nil)
	defer a.Close()
	src := []byte("a secret of some length")
	want := bytes.Clone(src)
	s := a.Take(src)
	if !bytes.Equal(s.Bytes(), want) {
		t.Fatal("the secret is not what was taken")
	}
	if !bytes.Equal(src, make([]byte, len(src))) {
		t.Fatal("the source still holds the secret")
	}
}

func TestWipeClearsMemory(t *testing.T) {
	a := New(nil)
	defer a.Close()
	s := a.Copy([]byte("0123456789abcdef"))
	view := s.Bytes()[:16:16]
	s.Wipe()
	s.Wipe() // a second one does nothing
	if !bytes.Equal(view, make([]byte, 16)) {
		t.Fatalf("memory after Wipe: %q", view)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	a := New(nil)
	defer a.Close()
	s := a.Copy([]byte("hunter2hunter2"))
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if out := fmt.Sprintf(f, s); strings.Contains(out, "hunter") || strings.Contains(out, fmt.Sprintf("%x", "hunter")) || out != "[secret]" {
			t.Errorf("%s prints %q", f, out)
		}
	}
}

func TestPagesAreFreed(t *testing.T) {
	a := New(nil)
	small, large := a.Make(40), a.Make(largeBytes)
	held, _ := a.Stats()
	if held != chunkBytes+largeBytes {
		t.Fatalf("held %d", held)
	}
	large.Wipe()
	if held, _ = a.Stats(); held != chunkBytes {
		t.Fatalf("held %d after the large one was wiped", held)
	}
	small.Wipe()
	a.Close()
	a.Close()
	if held, unlocked := a.Stats(); held != 0 || unlocked != 0 {
		t.Fatalf("held %d, unlocked %d after Close", held, unlocked)
	}
	small.Wipe() // after Close: nothing
}

// A refused mlock must be told once, and must not stop anything.
func TestRefusedLockWarnsOnce(t *testing.T) {
	var warnings []error
	a := New(func(err error) { warnings = append(warnings, err) })
	a.lock = func([]byte) error { return unix.ENOMEM }
	s := a.Copy([]byte("still works"))
	l := a.Make(largeBytes)
	if string(s.Bytes()) != "still works" || l.Len() != largeBytes {
		t.Fatal("secrets are not usable")
	}
	if len(warnings) != 1 {
		t.Fatalf("%d warnings: %v", len(warnings), warnings)
	}
	if _, unlocked := a.Stats(); unlocked != chunkBytes+largeBytes {
		t.Fatalf("unlocked %d", unlocked)
	}
	a.Close()
}

// Live secrets never overlap and never change under each other.
func TestSecretsAreSeparate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New(nil)
		defer a.Close()
		type entry struct {
			s    *Secret
			fill byte
		}
		var live []entry
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(live) > 0 && rapid.Bool().Draw(t, "wipe") {
				k := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				live[k].s.Wipe()
				live = append(live[:k], live[k+1:]...)
				continue
			}
			n := rapid.OneOf(rapid.IntRange(1, 200), rapid.IntRange(largeBytes-40, largeBytes+40)).Draw(t, "n")
			s := a.Make(n)
			for _, b := range s.Bytes() {
				if b != 0 {
					t.Fatal("fresh memory is not zero")
				}
			}
			for j := range s.Bytes() {
				s.Bytes()[j] = byte(i + 1)
			}
			live = append(live, entry{s, byte(i + 1)})
		}
		for _, e := range live {
			for _, b := range e.s.Bytes() {
				if b != e.fill {
					t.Fatal("a secret changed under its owner")
				}
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	a := New(nil)
	defer a.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				s := a.Make(1 + i%100)
				s.Bytes()[0] = 1
				s.Wipe()
			}
		})
	}
	wg.Wait()
}
