// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// SetReserve makes n bytes the reserve from now on.
func (k *KV) SetReserve(n int64) { k.reserve.Store(n) }

// writable returns why a transaction may not begin. It is called in a writer's
// turn.
func (k *KV) writable(reclaim bool) error {
	k.mu.Lock()
	err := k.flushErr
	if k.corrupt != nil {
		err = k.corrupt
	}
	k.mu.Unlock()
	if err != nil && !disk.IsFull(err) {
		return err
	}
	if reclaim {
		return nil
	}
	if err == nil && k.ballast.spent.Load() {
		err = k.ballast.restore(k.reserve.Load())
	}
	full := k.ballast.spent.Load()
	free, ferr := k.c.FS.Free(k.c.Dir)
	switch {
	case err == nil && ferr != nil:
		return fmt.Errorf("pebblekv: free space: %w", ferr)
	case err == nil && !full && free >= k.reserve.Load():
		return nil
	}
	k.counts.refusedFull.Add(1)
	return fmt.Errorf("%w: %d bytes free, %d of them reserved", store.ErrFull, free, k.reserve.Load())
}

// ballast is a file whose only use is that it can be removed.
type ballast struct {
	fs    *disk.FS
	path  string
	size  int64 // not positive: there is none
	log   *slog.Logger
	mu    sync.Mutex  // held by spend and restore
	spent atomic.Bool // missing, and to be restored
}

// spend is called by Pebble's file system when a write finds the disk full. The
// write is tried again afterwards.
func (b *ballast) spend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size <= 0 || b.spent.Swap(true) {
		return
	}
	err := b.fs.Remove(b.path)
	b.log.Error("disk full: gave the ballast up", "event", "metadata_ballast_spent", "bytes", b.size, "error", err)
}

// restore makes the file where there is room for it twice above the reserve, so
// that it does not come and go. Where it cannot be made the node does without, a
// file system may not know how.
func (b *ballast) restore(reserve int64) (err error) {
	if b.size <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if fi, err := b.fs.Stat(b.path); err == nil && fi.Size() == 1 {
		b.spent.Store(false)
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	free, err := b.fs.Free(b.fs.PathDir(b.path))
	if err != nil {
		return err
	}
	if free-reserve < 2*b.size {
		b.spent.Store(true)
		return nil
	}
	err = b.make()
	b.spent.Store(disk.IsFull(err))
	if err != nil {
		b.log.Warn("no ballast could be made", "event", "metadata_no_ballast", "error", err)
	}
	return nil
}

// make allocates the blocks without writing them. The one byte marks that it was
// made to the end.
func (b *ballast) make() error {
	file, err := b.fs.Create(b.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err = file.Preallocate(0, b.size); err == nil {
		_, err = file.Write([]byte{0})
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, b.fs.Remove(b.path))
	}
	return nil
}
