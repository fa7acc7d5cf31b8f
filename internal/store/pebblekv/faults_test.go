// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

func mustOpen(t testing.TB, c Config) *KV {
	t.Helper()
	kv, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func setOne(key string, n int) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Set([]byte(key), bytes.Repeat([]byte{'v'}, n)) }
}

// TestMarker: wherever a crash falls between the making of a manifest and of the
// marker that names it, the directory opens.
func TestMarker(t *testing.T) {
	base := disk.Crashable()
	var mu sync.Mutex // Pebble cleans up in a goroutine
	var images []*disk.FS
	marked := false
	fs := base.WithFaults(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if marked {
			for seed := range uint64(12) {
				images = append(images, base.Crash(50, seed))
			}
		}
		marked = op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "/marker.")
		return nil
	})
	kv, err := Open(Config{FS: fs, Dir: "/meta"})
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	// Opening it again makes another manifest.
	if kv, err = Open(Config{FS: fs, Dir: "/meta"}); err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if len(images) < 24 {
		t.Fatalf("%d images", len(images))
	}
	for i, image := range images {
		kv, err := Open(Config{FS: image, Dir: "/meta"})
		if err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		if err := kv.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReserve(t *testing.T) {
	fs := disk.Mem()
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta", ReserveBytes: 1 << 20, BallastBytes: -1})
	if err := kv.Update(t.Context(), setOne("a", 10)); err != nil {
		t.Fatal(err)
	}
	fs.SetFree(1<<20 - 1)
	if err := kv.Update(t.Context(), setOne("b", 10)); !errors.Is(err, store.ErrFull) {
		t.Errorf("update: %v", err)
	}
	if err := kv.Reclaim(t.Context(), func(tx store.Tx) error { return tx.Delete([]byte("a")) }); err != nil {
		t.Errorf("reclaim: %v", err)
	}
	if err := kv.View(t.Context(), func(r store.Reader) error { _, err := r.Get([]byte("a")); return err }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("view: %v", err)
	}
	if err := kv.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	fs.SetFree(1 << 20)
	if err := kv.Update(t.Context(), setOne("b", 10)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	kv.SetReserve(2 << 20)
	if err := kv.Update(t.Context(), setOne("b", 10)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a greater reserve: %v", err)
	}
	if got := kv.Stats(); got.RefusedFull != 2 || got.Commits != 3 {
		t.Errorf("stats %+v", got)
	}
}

// TestBallast: a log that finds the disk full is written all the same, once.
func TestBallast(t *testing.T) {
	base := disk.Mem()
	full := new(atomic.Bool)
	there := func() bool { _, err := base.Stat("/meta/" + ballastName); return err == nil }
	fs := base.WithFaults(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") && there() {
			return syscall.ENOSPC
		}
		return nil
	})
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta", BallastBytes: 1 << 20})
	if !there() {
		t.Fatal("no ballast")
	}
	full.Store(true)
	base.SetFree(1 << 20)
	if err := kv.Update(t.Context(), setOne("a", 10)); err != nil {
		t.Errorf("the write that found the disk full: %v", err)
	}
	if there() {
		t.Error("the ballast is still there")
	}
	if err := kv.Update(t.Context(), setOne("b", 10)); !errors.Is(err, store.ErrFull) {
		t.Errorf("the next: %v", err)
	}
	if err := kv.Reclaim(t.Context(), setOne("c", 1)); err != nil {
		t.Errorf("reclaim: %v", err)
	}
	if err := kv.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	full.Store(false)
	base.SetFree(2 << 20)
	if err := kv.Update(t.Context(), setOne("b", 10)); err != nil || !there() {
		t.Errorf("with room again: %v, ballast %v", err, there())
	}
}

// TestFatal: after an error of the log every call answers it, at once.
func TestFatal(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		bad := new(atomic.Bool)
		fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
			if bad.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") {
				return fault
			}
			return nil
		})
		told := new(atomic.Int32)
		kv, err := Open(Config{FS: fs, Dir: "/meta", Fatal: func(error) { told.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Update(t.Context(), setOne("a", 10)); err != nil {
			t.Fatal(err)
		}
		bad.Store(true)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := kv.Update(t.Context(), setOne(fmt.Sprint(i), 10)); !errors.Is(err, fault) {
					t.Errorf("update: %v", err)
				}
			})
		}
		wg.Wait()
		bad.Store(false)
		for i, err := range []error{
			kv.Update(t.Context(), setOne("b", 10)),
			kv.Reclaim(t.Context(), setOne("b", 10)),
			kv.View(t.Context(), func(store.Reader) error { t.Error("ran"); return nil }),
			kv.Check(t.Context()),
			kv.Close(),
		} {
			if !errors.Is(err, fault) || disk.IsFull(fault) != errors.Is(err, store.ErrFull) {
				t.Errorf("use %d: %v", i, err)
			}
		}
		if told.Load() != 1 {
			t.Errorf("told %d times", told.Load())
		}
	}
}

func TestFormat(t *testing.T) {
	fs := disk.Mem()
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta"})
	if _, err := Open(Config{FS: fs, Dir: "/meta"}); err == nil {
		t.Error("opened twice")
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{
		formatPrefix + "2\n":    ErrNewer,
		formatPrefix + "99":     ErrNewer,
		formatPrefix + "0\n":    store.ErrCorrupt,
		formatPrefix + "x\n":    store.ErrCorrupt,
		"":                      store.ErrCorrupt,
		strings.Repeat("1", 99): disk.ErrTooLarge,
	} {
		if err := fs.ReplaceFile("/meta/"+formatName, []byte(text), disk.FileMode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{FS: fs, Dir: "/meta"}); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestCorrupt damages every table: what is read is right or refused, and Check
// says so.
func TestCorrupt(t *testing.T) {
	fs := disk.Mem()
	kv, err := Open(Config{FS: fs, Dir: "/meta"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		if err := kv.Update(t.Context(), setOne(fmt.Sprintf("key/%03d", i), 500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(kv.db.Flush(), kv.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("/meta/db")
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		tables++
		data, err := fs.ReadFile("/meta/db/"+name, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(data)/2; i += 100 {
			data[i] ^= 0x40
		}
		if err := fs.ReplaceFile("/meta/db/"+name, data, disk.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	if tables == 0 {
		t.Fatal("no table")
	}
	kv = mustOpen(t, Config{FS: fs, Dir: "/meta"})
	refused := 0
	for i := range 300 {
		err := kv.View(t.Context(), func(r store.Reader) error {
			v, err := r.Get(fmt.Appendf(nil, "key/%03d", i))
			if err == nil && len(v) != 500 {
				t.Errorf("key %d: %d bytes", i, len(v))
			}
			return err
		})
		if err == nil {
			continue
		}
		if refused++; !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if err := kv.Check(t.Context()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("check: %v", err)
	}
	if err := kv.Update(t.Context(), setOne("a", 1)); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("update: %v", err)
	}
}

// TestShared: many commits share few fsyncs, and a View that reads none of their
// keys does not wait for one.
func TestShared(t *testing.T) {
	syncs := new(atomic.Int64)
	gate := make(chan struct{})
	hold := new(atomic.Bool)
	fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") || op.Kind == errorfs.OpFileSync && strings.HasSuffix(op.Path, ".log") {
			syncs.Add(1)
			if hold.Load() {
				<-gate
			}
		}
		return nil
	})
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta"})
	if err := kv.Update(t.Context(), setOne("old", 10)); err != nil {
		t.Fatal(err)
	}
	hold.Store(true)
	before := syncs.Load()
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := kv.Update(t.Context(), setOne(fmt.Sprintf("new/%d", i), 10)); err != nil {
				t.Error(err)
			}
		})
	}
	seen := func() (count int) { // inside a View, which will wait
		_ = kv.View(t.Context(), func(r store.Reader) error {
			if _, err := r.Get([]byte("old")); err != nil {
				t.Error(err)
			}
			return nil
		})
		return int(kv.pending.n.Load())
	}
	for seen() < n { // every update is visible or about to be; none is durable
	}
	read := make(chan error)
	go func() {
		read <- kv.View(t.Context(), func(r store.Reader) error {
			_, err := r.Get([]byte("new/0"))
			return err
		})
	}()
	select {
	case err := <-read:
		t.Errorf("read what is not durable: %v", err)
	case <-kv.failed:
		t.Error("failed")
	default:
	}
	hold.Store(false)
	close(gate)
	if err := <-read; err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	wg.Wait()
	if got := syncs.Load() - before; got > n/2 {
		t.Errorf("%d fsyncs for %d commits", got, n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprintf("by%d", parallel), func(b *testing.B) {
			kv := mustOpen(b, Config{FS: disk.Real(), Dir: b.TempDir() + "/meta"})
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism((parallel + 1) / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := kv.Update(b.Context(), setOne(fmt.Sprintf("object/%09d", n.Add(1)), 100)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkView(b *testing.B) {
	kv := mustOpen(b, Config{FS: disk.Real(), Dir: b.TempDir() + "/meta"})
	for i := range 100 {
		if err := kv.Update(b.Context(), func(tx store.Tx) error {
			for j := range 100 {
				if err := setOne(fmt.Sprintf("object/%09d", i*100+j), 100)(tx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i += 7919
		if err := kv.View(b.Context(), func(r store.Reader) error {
			_, err := r.Get(fmt.Appendf(nil, "object/%09d", i%10_000))
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	i := 0
	for b.Loop() {
		i++
		kv, err := Open(Config{FS: disk.Real(), Dir: fmt.Sprintf("%s/%d", dir, i)})
		if err == nil {
			err = kv.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
