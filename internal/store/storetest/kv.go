// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
)

// KV runs the conformance suite of store.KV. open returns an empty store, which
// the suite closes.
func KV(t *testing.T, open func(t *testing.T) store.KV) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, kv store.KV)
	}{
		{"order", kvOrder},
		{"bounds", kvBounds},
		{"own-writes", kvOwnWrites},
		{"rollback", kvRollback},
		{"slices", kvSlices},
		{"limits", kvLimits},
		{"snapshot", kvSnapshot},
		{"counters", kvCounters},
		{"transfers", kvTransfers},
		{"context", kvContext},
		{"closed", kvClosed},
		{"model", kvModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			kv := open(t)
			defer func() {
				if err := kv.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.f(t, kv)
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, kv store.KV, pairs ...string) {
	t.Helper()
	must(t, kv.Update(t.Context(), func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}))
}

// get returns the value, or "-" where there is none.
func get(t testing.TB, r store.Reader, key string) string {
	t.Helper()
	v, err := r.Get([]byte(key))
	if errors.Is(err, store.ErrNotFound) {
		return "-"
	}
	must(t, err)
	return string(v)
}

func keysOf(t testing.TB, r store.Reader, lo, hi []byte, desc bool) []string {
	t.Helper()
	var got []string
	scan := r.Scan
	if desc {
		scan = r.ScanDesc
	}
	must(t, scan(lo, hi, func(k, _ []byte) bool {
		got = append(got, string(k))
		return true
	}))
	return got
}

// awkward keys, sorted bytewise as no collation would.
var awkward = []string{
	"\x00", "\x00\x00", "\x00\xff", "\x01", " ", "-", "10", "9", "A", "AA", "B", "Z", "_", "a", "a\x00", "a\x00b", "a/", "a/b", "aa", "b", "z",
	"\x7f", "\x80", "\xc3\xa4", "\xff", "\xff\x00", "\xff\xff",
}

func kvOrder(t *testing.T, kv store.KV) {
	for i := range awkward { // in another order
		k := awkward[i*7%len(awkward)]
		set(t, kv, k, "v"+k)
	}
	if !slices.IsSorted(awkward) {
		t.Fatal("the list is not sorted")
	}
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if got := keysOf(t, r, nil, nil, false); !slices.Equal(got, awkward) {
			t.Errorf("scan: %q", got)
		}
		back := slices.Clone(awkward)
		slices.Reverse(back)
		if got := keysOf(t, r, nil, nil, true); !slices.Equal(got, back) {
			t.Errorf("scan desc: %q", got)
		}
		for _, k := range awkward {
			if got := get(t, r, k); got != "v"+k {
				t.Errorf("%q is %q", k, got)
			}
		}
		return nil
	}))
}

func kvBounds(t *testing.T, kv store.KV) {
	keys := []string{"a", "b", "b\x00", "ba", "c"}
	for _, k := range keys {
		set(t, kv, k, k)
	}
	bounds := [][]byte{nil, {}, {0}, []byte("a"), []byte("a\x00"), []byte("b"), []byte("b\x00"), []byte("b\x01"), []byte("bz"), []byte("c"), []byte("c\x00"), {0xff}}
	check := func(r store.Reader) error {
		for _, lo := range bounds {
			for _, hi := range bounds {
				var want []string
				for _, k := range keys {
					if k >= string(lo) && (hi == nil || k < string(hi)) {
						want = append(want, k)
					}
				}
				if got := keysOf(t, r, lo, hi, false); !slices.Equal(got, want) {
					t.Errorf("[%q, %q): %q, want %q", lo, hi, got, want)
				}
				slices.Reverse(want)
				if got := keysOf(t, r, lo, hi, true); !slices.Equal(got, want) {
					t.Errorf("[%q, %q) desc: %q, want %q", lo, hi, got, want)
				}
			}
		}
		n := 0
		must(t, r.Scan(nil, nil, func(_, _ []byte) bool { n++; return n < 2 }))
		must(t, r.ScanDesc(nil, nil, func(_, _ []byte) bool { n++; return n < 4 }))
		if n != 4 {
			t.Errorf("%d calls after false", n)
		}
		return nil
	}
	must(t, kv.View(t.Context(), check))
	must(t, kv.Update(t.Context(), func(tx store.Tx) error { return check(tx) }))
}

func kvOwnWrites(t *testing.T, kv store.KV) {
	set(t, kv, "a", "1", "b", "2", "d", "4")
	must(t, kv.Update(t.Context(), func(tx store.Tx) error {
		must(t, tx.Set([]byte("a"), []byte("one")))
		must(t, tx.Set([]byte("c"), []byte("")))
		must(t, tx.Delete([]byte("b")))
		must(t, tx.Delete([]byte("missing")))
		if got := get(t, tx, "a") + get(t, tx, "b") + get(t, tx, "c") + get(t, tx, "d"); got != "one-4" {
			t.Errorf("own writes: %q", got)
		}
		if got := keysOf(t, tx, nil, nil, false); !slices.Equal(got, []string{"a", "c", "d"}) {
			t.Errorf("own scan: %q", got)
		}
		must(t, tx.Set([]byte("b"), []byte("back")))
		// A scan sees what was there when it began, and may delete all of it.
		n := 0
		must(t, tx.Scan(nil, nil, func(k, _ []byte) bool {
			n++
			must(t, tx.Delete(bytes.Clone(k)))
			must(t, tx.Set([]byte(fmt.Sprintf("z%d", n)), []byte("new")))
			return n < 100
		}))
		if got := keysOf(t, tx, nil, nil, true); n != 4 || !slices.Equal(got, []string{"z4", "z3", "z2", "z1"}) {
			t.Errorf("scan while writing: %d calls, then %q", n, got)
		}
		return nil
	}))
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if got := keysOf(t, r, nil, nil, false); !slices.Equal(got, []string{"z1", "z2", "z3", "z4"}) {
			t.Errorf("committed: %q", got)
		}
		return nil
	}))
	must(t, kv.Reclaim(t.Context(), func(tx store.Tx) error { return tx.Delete([]byte("z1")) }))
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if got := get(t, r, "z1") + get(t, r, "z2"); got != "-new" {
			t.Errorf("after reclaim: %q", got)
		}
		return nil
	}))
}

func kvRollback(t *testing.T, kv store.KV) {
	set(t, kv, "a", "1")
	mine := errors.New("mine")
	change := func(tx store.Tx) {
		must(t, tx.Set([]byte("a"), []byte("2")))
		must(t, tx.Set([]byte("b"), []byte("2")))
	}
	if err := kv.Update(t.Context(), func(tx store.Tx) error { change(tx); return mine }); !errors.Is(err, mine) {
		t.Errorf("update: %v", err)
	}
	if err := kv.View(t.Context(), func(store.Reader) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("view: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_ = kv.Update(t.Context(), func(tx store.Tx) error { change(tx); panic("f") })
	}()
	must(t, kv.Update(t.Context(), func(tx store.Tx) error { // the turn was given back
		if got := get(t, tx, "a") + get(t, tx, "b"); got != "1-" {
			t.Errorf("after rollback: %q", got)
		}
		return nil
	}))
}

func kvSlices(t *testing.T, kv store.KV) {
	k, v := []byte("key"), []byte("value")
	must(t, kv.Update(t.Context(), func(tx store.Tx) error {
		must(t, tx.Set(k, v))
		copy(k, "xxx")
		copy(v, "xxxxx")
		got, err := tx.Get([]byte("key"))
		must(t, err)
		copy(got, "yyyyy")
		return nil
	}))
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		got, err := r.Get([]byte("key"))
		must(t, err)
		if string(got) != "value" {
			t.Errorf("value is %q", got)
		}
		copy(got, "zzzzz")
		if got := get(t, r, "key"); got != "value" {
			t.Errorf("after changing a copy: %q", got)
		}
		return nil
	}))
}

func kvLimits(t *testing.T, kv store.KV) {
	long, big := strings.Repeat("k", store.MaxKeyBytes), strings.Repeat("v", store.MaxValueBytes)
	set(t, kv, long, big, "empty", "")
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if get(t, r, long) != big || get(t, r, "empty") != "" || get(t, r, "") != "-" {
			t.Error("the largest, the empty value or the empty key")
		}
		return nil
	}))
	for name, pair := range map[string][2]string{"key": {long + "k", ""}, "value": {"k", big + "v"}, "empty key": {"", "v"}} {
		err := kv.Update(t.Context(), func(tx store.Tx) error { return tx.Set([]byte(pair[0]), []byte(pair[1])) })
		if !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, kv.Check(t.Context()))
}

// kvSnapshot: a View stays at its moment while writers go on.
func kvSnapshot(t *testing.T, kv store.KV) {
	set(t, kv, "a", "1", "b", "1")
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if get(t, r, "a") != "1" {
			t.Error("before")
		}
		done := make(chan error)
		go func() {
			done <- kv.Update(t.Context(), func(tx store.Tx) error {
				return errors.Join(tx.Set([]byte("a"), []byte("2")), tx.Delete([]byte("b")), tx.Set([]byte("c"), []byte("2")))
			})
		}()
		must(t, <-done)
		if got := get(t, r, "a") + get(t, r, "b") + get(t, r, "c"); got != "11-" {
			t.Errorf("the moment changed: %q", got)
		}
		if got := keysOf(t, r, nil, nil, false); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("the moment's keys changed: %q", got)
		}
		return nil
	}))
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if got := get(t, r, "a") + get(t, r, "b") + get(t, r, "c"); got != "2-2" {
			t.Errorf("afterwards: %q", got)
		}
		return nil
	}))
}

// kvCounters: no increment is lost, and each sees the ones before it.
func kvCounters(t *testing.T, kv store.KV) {
	const workers, rounds = 8, 50
	var mu sync.Mutex
	seen := make(map[string]bool)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				var got string
				err := kv.Update(t.Context(), func(tx store.Tx) error {
					v, err := tx.Get([]byte("n"))
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					n := 0
					_, _ = fmt.Sscan(string(v), &n)
					got = fmt.Sprint(n + 1)
					return tx.Set([]byte("n"), []byte(got))
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[got] {
					t.Errorf("two increments gave %s", got)
				}
				seen[got] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	must(t, kv.View(t.Context(), func(r store.Reader) error {
		if got := get(t, r, "n"); got != fmt.Sprint(workers*rounds) {
			t.Errorf("counted %s", got)
		}
		return nil
	}))
}

// kvTransfers: moves between accounts keep the sum in every View.
func kvTransfers(t *testing.T, kv store.KV) {
	const accounts, each, rounds = 5, 100, 60
	name := func(i int) []byte { return []byte(fmt.Sprintf("acct/%d", i)) }
	for i := range accounts {
		set(t, kv, string(name(i)), fmt.Sprint(each))
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range rounds {
				from, to := name((w+i)%accounts), name((w*i+i+1)%accounts)
				if bytes.Equal(from, to) {
					continue
				}
				if err := kv.Update(t.Context(), func(tx store.Tx) error {
					var a, b int
					va, err := tx.Get(from)
					must(t, err)
					vb, err := tx.Get(to)
					must(t, err)
					_, _ = fmt.Sscan(string(va)+" "+string(vb), &a, &b)
					return errors.Join(tx.Set(from, []byte(fmt.Sprint(a-i))), tx.Set(to, []byte(fmt.Sprint(b+i))))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range rounds {
				sum := 0
				if err := kv.View(t.Context(), func(r store.Reader) error {
					return r.Scan([]byte("acct/"), []byte("acct0"), func(_, v []byte) bool {
						n := 0
						_, _ = fmt.Sscan(string(v), &n)
						sum += n
						return true
					})
				}); err != nil || sum != accounts*each {
					t.Errorf("sum %d, %v", sum, err)
				}
			}
		})
	}
	wg.Wait()
}

func kvContext(t *testing.T, kv store.KV) {
	set(t, kv, "a", "1")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"view":    kv.View(gone, func(store.Reader) error { t.Error("ran"); return nil }),
		"update":  kv.Update(gone, func(store.Tx) error { t.Error("ran"); return nil }),
		"reclaim": kv.Reclaim(gone, func(store.Tx) error { t.Error("ran"); return nil }),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The wait for the turn ends with the context.
	ctx, cancel := context.WithCancel(t.Context())
	in, out := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- kv.Update(t.Context(), func(store.Tx) error { close(in); <-out; return nil })
	}()
	<-in
	cancel()
	if err := kv.Update(ctx, func(store.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
	close(out)
	must(t, <-done)
}

func kvClosed(t *testing.T, kv store.KV) {
	var r store.Reader
	var w store.Tx
	must(t, kv.View(t.Context(), func(x store.Reader) error { r = x; return nil }))
	must(t, kv.Update(t.Context(), func(x store.Tx) error { w = x; return x.Set([]byte("a"), nil) }))
	nothing := func(_, _ []byte) bool { return true }
	_, e1 := r.Get([]byte("a"))
	_, e2 := w.Get([]byte("a"))
	for i, err := range []error{e1, e2, r.Scan(nil, nil, nothing), w.ScanDesc(nil, nil, nothing), w.Set([]byte("a"), nil), w.Delete([]byte("a"))} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("kept, use %d: %v", i, err)
		}
	}
	must(t, kv.Check(t.Context()))
	must(t, kv.Close())
	for i, err := range []error{
		kv.View(t.Context(), func(store.Reader) error { return nil }),
		kv.Update(t.Context(), func(store.Tx) error { return nil }),
		kv.Reclaim(t.Context(), func(store.Tx) error { return nil }),
		kv.Check(t.Context()),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed, use %d: %v", i, err)
		}
	}
}
