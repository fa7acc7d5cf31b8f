// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
)

// afterSync calls done when a directory is synced, before its syncer knows.
type afterSync struct {
	vfs.FS
	done func()
}

type afterSyncDir struct {
	vfs.File
	done func()
}

func (f afterSync) OpenDir(name string) (vfs.File, error) {
	d, err := f.FS.OpenDir(name)
	return afterSyncDir{d, f.done}, err
}

func (d afterSyncDir) Sync() error {
	err := d.File.Sync()
	d.done()
	return err
}

// TestSyncLate: an entry made while an fsync is under way is not covered by it.
// Who asks then waits for the next, and shares it with others.
func TestSyncLate(t *testing.T) {
	base := disk.Crashable()
	if err := base.MkdirAllSync("/d"); err != nil {
		t.Fatal(err)
	}
	synced, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	syncs := 0 // dirSync.run guards it
	d := &dirSync{dir: "/d", fs: base.WithBase(func(fs vfs.FS) vfs.FS {
		return afterSync{fs, func() {
			syncs++
			once.Do(func() { close(synced); <-release })
		}}
	})}
	waiting := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.next != nil
	}
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			if err := d.sync(); err != nil {
				t.Error(err)
			}
		})
	}
	ask()
	<-synced
	if waiting() {
		t.Error("the round under way can still be joined")
	}
	w, err := base.Create("/d/late", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ask()
	for !waiting() {
		runtime.Gosched()
	}
	ask()
	close(release)
	wg.Wait()
	if _, err := base.Crash(0, 1).Stat("/d/late"); err != nil {
		t.Errorf("lost after the sync that was asked for it: %v", err)
	}
	if syncs < 2 || syncs > 3 { // the last who asks may come after the second
		t.Errorf("%d fsyncs", syncs)
	}
}
