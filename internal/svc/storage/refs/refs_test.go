// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package refs

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

func FuzzDecode(f *testing.F) {
	r := Reference{Size: 5, Created: 7, Loc: "m:1", ContentType: "text/plain"}
	f.Add(r.Encode())
	f.Add([]byte{})
	f.Add(append([]byte{1}, make([]byte, 17)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err == nil && string(r.Encode()) != string(b) {
			t.Fatalf("%x decodes to %+v", b, r)
		}
	})
}

type world struct {
	t  *testing.T
	kv *mem.KV
}

func (w world) update(f func(store.Tx) error) error {
	w.t.Helper()
	return w.kv.Update(w.t.Context(), f)
}

func (w world) put(o Owner, q *macronode.Quota, loc store.Loc, size int64) error {
	w.t.Helper()
	return w.update(func(tx store.Tx) error {
		_, err := Put(tx, o, q, Reference{Size: size, Loc: loc, ContentType: DefaultContentType})
		return err
	})
}

func (w world) owners(l store.Loc) (owners []Owner) {
	w.t.Helper()
	err := w.kv.View(w.t.Context(), func(r store.Reader) (err error) { owners, err = Owners(r, l); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	return owners
}

func owner(n byte) Owner { return Owner{Tenant: macronode.TenantID{15: n}, Addr: b3.Addr{0: 7}} }

// The transaction holds a quota by itself, whoever let the upload in.
func TestPut(t *testing.T) {
	w := world{t, mem.NewKV(mem.KVConfig{})}
	q := macronode.UnlimitedQuota()
	q.StoredBytes, q.Objects = 100, 2
	if err := w.put(owner(1), &q, "a", 101); macronode.KindOf(err) != macronode.QuotaBytes {
		t.Fatal(err)
	}
	if err := w.put(owner(1), &q, "a", 100); err != nil {
		t.Fatal(err)
	}
	if err := w.put(owner(1), &q, "b", 100); err != nil { // again: nothing more
		t.Fatal(err)
	}
	other := owner(1)
	other.Addr[1] = 1
	if err := w.put(other, &q, "c", 1); macronode.KindOf(err) != macronode.QuotaBytes {
		t.Fatal(err)
	}
	if err := w.put(other, &q, "c", 0); err != nil {
		t.Fatal(err)
	}
	other.Addr[1] = 2
	if err := w.put(other, &q, "d", 0); macronode.KindOf(err) != macronode.QuotaObjects {
		t.Fatal(err)
	}
}

// Share and Move do what they were told of a moment ago only where it still holds.
func TestShare(t *testing.T) {
	w := world{t, mem.NewKV(mem.KVConfig{})}
	q := macronode.UnlimitedQuota()
	for i, l := range []store.Loc{"a", "b"} {
		if err := w.put(owner(byte(i)), &q, l, 5); err != nil {
			t.Fatal(err)
		}
	}
	share := func(o Owner, from, to store.Loc) (ok bool) {
		t.Helper()
		if err := w.update(func(tx store.Tx) (err error) { ok, err = Share(tx, o, from, to); return err }); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	move := func(from, to store.Loc) (ok bool) {
		t.Helper()
		if err := w.update(func(tx store.Tx) (err error) { ok, err = Move(tx, from, to); return err }); err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for name, ok := range map[string]bool{
		"the reference is elsewhere":  share(owner(1), "x", "a"),
		"there is no such reference":  share(owner(9), "a", "b"),
		"nobody is there":             share(owner(1), "b", "x"),
		"it is there already":         share(owner(1), "b", "b"),
		"nobody refers to it anymore": move("x", "y"),
	} {
		if ok {
			t.Errorf("%s, and it was done", name)
		}
	}
	if !share(owner(1), "b", "a") || len(w.owners("a")) != 2 || len(w.owners("b")) != 0 {
		t.Fatal(w.owners("a"), w.owners("b"))
	}
	if !move("a", "c") || len(w.owners("a")) != 0 || len(w.owners("c")) != 2 {
		t.Fatal(w.owners("a"), w.owners("c"))
	}
	for _, l := range []store.Loc{"a", "b"} {
		if err := w.kv.View(t.Context(), func(r store.Reader) error { _, err := r.Get(FreeKey(l)); return err }); err != nil {
			t.Errorf("%s does not wait to be removed: %v", l, err)
		}
	}
	if err := w.update(func(tx store.Tx) error { _, err := Drop(tx, owner(0)); return err }); err != nil {
		t.Fatal(err)
	}
	if o := w.owners("c"); len(o) != 1 || o[0] != owner(1) {
		t.Fatal(o)
	}
}

func FuzzParseOwners(f *testing.F) {
	f.Add(make([]byte, 48))
	f.Add(make([]byte, 47))
	f.Fuzz(func(t *testing.T, b []byte) {
		owners, err := ParseOwners(b)
		if err == nil && len(owners)*48 != len(b) {
			t.Fatalf("%d bytes are %d owners", len(b), len(owners))
		}
	})
}
