// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// heard is what a listener was told; with fail set it refuses.
type heard struct {
	fail error
	told []string
}

func (h *heard) hear(what string) error {
	if h.fail == nil {
		h.told = append(h.told, what)
	}
	return h.fail
}

func (h *heard) Put(_ store.Tx, _ macronode.TenantID, a b3.Addr) error {
	return h.hear("+" + a.String())
}
func (h *heard) Deleted(_ store.Tx, _ macronode.TenantID, a b3.Addr) error {
	return h.hear("-" + a.String())
}
func (h *heard) Purged(store.Tx, macronode.TenantID) error { return h.hear("purged") }

// TestChangesAreRecorded: each change is told in its transaction, and one that cannot be
// told is not made.
func TestChangesAreRecorded(t *testing.T) {
	h := &heard{}
	d, tn := storagetest.NewDriver(t, memEnv(t), func(c *storage.Config) { c.Changes = h }), storagetest.Tenant(1)
	a, b := d.MustPut(tn, []byte("first")), d.MustPut(tn, []byte("second"))
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: a}); err != nil {
		t.Fatal(err)
	}
	if err := d.Service.Purge(t.Context(), tn.ID); err != nil {
		t.Fatal(err)
	}
	want := []string{"+" + a, "+" + b, "-" + a, "purged"}
	if len(h.told) != len(want) {
		t.Fatalf("told %q, want %q", h.told, want)
	}
	for i := range want {
		if h.told[i] != want[i] {
			t.Errorf("change %d was told as %s, want %s", i, h.told[i], want[i])
		}
	}
	kept := d.MustPut(tn, []byte("third"))
	h.fail = errors.New("no")
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.post", Body: []byte("fourth"), Length: 6}); err == nil {
		t.Error("a put that could not be told was made")
	}
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: kept}); err == nil {
		t.Error("a deletion that could not be told was made")
	}
	if err := d.Service.Purge(t.Context(), tn.ID); err == nil {
		t.Error("a purge that could not be told was made")
	}
	if _, n := d.Usage(tn); n != 1 {
		t.Errorf("%d objects are left, want 1", n)
	}
}

// TestLookInto: what parts of the node see of a tenant's objects.
func TestLookInto(t *testing.T) {
	d, tn, other := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1), storagetest.Tenant(2)
	body := storagetest.Bytes(5000, 1)
	want := map[b3.Addr]bool{}
	for i := range 25 {
		addr, err := b3.Parse(d.MustPut(tn, storagetest.Bytes(100, uint64(i))))
		if err != nil {
			t.Fatal(err)
		}
		want[addr] = true
	}
	addr, err := b3.Parse(d.MustPut(tn, body))
	if err != nil {
		t.Fatal(err)
	}
	want[addr] = true
	d.MustPut(other, storagetest.Bytes(10, 3))
	s, ctx := d.Service.Look(), t.Context()
	var last *b3.Addr
	for {
		page, err := s.Page(ctx, tn.ID, last, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page {
			if !want[f.Addr] || last != nil && bytes.Compare(f.Addr[:], last[:]) <= 0 {
				t.Fatalf("%s is listed twice, out of order, or is another's", f.Addr)
			}
			delete(want, f.Addr)
			last = &f.Addr
		}
		if len(page) < 10 {
			break
		}
	}
	if len(want) > 0 {
		t.Fatalf("%d objects are not listed", len(want))
	}
	f, err := s.Lookup(ctx, tn.ID, addr)
	if err != nil || f.Size != 5000 || f.CreatedMS == 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	if p, err := s.ReadPart(ctx, tn.ID, addr, 700); err != nil || !bytes.Equal(p, body[:700]) {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	if p, err := s.ReadPart(ctx, tn.ID, addr, 1<<20); err != nil || !bytes.Equal(p, body) {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	if _, err := s.Lookup(ctx, other.ID, addr); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a stranger's look-up: %v", err)
	}
	if _, err := s.ReadPart(ctx, other.ID, addr, 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a stranger reads: %v", err)
	}
	var tenants []macronode.TenantID
	if err := s.Tenants(ctx, func(id macronode.TenantID) bool { tenants = append(tenants, id); return true }); err != nil || len(tenants) != 2 {
		t.Fatalf("%d tenants, %v", len(tenants), err)
	}
}
