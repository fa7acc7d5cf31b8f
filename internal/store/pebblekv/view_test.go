// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

func openMem(tb testing.TB) *KV {
	tb.Helper()
	kv, err := Open(Config{FS: disk.Mem(), Dir: "/meta"})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := kv.Close(); err != nil {
			tb.Error(err)
		}
	})
	return kv
}

func put(tb testing.TB, kv *KV, key, value string) {
	tb.Helper()
	if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Set([]byte(key), []byte(value)) }); err != nil {
		tb.Fatal(err)
	}
}

// Readers share a snapshot until a commit; none is left open but the current one.
func TestSharedSnapshot(t *testing.T) {
	kv := openMem(t)
	put(t, kv, "a", "0")
	var seen []*snapshot
	view := func(want string, inside func()) {
		t.Helper()
		err := kv.View(context.Background(), func(r store.Reader) error {
			seen = append(seen, r.(*tx).r.(*snapshot))
			inside()
			v, err := r.Get([]byte("a"))
			if string(v) != want {
				t.Errorf("read %q, want %q", v, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	view("0", func() {
		view("0", func() {})
		put(t, kv, "a", "1") // a reader under way stays where it is
		view("1", func() {})
	})
	view("1", func() {})
	if seen[0] != seen[1] || seen[2] != seen[3] || seen[0] == seen[2] {
		t.Errorf("%p", seen)
	}
	kv.snaps.mu.Lock()
	defer kv.snaps.mu.Unlock()
	if seen[0].refs != 0 || seen[2].refs != 1 || kv.snaps.current != seen[2] {
		t.Errorf("references: %d and %d", seen[0].refs, seen[2].refs)
	}
}

// Each reader sees every Update that returned before it began.
func TestReadersSeeWhatReturned(t *testing.T) {
	kv := openMem(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			key := fmt.Sprint("k", g)
			for i := range 300 {
				put(t, kv, key, fmt.Sprint(i))
				err := kv.View(context.Background(), func(r store.Reader) error {
					v, err := r.Get([]byte(key))
					if string(v) != fmt.Sprint(i) {
						t.Errorf("%s is %q after %d was written", key, v, i)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A snapshot that was read often answers from memory what it answered before:
// the same, also that there is nothing, and nobody can change it.
func TestRemembered(t *testing.T) {
	kv := openMem(t)
	put(t, kv, "a", "0")
	put(t, kv, "empty", "")
	check := func(a string) {
		t.Helper()
		for i := range settled + 10 {
			err := kv.View(context.Background(), func(r store.Reader) error {
				for key, want := range map[string]string{"a": a, "empty": ""} {
					v, err := r.Get([]byte(key))
					if err != nil || v == nil || string(v) != want {
						t.Fatalf("read %d of %s: %q %v", i, key, v, err)
					}
					for j := range v {
						v[j] = 'x'
					}
				}
				if v, err := r.Get([]byte("none")); !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("read %d: %q %v", i, v, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	check("0")
	if n := len(kv.snaps.current.known); n != 3 {
		t.Errorf("%d keys are known", n)
	}
	put(t, kv, "a", "1")
	check("1")
	for i := range 2 * maxKnown {
		_ = kv.View(context.Background(), func(r store.Reader) error { _, err := r.Get(fmt.Append(nil, i)); return err })
	}
	if n := len(kv.snaps.current.known); n == 0 || n > maxKnown {
		t.Errorf("%d keys are known", n)
	}
}

func TestViewAllocations(t *testing.T) {
	kv := openMem(t)
	put(t, kv, "key", "value")
	key := []byte("key")
	get := func(r store.Reader) error { _, err := r.Get(key); return err }
	// The reader, the closure around it, and the value.
	if n := testing.AllocsPerRun(1000, func() { _ = kv.View(context.Background(), get) }); n > 3 {
		t.Errorf("%v allocations a view", n)
	}
}
