// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// benchDir is on a disk, which the default place of temporary files may not be.
func benchDir(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "seglog-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// BenchmarkLone is one appender of 1 KiB records, each durable before the next,
// beside appends and fdatasyncs of a file that grows, in turn. It tells the
// middle of the ratios of throughput.
func BenchmarkLone(b *testing.B) {
	dir := benchDir(b)
	l := mustOpen(b, Config{FS: disk.Real(), Dir: dir + "/log"})
	defer func() { _ = l.Close() }()
	raw, err := disk.Real().Create(dir+"/raw", vfs.WriteCategoryUnspecified)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	record := storetest.Bytes(1024, 1)
	const turn = 250
	var ratios []float64
	var log, file time.Duration
	n := 0
	for b.Loop() {
		for range turn {
			t := time.Now()
			if _, err := raw.Write(record); err != nil {
				b.Fatal(err)
			}
			if err := syscall.Fdatasync(int(raw.Fd())); err != nil {
				b.Fatal(err)
			}
			file += time.Since(t)
		}
		t := time.Now()
		for range turn {
			p, err := l.StageOne(false, record[:48], record[48:])
			if err != nil {
				b.Fatal(err)
			}
			if err := l.SyncTo(b.Context(), p+1); err != nil {
				b.Fatal(err)
			}
		}
		log += time.Since(t)
		n += turn
		ratios = append(ratios, float64(file)/float64(log))
		log, file = 0, 0
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-of-append+fdatasync")
	b.ReportMetric(ratios[0], "x-lowest")
}

// BenchmarkAppend is many appenders of 1 KiB records, each of which waits for its
// own, and how many syncs a record costs.
func BenchmarkAppend(b *testing.B) {
	record := storetest.Bytes(1024, 1)
	for _, parallel := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("by%d", parallel), func(b *testing.B) {
			var syncs atomic.Int64
			fs := disk.Real().WithFaults(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileSyncData {
					syncs.Add(1)
				}
				return nil
			})
			l := mustOpen(b, Config{FS: fs, Dir: benchDir(b) + "/log"})
			defer func() { _ = l.Close() }()
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			syncs.Store(0)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					last := uint32(0)
					for left.Add(-1) >= 0 {
						p, err := l.StageOne(false, record[:48], record[48:])
						if err == nil {
							err = l.SyncTo(b.Context(), p+1)
						}
						if err != nil {
							b.Error(err)
							return
						}
						if n := p.Segment(); n > last && n > 3 {
							last = n
							_ = l.Drop(n - 3) // another may have done it
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(syncs.Load())/float64(b.N), "syncs/op")
		})
	}
}

// BenchmarkStage is the cost of staging alone: nobody waits.
func BenchmarkStage(b *testing.B) {
	l := mustOpen(b, Config{FS: disk.Real(), Dir: benchDir(b) + "/log"})
	defer func() { _ = l.Close() }()
	record := storetest.Bytes(1024, 1)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := l.StageOne(false, record[:48], record[48:]); err != nil {
			b.Fatal(err)
		}
		if n++; n%40_000 == 0 {
			b.StopTimer()
			if err := l.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			for _, s := range l.Segments() {
				if !s.Active {
					if err := l.Drop(s.ID); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.StartTimer()
		}
	}
}

// BenchmarkRead reads records of 1 KiB at random, BenchmarkScan in order.
func BenchmarkRead(b *testing.B) {
	l, places := filled(b, 50_000)
	var buf []byte
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		var err error
		if buf, err = l.Read(places[n*7919%len(places)], buf); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func BenchmarkScan(b *testing.B) {
	l, places := filled(b, 50_000)
	b.SetBytes(int64(len(places)) * 1024)
	for b.Loop() {
		n := 0
		if err := l.Scan(0, func(store.Pos, []byte) error { n++; return nil }, nil); err != nil || n != len(places) {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkOpen opens a log of 50 000 records of 1 KiB.
func BenchmarkOpen(b *testing.B) {
	l, _ := filled(b, 50_000)
	c := l.c
	for b.Loop() {
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		l = mustOpen(b, c)
	}
	_ = l.Close()
}

func filled(b *testing.B, n int) (*Log, []store.Pos) {
	b.Helper()
	l := mustOpen(b, Config{FS: disk.Real(), Dir: benchDir(b) + "/log"})
	b.Cleanup(func() { _ = l.Close() })
	record := storetest.Bytes(1024, 1)
	places := make([]store.Pos, n)
	for i := range places {
		var err error
		if places[i], err = l.StageOne(false, nil, record); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	return l, places
}
