// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/fileobj"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/hot"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// BenchmarkGetMany reads 1 KiB objects at random, out of few and of many, each the
// first time for the cache: what a read costs must not grow with what is stored.
func BenchmarkGetMany(b *testing.B) {
	for _, n := range []int{1000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, fs := b.TempDir(), disk.Real()
			kv, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: dir + "/meta", CacheBytes: 32 << 20})
			if err != nil {
				b.Fatal(err)
			}
			objects, err := fileobj.Open(fileobj.Config{FS: fs, Dir: dir + "/objects"})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _, _ = objects.Close(), kv.Close() }()
			cache, err := hot.New(224 << 20)
			if err != nil {
				b.Fatal(err)
			}
			d := storagetest.NewDriver(b, storagetest.Env{KV: kv, Objects: objects, Admit: admit}, quiet, func(c *storage.Config) { c.Hot = cache })
			tn := storagetest.Tenant(1)
			addrs := make([]string, n)
			var wg sync.WaitGroup
			for w := range 32 {
				wg.Go(func() {
					for i := w; i < n; i += 32 {
						addrs[i] = d.MustPut(tn, storagetest.Bytes(1024, uint64(i)))
					}
				})
			}
			wg.Wait()
			r := rand.New(rand.NewPCG(1, 1))
			b.ResetTimer()
			for b.Loop() {
				if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addrs[r.IntN(n)]}); err != nil {
					b.Fatal(err)
				}
			}
			s := cache.Stats()
			b.ReportMetric(float64(s.Hits)/float64(s.Hits+s.Misses), "hits/op")
		})
	}
}
