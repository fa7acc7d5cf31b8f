// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fsck_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/storage/fsck"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// stores hold a few objects of two tenants, one of them shared.
type stores struct {
	t       *testing.T
	kv      *mem.KV
	objects *mem.Objects
	owners  []refs.Owner
	locs    []store.Loc
}

func tenant(n byte) macronode.TenantID { return macronode.TenantID{0: 1, 15: n} }

func newStores(t *testing.T) *stores {
	s := &stores{t: t, kv: mem.NewKV(mem.KVConfig{}), objects: mem.NewObjects(mem.ObjectsConfig{})}
	for i := range 6 {
		s.put(tenant(byte(1+i%2)), fmt.Sprintf("object %d", i))
	}
	s.put(tenant(1), "shared")
	s.put(tenant(2), "shared")
	s.update(func(tx store.Tx) error {
		ok, err := refs.Share(tx, s.owners[7], s.locs[7], s.locs[6])
		if err == nil && !ok {
			t.Error("was not shared")
		}
		return err
	})
	return s
}

func (s *stores) put(t macronode.TenantID, text string) {
	s.t.Helper()
	loc, addr, size := s.store(text)
	o, q := refs.Owner{Tenant: t, Addr: addr}, macronode.UnlimitedQuota()
	s.update(func(tx store.Tx) error {
		_, err := refs.Put(tx, o, &q, refs.Reference{Size: size, Loc: loc, ContentType: refs.DefaultContentType})
		return err
	})
	s.owners, s.locs = append(s.owners, o), append(s.locs, loc)
}

func (s *stores) store(text string) (store.Loc, b3.Addr, int64) {
	s.t.Helper()
	w, err := s.objects.Create(s.t.Context(), -1)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	loc, addr, size, err := w.Commit()
	if err != nil {
		s.t.Fatal(err)
	}
	return loc, addr, size
}

func (s *stores) update(f func(store.Tx) error) {
	s.t.Helper()
	if err := s.kv.Update(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stores) check(repair bool) *fsck.Result {
	s.t.Helper()
	r, err := fsck.Check(s.t.Context(), s.kv, s.objects, fsck.Options{Repair: repair, NowMS: 7})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func TestClean(t *testing.T) {
	s := newStores(t)
	r := s.check(false)
	if r.Lost+r.Left+r.Fixed != 0 || r.Objects != 8 || r.Tenants != 2 || r.Keys == 0 || r.Volumes != 1 || len(r.Findings) != 0 {
		t.Fatalf("%+v", r)
	}
	if r := s.check(true); r.Lost+r.Left+r.Fixed != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestMends: each way in which the stores can disagree is found, named, and mended
// without a loss; after that they agree.
func TestMends(t *testing.T) {
	set := func(key string, value []byte) func(*stores) {
		return func(s *stores) { s.update(func(tx store.Tx) error { return tx.Set([]byte(key), value) }) }
	}
	drop := func(key func(*stores) string) func(*stores) {
		return func(s *stores) { s.update(func(tx store.Tx) error { return tx.Delete([]byte(key(s))) }) }
	}
	one := tenant(1)
	for name, c := range map[string]struct {
		damage func(*stores)
		kind   string
		n      int64
	}{
		"no owner":          {drop(func(s *stores) string { return refs.LocPrefix + string(s.locs[0]) }), fsck.NoOwner, 1},
		"unreadable owners": {func(s *stores) { set(refs.LocPrefix+string(s.locs[1]), []byte("short"))(s) }, fsck.NoOwner, 1},
		"one owner of two": {func(s *stores) {
			s.update(func(tx store.Tx) error { return refs.SetOwners(tx, s.locs[6], s.owners[6:7]) })
		}, fsck.NoOwner, 1},
		"an owner too many": {func(s *stores) {
			s.update(func(tx store.Tx) error { return refs.SetOwners(tx, s.locs[2], []refs.Owner{s.owners[2], s.owners[3]}) })
		}, fsck.StaleOwner, 1},
		"owners of nothing":  {set(refs.LocPrefix+"nowhere", make([]byte, 48)), fsck.StaleOwner, 1},
		"unreadable, unused": {set(refs.LocPrefix+"nowhere", []byte("short")), fsck.StaleOwner, 1},
		"usage too high": {func(s *stores) {
			s.update(func(tx store.Tx) error { return refs.SetUsage(tx, one, refs.Usage{Bytes: 1000, Objects: 4}) })
		}, fsck.WrongUsage, 1},
		"usage unreadable": {set(refs.UsagePrefix+string(one[:]), []byte{1}), fsck.WrongUsage, 1},
		"usage of nobody":  {set(refs.UsagePrefix+"nobody", []byte{1}), fsck.WrongUsage, 1},
		"usage of a stranger": {func(s *stores) {
			s.update(func(tx store.Tx) error { return refs.SetUsage(tx, tenant(9), refs.Usage{Bytes: 1}) })
		}, fsck.WrongUsage, 1},
		"in use and released": {func(s *stores) { set(string(refs.FreeKey(s.locs[4])), nil)(s) }, fsck.WrongQueue, 1},
		"quarantine of good bytes": {func(s *stores) {
			s.update(func(tx store.Tx) error { _, err := refs.Quarantine(tx, s.locs[4], 5, "scrub"); return err })
		}, fsck.StaleMark, 1},
		"quarantine of nothing": {set(refs.BadPrefix+"nowhere", make([]byte, 9)), fsck.StaleMark, 1},
		"unreferenced":          {func(s *stores) { s.store("nobody's"); s.store("nor this") }, fsck.Unreferenced, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStores(t)
			c.damage(s)
			r := s.check(false)
			if r.Counts[c.kind] != c.n || r.Left != c.n || r.Lost+r.Fixed != 0 {
				t.Fatalf("found: %+v", r)
			}
			if again := s.check(false); again.Left != r.Left {
				t.Fatalf("a check without repair changed something: %+v", again)
			}
			if r := s.check(true); r.Counts[c.kind] != c.n || r.Fixed != c.n || r.Lost+r.Left != 0 {
				t.Fatalf("mended: %+v", r)
			}
			if r := s.check(false); r.Lost+r.Left+r.Fixed != 0 || r.Objects != 8 {
				t.Fatalf("afterwards: %+v", r)
			}
		})
	}
}

func TestLost(t *testing.T) {
	for name, damage := range map[string]func(*stores){
		"bytes are gone": func(s *stores) {
			if err := s.objects.Remove(context.Background(), s.locs[0]); err != nil {
				s.t.Fatal(err)
			}
		},
		"other bytes": func(s *stores) {
			s.update(func(tx store.Tx) error {
				ref, err := refs.Get(tx, s.owners[0])
				if err != nil {
					return err
				}
				ref.Loc = s.locs[1]
				if err := refs.SetOwners(tx, s.locs[1], []refs.Owner{s.owners[0], s.owners[1]}); err != nil {
					return err
				}
				return errJoin(tx.Set(s.owners[0].Key(), ref.Encode()), refs.LetGo(tx, s.locs[0]))
			})
		},
		"unreadable reference": func(s *stores) {
			s.update(func(tx store.Tx) error { return tx.Set(s.owners[0].Key(), []byte("?")) })
		},
		"unreadable key": func(s *stores) {
			s.update(func(tx store.Tx) error { return tx.Set([]byte(refs.RefPrefix+"?"), nil) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStores(t)
			damage(s)
			if r := s.check(false); r.Lost != 1 || r.Findings[0].Fixed {
				t.Fatalf("%+v", r)
			}
			if r := s.check(true); r.Lost != 1 {
				t.Fatalf("%+v", r)
			}
			// What is left agrees with itself: damage is confined.
			if r := s.check(true); r.Lost > 1 || r.Left+r.Fixed != 0 {
				t.Fatalf("afterwards: %+v", r)
			}
		})
	}
}

func errJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestProgress: long work says how far it is.
func TestProgress(t *testing.T) {
	s := newStores(t)
	phases := map[string]bool{}
	_, err := fsck.Check(t.Context(), s.kv, s.objects, fsck.Options{Progress: func(p fsck.Progress) { phases[p.Phase] = true }})
	if err != nil || !phases["metadata"] || !phases["objects"] || !phases["volumes"] {
		t.Fatal(err, phases)
	}
}

func TestManyFindings(t *testing.T) {
	s := newStores(t)
	s.update(func(tx store.Tx) error {
		for i := range 1500 {
			if err := tx.Set(append([]byte(refs.LocPrefix), binary.BigEndian.AppendUint32(nil, uint32(i))...), make([]byte, 48)); err != nil {
				return err
			}
		}
		return nil
	})
	if r := s.check(true); r.Fixed != 1500 || len(r.Findings) != 1000 {
		t.Fatalf("%d mended, %d named", r.Fixed, len(r.Findings))
	}
	if r := s.check(false); r.Left+r.Lost != 0 {
		t.Fatalf("%+v", r)
	}
}
