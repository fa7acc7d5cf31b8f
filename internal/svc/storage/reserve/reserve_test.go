// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package reserve

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// disk is what transactions have made durable, which loads see.
type disk struct {
	mu     sync.Mutex
	usage  map[macronode.TenantID]refs.Usage
	loads  int
	broken error
}

func (d *disk) load(_ context.Context, t macronode.TenantID) (refs.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads++
	return d.usage[t], d.broken
}

func (d *disk) add(t macronode.TenantID, bytes, objects int64) refs.Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.usage[t]
	u.Bytes += bytes
	u.Objects += objects
	d.usage[t] = u
	return u
}

func tenant(n int) macronode.TenantID { return macronode.TenantID{0: 1, 14: byte(n >> 8), 15: byte(n)} }

func quota(bytes, objects int64) *macronode.Quota {
	q := macronode.UnlimitedQuota()
	q.StoredBytes, q.Objects = bytes, objects
	return &q
}

func open(t *testing.T, l *Ledger, id macronode.TenantID) *Hold {
	t.Helper()
	h, err := l.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRace: of many uploads at once exactly those go through that fit, whatever
// their steps; what is stored and reserved never exceeds the quota.
func TestRace(t *testing.T) {
	d := &disk{usage: map[macronode.TenantID]refs.Usage{}}
	l, id, q := New(d.load), tenant(1), quota(20*1000+999, 1000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	went := 0
	for i := range 64 {
		wg.Go(func() {
			h, err := l.Open(context.Background(), id)
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Release()
			known := int64(1000) // said in advance, or found out in steps
			if i%2 == 0 {
				known = 0
			}
			if err := h.Begin(q, known, 1<<20); err != nil {
				return
			}
			if need := 1000 - h.Bytes(); need > 0 {
				if err := h.Grow(q, need, need); err != nil {
					return
				}
			}
			if u := d.add(id, 1000, 1); u.Bytes > q.StoredBytes {
				t.Errorf("%d bytes are stored", u.Bytes)
			}
			h.Settle(1000, 1)
			mu.Lock()
			went++
			mu.Unlock()
		})
	}
	wg.Wait()
	if went != 20 || d.usage[id] != (refs.Usage{Bytes: 20_000, Objects: 20}) {
		t.Fatalf("%d went through: %+v", went, d.usage[id])
	}
	if l.Reserved() != (refs.Usage{}) {
		t.Fatalf("reserved for nobody: %+v", l.Reserved())
	}
	if d.loads != 1 {
		t.Errorf("%d looks at the metadata", d.loads)
	}
}

func kind(t *testing.T, err error, want macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != want {
		t.Fatalf("%v, want %s", err, want)
	}
}

func TestSteps(t *testing.T) {
	d := &disk{usage: map[macronode.TenantID]refs.Usage{tenant(1): {Bytes: 100, Objects: 1}}}
	l, q := New(d.load), quota(1000, 3)
	h := open(t, l, tenant(1))
	kind(t, h.Begin(q, 901, 10), macronode.QuotaBytes) // the whole must fit, though a step would
	if err := h.Begin(q, 900, 10); err != nil || h.Bytes() != 10 {
		t.Fatal(err, h.Bytes())
	}
	other := open(t, l, tenant(1))
	if err := other.Begin(q, 0, 10); err != nil {
		t.Fatal(err)
	}
	third := open(t, l, tenant(1))
	kind(t, third.Begin(q, 0, 10), macronode.QuotaObjects)
	if err := other.Grow(q, 100, 500); err != nil || other.Bytes() != 500 {
		t.Fatal(err, other.Bytes())
	}
	if err := h.Grow(q, 50, 5000); err != nil || h.Bytes() != 400 { // all that is left
		t.Fatal(err, h.Bytes())
	}
	kind(t, other.Grow(q, 1, 1), macronode.QuotaBytes)
	h.Release()
	h.Release()
	if err := other.Grow(q, 400, 400); err != nil {
		t.Fatal(err)
	}
	other.Settle(900, 1)
	if l.Reserved() != (refs.Usage{}) { // at once, not when it is released
		t.Fatalf("%+v", l.Reserved())
	}
	other.Release()
	if err := third.Begin(q, 1, 1); err == nil {
		t.Fatal("more than the quota was reserved")
	}
	if err := third.Begin(q, 0, 1); err != nil {
		t.Fatal(err)
	}
	third.Release()
	if l.Reserved() != (refs.Usage{}) {
		t.Fatalf("%+v", l.Reserved())
	}
}

// TestUnsure: after a commit of unknown outcome the account is loaded anew, once
// nobody uses it.
func TestUnsure(t *testing.T) {
	d := &disk{usage: map[macronode.TenantID]refs.Usage{}}
	l, q := New(d.load), quota(100, 10)
	h := open(t, l, tenant(1))
	if err := h.Begin(q, 60, 100); err != nil {
		t.Fatal(err)
	}
	d.add(tenant(1), 60, 1) // it did take place
	h.Unsure()
	h.Release()
	h = open(t, l, tenant(1))
	kind(t, h.Begin(q, 60, 100), macronode.QuotaBytes)
	h.Release()
}

func TestLoadFails(t *testing.T) {
	d := &disk{usage: map[macronode.TenantID]refs.Usage{}, broken: errors.New("no metadata")}
	l := New(d.load)
	if _, err := l.Open(t.Context(), tenant(1)); !errors.Is(err, d.broken) {
		t.Fatal(err)
	}
	d.broken = nil
	open(t, l, tenant(1)).Release()
	if len(l.accounts) != 1 {
		t.Fatalf("%d accounts", len(l.accounts))
	}
}

// TestIdle: accounts that nobody uses are bounded, and never wrong when they come
// back.
func TestIdle(t *testing.T) {
	d := &disk{usage: map[macronode.TenantID]refs.Usage{}}
	l, r := New(d.load), rand.New(rand.NewPCG(1, 2))
	for range 3 * keepIdle {
		id := tenant(r.IntN(2 * keepIdle))
		h := open(t, l, id)
		if h.a.stored != d.usage[id] {
			t.Fatalf("the account says %+v, stored are %+v", h.a.stored, d.usage[id])
		}
		d.add(id, 5, 1)
		h.Settle(5, 1)
		h.Release()
	}
	if len(l.accounts) > keepIdle || l.idle.Len() != len(l.accounts) {
		t.Fatalf("%d accounts, %d idle", len(l.accounts), l.idle.Len())
	}
}
