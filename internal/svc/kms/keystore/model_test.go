// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Whatever is done, with closings and power failures in between, the store holds
// what a map would.
func TestAgainstAMap(t *testing.T) {
	base := disk.Crashable()
	newStore(t, base)
	rapid.Check(t, func(t *rapid.T) {
		f := base.Crash(100, 1)
		model := map[string]string{}
		s, err := Open(f, testDir, testRoot, Options{})
		if err != nil {
			t.Fatal(err)
		}
		reopen := func() {
			var err error
			if s, err = Open(f, testDir, testRoot, Options{MinEpoch: s.Epoch()}); err != nil {
				t.Fatal(err)
			}
		}
		name := func() string {
			return rapid.SampledFrom([]string{"key/a", "key/b", "obj/a@v1", "obj/a@v2"}).Draw(t, "name")
		}
		t.Repeat(map[string]func(*rapid.T){
			"save": func(t *rapid.T) {
				n, v := name(), rapid.StringN(1, 40, -1).Draw(t, "value")
				if err := s.Save(n, []byte(v)); err != nil {
					t.Fatal(err)
				}
				model[n] = v
			},
			"remove": func(t *rapid.T) {
				n := name()
				_, there := model[n]
				if err := s.Remove(n); (err == nil) != there || err != nil && !errors.Is(err, kms.ErrNoRecord) {
					t.Fatal(err)
				}
				delete(model, n)
			},
			"close": func(t *rapid.T) { _ = s.Close(); reopen() },
			"crash": func(t *rapid.T) {
				f = f.Crash(rapid.IntRange(0, 100).Draw(t, "unsynced"), rapid.Uint64().Draw(t, "seed"))
				_ = s.Close()
				reopen()
			},
			"": func(t *rapid.T) {
				if got, want := s.Names(), slices.Sorted(maps.Keys(model)); !slices.Equal(got, want) {
					t.Fatalf("names %v, want %v", got, want)
				}
				for n, want := range model {
					if got, err := load(s, n); err != nil || got != want {
						t.Fatal(fmt.Sprintf("%s: %q, want %q", n, got, want), err)
					}
				}
			},
		})
		_ = s.Close()
	})
}
