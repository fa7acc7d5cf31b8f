// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"errors"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

func TestObjectsPacked(t *testing.T) {
	storetest.Objects(t, func(*testing.T) store.Objects { return NewObjects(ObjectsConfig{PackBytes: 10_000}) })
}

// TestPacks: what is removed from a pack takes its room until the pack is empty.
func TestPacks(t *testing.T) {
	s := NewObjects(ObjectsConfig{MaxBytes: 4000, PackBytes: 3000})
	var locs []store.Loc
	for i := range 4 {
		o, err := storetest.Put(t.Context(), s, storetest.Bytes(1000, uint64(i)), 500)
		if err != nil {
			t.Fatal(err)
		}
		locs = append(locs, o.Loc)
	}
	list, err := s.Volumes(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	sealed := func() (v store.Volume, ok bool) {
		list, err := s.Volumes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			if v.Sealed {
				return v, true
			}
		}
		return v, false
	}
	if err := s.Remove(t.Context(), locs[:2]...); err != nil {
		t.Fatal(err)
	}
	v, ok := sealed()
	if !ok || v.Live != 1000 || v.Dead != 2000 || !v.Movable {
		t.Errorf("%+v", v)
	}
	if _, err := storetest.Put(t.Context(), s, []byte("x"), 1); !errors.Is(err, store.ErrFull) {
		t.Errorf("dead bytes take no room: %v", err)
	}
	if err := s.Settle(t.Context(), v.ID); err != nil {
		t.Fatal(err)
	}
	if v, _ := sealed(); !v.Settled {
		t.Error("not settled")
	}
	if err := s.Remove(t.Context(), locs[2]); err != nil {
		t.Fatal(err)
	}
	if v, ok := sealed(); ok {
		t.Errorf("%+v is empty", v)
	}
	if _, err := storetest.Put(t.Context(), s, storetest.Bytes(3000, 1), 100); err != nil {
		t.Errorf("its room is not free: %v", err)
	}
}
