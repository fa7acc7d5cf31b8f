// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

func tenant(n byte) macronode.TenantID { return macronode.TenantID{0: 1, 15: n} }

func open(t testing.TB, kv store.KV, limit uint64) *Journal {
	t.Helper()
	j, err := Open(t.Context(), Config{KV: kv, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func record(t testing.TB, kv store.KV, j *Journal, list ...Change) {
	t.Helper()
	if err := kv.Update(t.Context(), func(tx store.Tx) error {
		for _, c := range list {
			if err := j.Record(tx, c); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func enroll(t testing.TB, j *Journal, name string) Place {
	t.Helper()
	p, err := j.Enroll(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t testing.TB, j *Journal, after uint64) []Change {
	t.Helper()
	list, err := j.Read(t.Context(), after, MaxRead)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func keys(t testing.TB, kv store.KV) (n int) {
	t.Helper()
	err := kv.View(t.Context(), func(r store.Reader) error {
		n = 0
		return r.Scan([]byte("journal/c/"), []byte("journal/c0"), func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func put(n byte) Change { return Change{Tenant: tenant(n), Kind: ObjectPut, Addr: b3.Sum([]byte{n})} }

func TestOrderAndRestart(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 0)
	p := enroll(t, j, "search")
	if !p.New {
		t.Fatal("the first place is not new")
	}
	at := time.UnixMilli(1_800_000_000_123).UTC()
	want := []Change{
		{Tenant: tenant(1), Kind: ObjectPut, Addr: b3.Sum([]byte("a")), At: at},
		{Tenant: tenant(2), Kind: NameSet, Name: "report.2026", Addr: b3.Sum([]byte("b")), Version: 7, At: at},
		{Tenant: tenant(1), Kind: ObjectDeleted, Addr: b3.Sum([]byte("a")), At: at},
		{Tenant: tenant(2), Kind: NameDeleted, Name: "report.2026", Version: 8, At: at},
		{Tenant: tenant(1), Kind: TenantPurged, At: at},
	}
	record(t, kv, j, want[:2]...)
	j = open(t, kv, 0) // as after a restart
	if p := enroll(t, j, "search"); p.New {
		t.Fatal("the place was lost by a restart")
	}
	record(t, kv, j, want[2:]...)
	counts := map[macronode.TenantID]uint64{}
	got := read(t, j, p.Cursor)
	if len(got) != len(want) {
		t.Fatalf("%d changes, %d were recorded", len(got), len(want))
	}
	for i, c := range got {
		counts[c.Tenant]++
		if c.TenantSeq != counts[c.Tenant] {
			t.Errorf("change %d is number %d of its tenant, want %d", i, c.TenantSeq, counts[c.Tenant])
		}
		if i > 0 && c.Seq <= got[i-1].Seq {
			t.Errorf("seq %d follows %d", c.Seq, got[i-1].Seq)
		}
		c.Seq, c.TenantSeq = 0, 0
		if c != want[i] {
			t.Errorf("change %d is %+v, want %+v", i, c, want[i])
		}
	}
	for tn, n := range counts {
		if have, err := j.Count(t.Context(), tn); err != nil || have != n {
			t.Errorf("count of %s is %d, want %d (%v)", tn, have, n, err)
		}
	}
}

func TestNothingIsWrittenWhereNobodyIsEnrolled(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 0)
	record(t, kv, j, put(1))
	if keys(t, kv) != 0 || j.Head() != 0 {
		t.Fatal("a change was kept for nobody")
	}
	if n, err := j.Count(t.Context(), tenant(1)); err != nil || n != 1 {
		t.Fatalf("the tenant's count is %d, %v", n, err)
	}
	enroll(t, j, "a")
	record(t, kv, j, put(1))
	if err := j.Leave(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	record(t, kv, j, put(1))
	if n := keys(t, kv); n != 0 {
		t.Fatalf("%d changes are left when the last consumer is gone", n)
	}
	head := j.Head()
	if p := enroll(t, j, "a"); !p.New || p.Since <= head {
		t.Fatalf("who left and came back has missed changes, and is told %+v", p)
	}
}

// TestTrim: what one consumer has passed stays for the other.
func TestTrim(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 0)
	enroll(t, j, "fast")
	enroll(t, j, "slow")
	const n = trimBatch + 300
	for range n {
		record(t, kv, j, put(1))
	}
	list := read(t, j, 0)
	if err := j.Advance(t.Context(), "fast", list[n-1].Seq, nil); err != nil {
		t.Fatal(err)
	}
	if keys(t, kv) != n {
		t.Fatal("changes were removed that the slow consumer has not seen")
	}
	done := false
	if err := j.Advance(t.Context(), "slow", list[n-10].Seq, func(store.Tx) error { done = true; return nil }); err != nil || !done {
		t.Fatal(err, done)
	}
	if left := keys(t, kv); left != 9 {
		t.Fatalf("%d changes are left, want 9", left)
	}
	head := j.Head()
	if err := j.Advance(t.Context(), "slow", head, nil); err != nil {
		t.Fatal(err)
	}
	if keys(t, kv) != 0 {
		t.Fatal("passed changes are left")
	}
	if j = open(t, kv, 0); j.Head() < head {
		t.Fatalf("after a restart the head is %d, it was %d: numbers would come again", j.Head(), head)
	}
}

// TestLost: a consumer that does not advance loses its place, the journal stays
// bounded, and enrolling says that changes are missing.
func TestLost(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 20)
	enroll(t, j, "a")
	enroll(t, j, "b")
	for range 50 {
		record(t, kv, j, put(1))
	}
	if n := keys(t, kv); n > 20 {
		t.Fatalf("%d changes are kept, 20 at most", n)
	}
	if err := j.Advance(t.Context(), "a", 5, nil); !errors.Is(err, ErrLost) {
		t.Fatalf("a lost consumer advances: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if p := enroll(t, j, name); !p.New || p.Since < 20 {
			t.Fatalf("%s has the place %+v", name, p)
		}
	}
	record(t, kv, j, put(2))
	if list := read(t, j, enroll(t, j, "a").Cursor); len(list) != 1 || list[0].Tenant != tenant(2) {
		t.Fatalf("after enrolling again %d changes are read", len(list))
	}
}

// TestGivenUpNumbersDoNotComeAgain: a place may lie beyond what was kept.
func TestGivenUpNumbersDoNotComeAgain(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 0)
	enroll(t, j, "a")
	no := errors.New("no")
	for range 5 {
		if err := kv.Update(t.Context(), func(tx store.Tx) error { return errors.Join(j.Record(tx, put(1)), no) }); !errors.Is(err, no) {
			t.Fatal(err)
		}
	}
	if err := j.Leave(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	p := enroll(t, j, "a")
	j = open(t, kv, 0)
	record(t, kv, j, put(1))
	if list := read(t, j, p.Cursor); len(list) != 1 {
		t.Fatalf("a consumer at %d does not see the change that follows: head %d", p.Cursor, j.Head())
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := mem.NewKV(mem.KVConfig{})
		j := open(t, kv, 0)
		enroll(t, j, "a")
		done := make(chan error, 1)
		go func() { done <- j.Wait(t.Context(), 0) }()
		synctest.Wait()
		_ = kv.Update(t.Context(), func(tx store.Tx) error { return errors.Join(j.Record(tx, put(1)), errors.New("given up")) })
		select {
		case err := <-done:
			t.Fatal("woken by a change that was given up", err)
		case <-time.After(time.Minute):
		}
		record(t, kv, j, put(1))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.Wait(ctx, j.Head()); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

func TestBadChangesAreRefused(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{})
	j := open(t, kv, 0)
	enroll(t, j, "a")
	for name, c := range map[string]Change{
		"no tenant": {Kind: ObjectPut},
		"no kind":   {Tenant: tenant(1)},
		"kind":      {Tenant: tenant(1), Kind: numKinds},
		"name":      {Tenant: tenant(1), Kind: NameSet, Name: strings.Repeat("x", MaxNameBytes+1)},
	} {
		if err := kv.Update(t.Context(), func(tx store.Tx) error { return j.Record(tx, c) }); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := put(3)
	c.Name = "x"
	b, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(9, b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, err := c.encode(); err != nil || string(again) != string(b) {
			t.Fatalf("%x is read as %+v", b, c)
		}
	})
}
