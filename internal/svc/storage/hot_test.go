// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// hotDriver has a cache over a store that can be damaged.
func hotDriver(t testing.TB, bytes int64) (*storagetest.Driver, *faultObjects, *hot.Cache) {
	t.Helper()
	c, err := hot.New(bytes)
	if err != nil {
		t.Fatal(err)
	}
	e := memEnv(t)
	objects := &faultObjects{Objects: e.Objects}
	e.Objects = objects
	d := storagetest.NewDriver(t, e, func(s *storage.Config) { s.Hot = c })
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, objects, c
}

// What was verified twice is kept for its tenant alone, and for as long as the
// tenant has the object.
func TestHot(t *testing.T) {
	d, objects, c := hotDriver(t, 8<<20)
	one, two := storagetest.Tenant(1), storagetest.Tenant(2)
	for _, n := range []int{1, 1000, 16 << 10, 16<<10 + 1, 128 << 10, 128<<10 + 1, 400_000} {
		body := storagetest.Bytes(n, uint64(n))
		addr := d.MustPut(one, body)
		if d.MustPut(two, body) != addr {
			t.Fatal("another address")
		}
		get := storagetest.Request{Tenant: one, Op: "object.get", Addr: addr}
		read := func(want []byte) {
			t.Helper()
			a, err := d.Do(get)
			if err != nil || !bytes.Equal(a.Body, want) {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		for range 2 {
			read(body)
		}
		objects.damageAll(t, 0)
		before := c.Stats()
		for range 2 {
			read(body)
		}
		get.Header = macronode.Header{"Range": {fmt.Sprintf("bytes=%d-", n-1)}}
		read(body[n-1:])
		pieces := int64(n+128<<10-1) / (128 << 10)
		if s := c.Stats(); s.Misses != before.Misses || s.Hits != before.Hits+2*pieces+1 {
			t.Errorf("%d bytes: %+v, then %+v", n, before, s)
		}
		// Nobody else profits.
		_, err := d.Do(storagetest.Request{Tenant: two, Op: "object.get", Addr: addr})
		wantKind(t, err, macronode.Integrity)
		if _, err := d.Do(storagetest.Request{Tenant: one, Op: "object.delete", Addr: addr}); err != nil {
			t.Fatal(err)
		}
		_, err = d.Do(get)
		wantKind(t, err, macronode.NotFound)
	}
}

// Damaged bytes never come in: each read is refused as the first.
func TestHotDamage(t *testing.T) {
	d, objects, c := hotDriver(t, 8<<20)
	tn := storagetest.Tenant(1)
	addr := d.MustPut(tn, storagetest.Bytes(100_000, 1))
	objects.damageAll(t, 50_000)
	for range 5 {
		_, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr})
		wantKind(t, err, macronode.Integrity)
	}
	if s := c.Stats(); s.Bytes != 0 || s.Hits != 0 {
		t.Errorf("%+v", s)
	}
}

// Whatever parts are read in whatever order, with much more asked for than the
// cache holds, they are the object's.
func TestHotRanges(t *testing.T) {
	d, _, c := hotDriver(t, 2<<20)
	tn := storagetest.Tenant(1)
	var addrs []string
	var bodies [][]byte
	for i := range 6 {
		body := storagetest.Bytes(1000+i*311_111, uint64(i))
		bodies, addrs = append(bodies, body), append(addrs, d.MustPut(tn, body))
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(bodies)-1).Draw(t, "object")
		from := rapid.IntRange(0, len(bodies[i])-1).Draw(t, "from")
		to := rapid.IntRange(from, len(bodies[i])-1).Draw(t, "to")
		a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addrs[i],
			Header: macronode.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to)}}})
		if err != nil || !bytes.Equal(a.Body, bodies[i][from:to+1]) {
			t.Fatalf("%d-%d of %d: %v", from, to, len(bodies[i]), err)
		}
	})
	if s := c.Stats(); s.Hits == 0 || s.Misses == 0 || s.Bytes > 2<<20 {
		t.Errorf("%+v", s)
	}
}

func TestCacheMetrics(t *testing.T) {
	d, _, c := hotDriver(t, 8<<20)
	r := metrics.New(false)
	storage.CacheMetrics(r, c)
	tn := storagetest.Tenant(1)
	addr := d.MustPut(tn, storagetest.Bytes(1000, 1))
	for range 5 {
		if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr}); err != nil {
			t.Fatal(err)
		}
	}
	_, text, err := r.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"object_cache_hits_total 3", "object_cache_misses_total 2", "object_cache_bytes 1000"} {
		if !bytes.Contains(text, []byte("\n"+want)) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}
