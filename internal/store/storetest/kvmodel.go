// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/internal/store"
)

// kvModel compares random transactions with a map.
func kvModel(t *testing.T, kv store.KV) {
	refused := errors.New("refused")
	rapid.Check(t, func(rt *rapid.T) {
		model := map[string]string{}
		must(t, kv.Update(t.Context(), func(tx store.Tx) error {
			for _, k := range keysOf(t, tx, nil, nil, false) {
				must(t, tx.Delete([]byte(k)))
			}
			return nil
		}))
		key := rapid.StringMatching(`[ab]{1,3}`)
		for range rapid.IntRange(1, 8).Draw(rt, "transactions") {
			next := maps.Clone(model)
			fail := rapid.IntRange(0, 3).Draw(rt, "fail") == 0
			err := kv.Update(t.Context(), func(tx store.Tx) error {
				for range rapid.IntRange(0, 6).Draw(rt, "writes") {
					k := key.Draw(rt, "key")
					if rapid.Bool().Draw(rt, "delete") {
						delete(next, k)
						must(t, tx.Delete([]byte(k)))
					} else {
						next[k] = rapid.StringN(0, 5, 20).Draw(rt, "value")
						must(t, tx.Set([]byte(k), []byte(next[k])))
					}
					same(rt, tx, next, key.Draw(rt, "lo"), key.Draw(rt, "hi"))
				}
				if fail {
					return refused
				}
				return nil
			})
			if fail != errors.Is(err, refused) || !fail && err != nil {
				rt.Fatal(err)
			}
			if !fail {
				model = next
			}
			must(t, kv.View(t.Context(), func(r store.Reader) error {
				same(rt, r, model, key.Draw(rt, "lo"), key.Draw(rt, "hi"))
				return nil
			}))
		}
	})
}

func same(rt *rapid.T, r store.Reader, model map[string]string, lo, hi string) {
	var want, got []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if k >= lo && k < hi {
			want = append(want, k+"="+model[k])
		}
	}
	collect := func(k, v []byte) bool { got = append(got, string(k)+"="+string(v)); return true }
	if err := r.Scan([]byte(lo), []byte(hi), collect); err != nil || !slices.Equal(got, want) {
		rt.Fatalf("[%q, %q): %q, want %q, %v", lo, hi, got, want, err)
	}
	got = nil
	slices.Reverse(want)
	if err := r.ScanDesc([]byte(lo), []byte(hi), collect); err != nil || !slices.Equal(got, want) {
		rt.Fatalf("[%q, %q) desc: %q, want %q, %v", lo, hi, got, want, err)
	}
	v, err := r.Get([]byte(lo))
	if w, ok := model[lo]; ok != (err == nil) || string(v) != w {
		rt.Fatalf("get %q: %q, %v", lo, v, err)
	}
}
