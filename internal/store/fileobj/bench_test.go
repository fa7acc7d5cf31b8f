// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// benchDir is on a disk, which the default place of temporary files may not be.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "fileobj-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// BenchmarkPut also tells how many syncs a put costs, and how many packs there are
// then. Each tenth object is removed,
// with nine others.
func BenchmarkPut(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20, 64 << 20} {
		data := storetest.Bytes(n, 1)
		for _, parallel := range []int{2, 16, 64} {
			if n >= 1<<20 && parallel > 16 || n == 64<<20 && parallel > 2 {
				continue
			}
			b.Run(fmt.Sprintf("%dKiB/by%d", n>>10, parallel), func(b *testing.B) {
				var syncs atomic.Int64
				fs := disk.Real().WithFaults(func(op errorfs.Op) error {
					if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData {
						syncs.Add(1)
					}
					return nil
				})
				s := mustOpen(b, Config{FS: fs, Dir: benchDir(b) + "/o"})
				b.SetBytes(int64(n))
				b.ReportAllocs()
				b.SetParallelism(max(1, parallel/runtime.GOMAXPROCS(0)))
				syncs.Store(0)
				b.RunParallel(func(pb *testing.PB) {
					var mine []store.Loc
					for pb.Next() {
						o, err := storetest.Put(b.Context(), s, data, 64<<10)
						if mine = append(mine, o.Loc); err == nil && len(mine) == 100 {
							err = s.Remove(b.Context(), mine[:10]...)
							mine = mine[:0]
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(syncs.Load())/float64(b.N), "syncs/op")
				names, err := fs.List(fs.PathJoin(s.dir, packsDir))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(names)), "packs")
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := mustOpen(b, Config{FS: disk.Real(), Dir: benchDir(b) + "/o"})
	for _, n := range []int{1 << 10, 16 << 10, 64 << 10, 1 << 20, 64 << 20} {
		o, err := storetest.Put(b.Context(), s, storetest.Bytes(n, 1), 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("whole/%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Open(b.Context(), o.Loc, o.Addr, o.Size)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.WriteRange(io.Discard, 0, o.Size); err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
			}
		})
	}
}
