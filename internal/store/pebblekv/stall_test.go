// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
)

// TestStalledCommitIsReleased: a commit that waits inside Pebble for room, which a
// flush that fails for good never makes, is told so, and the store with it.
func TestStalledCommitIsReleased(t *testing.T) {
	flushing := make(chan struct{})
	fs := disk.Mem().WithFaults(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			<-flushing // nothing is flushed until writers wait
			return syscall.EIO
		}
		return nil
	})
	fatal := make(chan error, 1)
	kv := mustOpen(t, Config{FS: fs, Dir: "/meta", MemTableBytes: 256 << 10, BallastBytes: -1, patience: time.Millisecond,
		Fatal: func(err error) { fatal <- err }})
	wrote := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := kv.Update(t.Context(), setOne(fmt.Sprint("key", i), 64<<10)); err != nil {
				wrote <- err
				return
			}
		}
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for kv.counts.stalls.Load() == 0 {
		select {
		case <-tick.C:
		case err := <-wrote:
			t.Fatalf("the writer ended before it waited: %v", err)
		}
	}
	<-tick.C // it has waited for longer than the store's patience now
	<-tick.C
	close(flushing)
	if err := <-wrote; !errors.Is(err, syscall.EIO) {
		t.Errorf("the waiting commit: %v", err)
	}
	if err := <-fatal; !errors.Is(err, syscall.EIO) {
		t.Errorf("the node was told %v", err)
	}
	if err := kv.Check(t.Context()); err == nil {
		t.Error("the store calls itself good")
	}
}
