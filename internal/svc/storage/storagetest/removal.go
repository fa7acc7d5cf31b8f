// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"context"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

func deleteFreesBytes(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	stop := d.Serve()
	for i := range 20 {
		addr := d.MustPut(tn, Bytes(1000, uint64(i)))
		if a, err := d.Do(Request{Tenant: tn, Op: "object.delete", Addr: addr}); err != nil || a.Status != 204 || len(a.Body) > 0 {
			t.Fatalf("delete: %v %+v", err, a)
		}
		_, err := d.Do(Request{Tenant: tn, Op: "object.delete", Addr: addr})
		want(t, err, macronode.NotFound)
		_, err = d.Do(Request{Tenant: tn, Op: "object.get", Addr: addr})
		want(t, err, macronode.NotFound)
	}
	Eventually(t, func() bool { return d.Stored() == 0 })
	nothing(t, d, tn)
	stopped(t, stop)
	d.Index()
}

// deleteUnderReader: a reply that has begun is finished.
func deleteUnderReader(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	d.Serve()
	body := Bytes(1<<20, 9)
	addr := d.MustPut(tn, body)
	r, err := d.Reply(Request{Tenant: tn, Op: "object.get", Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Do(Request{Tenant: tn, Op: "object.delete", Addr: addr}); err != nil {
		t.Fatal(err)
	}
	// Another delete's bytes go meanwhile: the remover has had its turn.
	second := d.MustPut(tn, Bytes(10, 10))
	if _, err := d.Do(Request{Tenant: tn, Op: "object.delete", Addr: second}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func() bool { return d.Stored() == 1 })
	var buf bytes.Buffer
	if _, err := r.Stream.WriteTo(&buf); err != nil || !bytes.Equal(buf.Bytes(), body) {
		t.Fatalf("the reply broke: %v after %d bytes", err, buf.Len())
	}
	if err := r.Stream.Close(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func() bool { return d.Stored() == 0 })
}

func purge(t *testing.T, e Env) {
	d, tn, other := NewDriver(t, e), Tenant(1), Tenant(2)
	stop := d.Serve()
	for i := range 600 {
		d.MustPut(tn, Bytes(20, uint64(i)))
	}
	kept := d.MustPut(other, Bytes(20, 1))
	for range 2 {
		if err := d.Service.Purge(context.Background(), tn.ID); err != nil {
			t.Fatal(err)
		}
	}
	if b, o := d.Usage(tn); b != 0 || o != 0 {
		t.Fatalf("usage %d %d", b, o)
	}
	Eventually(t, func() bool { return d.Stored() == 1 })
	if _, err := d.Do(Request{Tenant: other, Op: "object.get", Addr: kept}); err != nil {
		t.Fatal(err)
	}
	stopped(t, stop)
	d.Index()
}

// stopped ends the service, which finishes the removal that it is at.
func stopped(t *testing.T, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// orphans: bytes that a crash left between commit and reference go at the next
// start; everything that is referred to stays.
func orphans(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	body := Bytes(30_000, 14)
	addr := d.MustPut(tn, body)
	for i := range 5 {
		w, err := e.Objects.Create(context.Background(), -1)
		if err != nil {
			t.Fatal(err)
		}
		b := Bytes(100+i, 15)
		if i == 0 {
			b = body // the same bytes as an object that is wanted
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if d.Stored() != 6 {
		t.Fatalf("%d stored", d.Stored())
	}
	d.Serve()
	Eventually(t, func() bool { return d.Stored() == 1 })
	if a, err := d.Do(Request{Tenant: tn, Op: "object.get", Addr: addr}); err != nil || !bytes.Equal(a.Body, body) {
		t.Fatalf("get: %v", err)
	}
	if err := e.KV.View(context.Background(), func(r store.Reader) error {
		return r.Scan([]byte("object/free/"), []byte("object/free0"), func(k, _ []byte) bool {
			t.Errorf("left in the queue: %q", k)
			return true
		})
	}); err != nil {
		t.Fatal(err)
	}
}
