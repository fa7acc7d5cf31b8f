// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
	"github.com/rustyonions/macronode/internal/store/storetest/logtest"
)

func TestKV(t *testing.T) {
	storetest.KV(t, func(*testing.T) store.KV { return NewKV(KVConfig{}) })
}

func TestObjects(t *testing.T) {
	storetest.Objects(t, func(*testing.T) store.Objects { return NewObjects(ObjectsConfig{}) })
}

func TestKVBound(t *testing.T) {
	kv := NewKV(KVConfig{MaxBytes: 10_000, ReserveBytes: 5_000})
	put := func(f func(func(store.Tx) error) error, key string, n int) error {
		return f(func(tx store.Tx) error { return tx.Set([]byte(key), make([]byte, n)) })
	}
	update := func(f func(store.Tx) error) error { return kv.Update(t.Context(), f) }
	reclaim := func(f func(store.Tx) error) error { return kv.Reclaim(t.Context(), f) }
	for i := range 4 {
		if err := put(update, fmt.Sprint(i), 2000); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(update, "more", 3000); !errors.Is(err, store.ErrFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	if err := put(reclaim, "more", 3000); err != nil {
		t.Errorf("from the reserve: %v", err)
	}
	if err := put(reclaim, "too much", 9000); !errors.Is(err, store.ErrFull) {
		t.Errorf("beyond the reserve: %v", err)
	}
	if err := put(update, "0", 0); err != nil {
		t.Errorf("smaller: %v", err)
	}
	if err := reclaim(func(tx store.Tx) error { return errors.Join(tx.Delete([]byte("more")), tx.Delete([]byte("1"))) }); err != nil {
		t.Error(err)
	}
	if err := put(update, "again", 3000); err != nil {
		t.Errorf("after freeing: %v", err)
	}
	for _, key := range []string{"0", "1", "2", "3", "more", "again"} {
		if err := reclaim(func(tx store.Tx) error { return tx.Delete([]byte(key)) }); err != nil {
			t.Error(err)
		}
	}
	if got := kv.state.Load().bytes; got != 0 {
		t.Errorf("%d bytes of nothing", got)
	}
}

func TestObjectsBound(t *testing.T) {
	s := NewObjects(ObjectsConfig{MaxBytes: 100_000})
	if _, err := s.Create(t.Context(), 100_001); !errors.Is(err, store.ErrFull) {
		t.Errorf("by its hint: %v", err)
	}
	a, err := storetest.Put(t.Context(), s, make([]byte, 60_000), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storetest.Put(t.Context(), s, make([]byte, 40_000), 1000); err != nil {
		t.Errorf("to the bound: %v", err)
	}
	w, err := s.Create(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1)); !errors.Is(err, store.ErrFull) {
		t.Errorf("beyond: %v", err)
	}
	w.Abort()
	if err := s.Remove(t.Context(), a.Loc); err != nil {
		t.Fatal(err)
	}
	if _, err := storetest.Put(t.Context(), s, make([]byte, 60_000), 1000); err != nil {
		t.Errorf("after freeing: %v", err)
	}
	if got := s.used.Load(); got != 100_000 {
		t.Errorf("%d bytes used", got)
	}
}

func BenchmarkKV(b *testing.B) {
	kv := NewKV(KVConfig{})
	key := func(i int) []byte { return fmt.Appendf(nil, "object/%08d", i*7919%100_000) }
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if err := kv.Update(b.Context(), func(tx store.Tx) error { return tx.Set(key(i), make([]byte, 100)) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("view", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			_ = kv.View(b.Context(), func(r store.Reader) error { _, err := r.Get(key(i)); return err })
		}
	})
}

func TestLog(t *testing.T) {
	logtest.Log(t, func(*testing.T) store.Log { return NewLog(128 << 20) })
}
