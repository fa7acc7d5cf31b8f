// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// volumes returns what the store lists, by id.
func volumes(t testing.TB, s store.Objects) map[string]store.Volume {
	t.Helper()
	list, err := s.Volumes(t.Context())
	must(t, err)
	m := make(map[string]store.Volume, len(list))
	for _, v := range list {
		if len(v.ID) == 0 || len(v.ID) > 40 || m[v.ID].ID != "" {
			t.Fatalf("volume %q, listed before: %v", v.ID, m[v.ID].ID != "")
		}
		for _, c := range []byte(v.ID) {
			if c <= ' ' || c > '~' {
				t.Fatalf("volume %q", v.ID)
			}
		}
		if v.Live < -1 || v.Dead < -1 || v.Settled && !v.Sealed {
			t.Fatalf("%+v", v)
		}
		m[v.ID] = v
	}
	return m
}

// objVolumes: every object is in one volume, whose walk finds it.
func objVolumes(t *testing.T, s store.Objects) {
	if n := len(volumes(t, s)); n != 0 {
		t.Errorf("%d volumes of an empty store", n)
	}
	want := map[store.Loc]Stored{}
	for i := range 60 {
		n := i * 20
		if i%6 == 0 {
			n = 150_000 + i
		}
		o := put(t, s, Bytes(n, uint64(i)))
		want[o.Loc] = o
	}
	found := map[store.Loc]bool{}
	for id, v := range volumes(t, s) {
		n := 0
		must(t, s.WalkVolume(t.Context(), id, func(loc store.Loc, addr b3.Addr, size int64) bool {
			if want[loc] != (Stored{loc, addr, size}) || found[loc] {
				t.Errorf("in %s: %v, found before: %v", id, Stored{loc, addr, size}, found[loc])
			}
			found[loc] = true
			n++
			return true
		}))
		if n == 0 {
			t.Errorf("%s is empty", id)
		}
		if !v.Sealed {
			if err := s.Settle(t.Context(), id); !errors.Is(err, store.ErrRange) {
				t.Errorf("an open volume is settled: %v", err)
			}
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d of %d found", len(found), len(want))
	}
	for _, id := range []string{"", "x", "../..", "p:00", "f:00"} {
		must(t, s.Settle(t.Context(), id))
		must(t, s.WalkVolume(t.Context(), id, func(store.Loc, b3.Addr, int64) bool {
			t.Errorf("volume %q has objects", id)
			return false
		}))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Volumes(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("context: %v", err)
	}
}

// objMany removes many at once, and what is not there.
func objMany(t *testing.T, s store.Objects) {
	must(t, s.Remove(t.Context()))
	var locs []store.Loc
	var kept []Stored
	for i := range 80 {
		n := i * 10
		if i%10 == 0 {
			n = 140_000
		}
		o := put(t, s, Bytes(n, uint64(i)))
		if i%3 == 0 {
			kept = append(kept, o)
		} else {
			locs = append(locs, o.Loc)
		}
	}
	must(t, s.Remove(t.Context(), append([]store.Loc{"", "nowhere", locs[0]}, locs...)...))
	must(t, s.Remove(t.Context(), locs...))
	if n := count(t, s); n != len(kept) {
		t.Errorf("%d objects, want %d", n, len(kept))
	}
	for _, o := range kept {
		if _, err := ReadAll(t.Context(), s, o); err != nil {
			t.Errorf("%d bytes: %v", o.Size, err)
		}
		must(t, s.Remove(t.Context(), o.Loc))
	}
	if n := count(t, s); n != 0 {
		t.Errorf("%d objects", n)
	}
}

// objSmall: a small object can be read, removed and closed by many at once, and
// nobody sees another's bytes.
func objSmall(t *testing.T, s store.Objects) {
	var objs []Stored
	for i := range 40 {
		objs = append(objs, put(t, s, bytes.Repeat([]byte{byte(i)}, 200+i)))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			p := make([]byte, 300)
			for i := range 400 {
				n := (i*7 + w*13) % len(objs)
				r, err := s.Open(t.Context(), objs[n].Loc, objs[n].Addr, objs[n].Size)
				if err != nil {
					t.Error(err)
					return
				}
				var twice sync.WaitGroup
				twice.Go(func() { _ = r.Close() })
				m, err := r.ReadAt(p, 0)
				if !errors.Is(err, io.EOF) && !errors.Is(err, store.ErrClosed) || !bytes.Equal(p[:m], bytes.Repeat([]byte{byte(n)}, m)) {
					t.Errorf("%d: %d bytes, %v", n, m, err)
				}
				if _, err := r.WriteRange(&oneByte{t, byte(n)}, 3, 100); err != nil && !errors.Is(err, store.ErrClosed) {
					t.Error(err)
				}
				twice.Wait()
			}
		})
	}
	wg.Wait()
}

// oneByte takes bytes of one value.
type oneByte struct {
	t    *testing.T
	want byte
}

func (s *oneByte) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != s.want {
			s.t.Errorf("%d among %d", c, s.want)
			break
		}
	}
	return len(p), nil
}

// objParent: the parents are those of the object's tree.
func objParent(t *testing.T, s store.Objects) {
	for _, groups := range []int{1, 2, 3, 8, 9, 40} {
		data := Bytes(groups*b3.GroupBytes-100, uint64(groups))
		var tree bytes.Buffer
		h := b3.NewHasher(&tree)
		_, _ = h.Write(data) // a bytes.Buffer takes everything
		_, err := h.Sum()
		must(t, err)
		r := open(t, s, put(t, s, data))
		if groups >= 2 {
			for _, c := range [][2]int64{{0, int64(groups)}, {0, 2}} {
				want := tree.Bytes()[b3.ParentOffset(c[0], c[1]):][:b3.ParentBytes]
				if p, err := r.Parent(c[0], c[1]); err != nil || !bytes.Equal(p[:], want) {
					t.Errorf("%d groups, parent %v: %v", groups, c, err)
				}
			}
			if _, err := r.Parent(int64(groups)-1, 2); err == nil {
				t.Errorf("%d groups: a parent beyond the end", groups)
			}
		}
		if _, err := r.Parent(0, 1); !errors.Is(err, store.ErrRange) {
			t.Errorf("%d groups: parent of one: %v", groups, err)
		}
		must(t, r.Close())
		if _, err := r.Parent(0, 2); !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

// ObjectsReopen runs what needs a second process: open is called again on the same
// place after the store was closed.
func ObjectsReopen(t *testing.T, open func(t *testing.T) store.Objects) {
	s := open(t)
	var all []Stored
	for i := range 50 {
		n := i * 15
		if i%10 == 0 {
			n = 140_000 + i
		}
		all = append(all, put(t, s, Bytes(n, uint64(i))))
	}
	must(t, s.Close())
	s = open(t)
	was := volumes(t, s)
	for id, v := range was {
		if !v.Sealed || v.Settled {
			t.Errorf("after a restart: %+v", v)
		}
		if _, ok := volumes(t, s)[id]; !ok {
			t.Errorf("%s is listed once", id)
		}
		must(t, s.Settle(t.Context(), id))
		if v := volumes(t, s)[id]; !v.Settled {
			t.Errorf("settled: %+v", v)
		}
	}
	for i := range 10 { // nothing of it goes to a sealed volume
		put(t, s, Bytes(100, uint64(i)))
		put(t, s, Bytes(150_000, uint64(i)))
	}
	before := 0
	for id := range was {
		must(t, s.WalkVolume(t.Context(), id, func(store.Loc, b3.Addr, int64) bool { before++; return true }))
	}
	if before != len(all) || count(t, s) != len(all)+20 {
		t.Errorf("%d in the old volumes, %d in all", before, count(t, s))
	}
	must(t, s.Close())
	s = open(t)
	for id := range was {
		if v := volumes(t, s)[id]; !v.Settled {
			t.Errorf("settled before the restart: %+v", v)
		}
	}
	for _, o := range all {
		must(t, s.Remove(t.Context(), o.Loc))
	}
	for id := range volumes(t, s) {
		if was[id].ID != "" {
			t.Errorf("%s is empty and there", id)
		}
		must(t, s.WalkVolume(t.Context(), id, func(loc store.Loc, _ b3.Addr, _ int64) bool {
			return s.Remove(t.Context(), loc) == nil
		}))
	}
	if v := volumes(t, s); len(v) != 0 {
		t.Errorf("left: %v", v)
	}
	must(t, s.Close())
}
