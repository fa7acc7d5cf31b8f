// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// auditor keeps what it is told.
type auditor struct {
	mu     sync.Mutex
	events []macronode.AuditEvent
}

func (a *auditor) Record(e macronode.AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

func (a *auditor) Append(_ context.Context, e macronode.AuditEvent) error { a.Record(e); return nil }

func (a *auditor) all() []macronode.AuditEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]macronode.AuditEvent(nil), a.events...)
}

func status(t testing.TB, d *storagetest.Driver) (s storage.Status) {
	t.Helper()
	a, err := d.Do(storagetest.Request{Tenant: storagetest.Tenant(0), Op: "admin.storage"})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(a.Body, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// The scrub finds damage that nobody has read, names it once, and a put ends it.
func TestScrub(t *testing.T) {
	e, audit := memEnv(t), &auditor{}
	objects := &faultObjects{Objects: e.Objects}
	e.Objects = objects
	counted := prometheus.NewCounter(prometheus.CounterOpts{Name: "scrub"})
	setup := func(c *storage.Config) {
		c.CollectEvery, c.ScrubRate, c.Audit, c.Metrics.ScrubFail = -1, 1<<40, audit, counted
	}
	d, one, two := storagetest.NewDriver(t, e, setup), storagetest.Tenant(1), storagetest.Tenant(2)
	bad, fine := storagetest.Bytes(2<<20, 1), storagetest.Bytes(2<<20, 2)
	d.MustPut(one, bad)
	d.MustPut(two, bad)
	collectNow(t, d, "") // now they share it
	objects.damageAll(t, 1<<20+5)
	d.MustPut(one, fine)
	stop := d.Serve()
	storagetest.Eventually(t, func() bool { return len(audit.all()) == 2 })
	s := status(t, d)
	if s.Quarantined != 1 || len(s.Damaged) != 1 || s.Damaged[0].Addr != storagetest.Addr(bad) || len(s.Damaged[0].Tenants) != 2 || s.Damaged[0].Where != "scrub" {
		t.Fatalf("%+v", s)
	}
	for _, ev := range audit.all() {
		if ev.Kind != "object.damaged" || ev.Subject != "object/"+storagetest.Addr(bad) || ev.Reason != "integrity" {
			t.Fatalf("%+v", ev)
		}
	}
	if value(t, counted) != 1 {
		t.Fatalf("counted %v times", value(t, counted))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// Another round names nothing again; reads are refused, not wrong.
	stop = d.Serve()
	storagetest.Eventually(t, func() bool { s := status(t, d); return s.Scrub.EndedMS > 0 && s.Scrub.Objects > 0 })
	mustGet(t, d, one, fine)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if len(audit.all()) != 2 || value(t, counted) != 1 {
		t.Fatalf("named again: %+v", audit.all())
	}
	for _, tn := range []*macronode.Tenant{one, two} {
		d.MustPut(tn, bad)
		mustGet(t, d, tn, bad)
	}
	if s := status(t, d); s.Quarantined != 0 {
		t.Fatalf("still in quarantine: %+v", s)
	}
}

// What a reply meets is quarantined too; what verifies again is released.
func TestQuarantineByRead(t *testing.T) {
	e, audit := memEnv(t), &auditor{}
	objects := &faultObjects{Objects: e.Objects}
	e.Objects = objects
	d, tn := storagetest.NewDriver(t, e, quiet, func(c *storage.Config) { c.Audit = audit }), storagetest.Tenant(1)
	stop := d.Serve()
	for _, n := range []int{10, 300_000} {
		body := storagetest.Bytes(n, 1)
		d.MustPut(tn, body)
		objects.damageAll(t, 0)
		before := len(audit.all())
		for range 2 {
			_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: storagetest.Addr(body)})
			wantKind(t, err, macronode.Integrity)
		}
		storagetest.Eventually(t, func() bool { return len(audit.all()) == before+1 })
		if s := status(t, d); len(s.Damaged) != 1 || s.Damaged[0].Where != "object" {
			t.Fatalf("%+v", s)
		}
		d.MustPut(tn, body)
		if s := status(t, d); s.Quarantined != 0 {
			t.Fatalf("%+v", s)
		}
	}
	body := storagetest.Bytes(20, 2)
	d.MustPut(tn, body)
	objects.damageAll(t, 0)
	_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: storagetest.Addr(body)})
	wantKind(t, err, macronode.Integrity)
	storagetest.Eventually(t, func() bool { return status(t, d).Quarantined == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	objects.mu.Lock()
	objects.damage = nil // the cable was loose
	objects.mu.Unlock()
	again := storagetest.NewDriver(t, e, func(c *storage.Config) { c.CollectEvery, c.ScrubRate = -1, 1<<40 })
	again.Serve()
	storagetest.Eventually(t, func() bool { return status(t, again).Quarantined == 0 })
}

// Bytes that are gone are damage; bytes of an object that was dropped are not.
func TestScrubMissing(t *testing.T) {
	e, audit := memEnv(t), &auditor{}
	d, tn := storagetest.NewDriver(t, e, func(c *storage.Config) { c.CollectEvery, c.ScrubRate, c.Audit = -1, 1<<40, audit }), storagetest.Tenant(1)
	body := storagetest.Bytes(10, 1)
	d.MustPut(tn, body)
	var loc store.Loc
	if err := store.Walk(context.Background(), e.Objects, func(l store.Loc, _ b3.Addr, _ int64) bool { loc = l; return true }); err != nil {
		t.Fatal(err)
	}
	if err := e.Objects.Remove(context.Background(), loc); err != nil {
		t.Fatal(err)
	}
	d.Serve()
	storagetest.Eventually(t, func() bool { return len(audit.all()) == 1 })
}
