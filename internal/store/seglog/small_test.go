// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// unit is a mebibyte of the small disk: everything is so much smaller.
const unit = 24 << 10

// smallDisk has total bytes, of which files in testDir take their sizes.
func smallDisk(t *testing.T, total int64) *disk.FS {
	base := disk.Mem()
	base.SetFree(total)
	return base.WithFaults(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpFileReadAt {
			return nil
		}
		names, err := base.List(testDir)
		if err != nil {
			return nil // there is none yet
		}
		free := total
		for _, name := range names {
			if fi, err := base.Stat(testDir + "/" + name); err == nil && !strings.HasPrefix(name, ".tmp") {
				free -= fi.Size()
			}
		}
		base.SetFree(max(free, 0))
		return nil
	})
}

// TestSmallDisk: segments shrink to what the disk has, so that all of it above the
// reserve is used; what frees space goes on beyond it; and what was dropped is room again.
func TestSmallDisk(t *testing.T) {
	fs := smallDisk(t, 112*unit)
	c := Config{FS: fs, Dir: testDir, SegmentBytes: 64 * unit, Reserve: 24 * unit}
	l, _, err := open(c, unit)
	if err != nil {
		t.Fatal(err)
	}
	record := storetest.Bytes(unit/5, 1)
	fill := func(reserve bool) (n int) {
		for {
			_, err := l.StageOne(reserve, nil, record)
			if errors.Is(err, store.ErrFull) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > 1000 {
				t.Fatal("never full")
			}
		}
	}
	again := func() (n int) {
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			if n = fill(false); n > 0 || time.Now().After(deadline) {
				return n
			}
		}
	}
	drop := func() {
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		var ids []uint32
		for _, s := range l.Segments() {
			if !s.Active {
				ids = append(ids, s.ID)
			}
		}
		if err := l.Drop(ids...); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		if n := again(); n < 75*5 {
			t.Errorf("round %d: refused after %d of 440 records", round, n)
		}
		// The spare, and half of the reserve: 13 segments of three.
		if n := fill(true); n < 12*3 || n > 14*3 {
			t.Errorf("round %d: %d records of those that free space", round, n)
		}
		if free, err := fs.Free(testDir); err != nil || free < 12*unit {
			t.Errorf("round %d: %d bytes are left, %v", round, free, err)
		}
		drop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, _, err = open(c, unit); err != nil {
			t.Fatal(err)
		}
	}
	p, err := l.StageOne(false, nil, record)
	for deadline := time.Now().Add(10 * time.Second); errors.Is(err, store.ErrFull) && time.Now().Before(deadline); runtime.Gosched() {
		p, err = l.StageOne(false, nil, record)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err := l.Read(p, nil); err != nil || !bytes.Equal(b, record) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
