// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// LogFaults fails every call to the file system in turn, and makes every write write
// a part of what it was given. Nothing may hang or panic; a failure of the log is
// final, a full disk is ErrFull while nothing has failed; what was acknowledged is
// there afterwards, where the process was killed and where the power went.
func LogFaults(t *testing.T, open OpenLog) {
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	run := func(t *testing.T, fault error, lasting, short bool) {
		var hit sites
		for n, misses := int64(1), 0; misses < 20; n += step {
			f := &logFault{at: n, err: fault, lasting: lasting, short: short, sites: &hit}
			if err := f.run(t.Context(), open); err != nil {
				t.Fatalf("call %d: %v", n, err)
			}
			if misses++; f.hit.Load() {
				misses = 0
			}
		}
		hit.report(t, "faults at")
		if len(hit.n) < 2 {
			t.Errorf("only %d places were hit", len(hit.n))
		}
	}
	for _, f := range storetest.Faults() {
		t.Run(f.Name, func(t *testing.T) { run(t, f.Err, f.Lasting, false) })
	}
	t.Run("short write", func(t *testing.T) { run(t, io.ErrShortWrite, false, true) })
}

// logFault is one call that fails.
type logFault struct {
	at      int64
	err     error
	lasting bool
	short   bool // a write writes a part and says so
	sites   *sites

	calls atomic.Int64
	hit   atomic.Bool
	off   atomic.Bool
	armed atomic.Bool
}

func (f *logFault) inject(op errorfs.Op) error {
	if f.short && op.Kind != errorfs.OpFileWriteAt {
		return nil
	}
	c := f.calls.Add(1)
	if f.off.Load() || c < f.at || c > f.at && !f.lasting || errors.Is(f.err, syscall.ENOSPC) && !storetest.SpaceNeeded(op.Kind) {
		return nil
	}
	f.hit.Store(true)
	f.sites.add(op)
	if f.short {
		f.armed.Store(true)
		return nil
	}
	return f.err
}

// shortening is a file system of which a write writes half, and no more is said.
type shortening struct {
	vfs.FS
	armed *atomic.Bool
}

type shortFile struct {
	vfs.File
	armed *atomic.Bool
}

func (f shortening) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return shortFile{file, f.armed}, nil
}

func (f shortening) Unwrap() vfs.FS { return f.FS }

func (f shortFile) WriteAt(p []byte, off int64) (int, error) {
	if f.armed.CompareAndSwap(true, false) {
		return f.File.WriteAt(p[:len(p)/2], off)
	}
	return f.File.WriteAt(p, off)
}

func (f *logFault) run(ctx context.Context, open OpenLog) error {
	base, g := disk.Crashable(), newLedger()
	faulty := base.WithBase(func(fs vfs.FS) vfs.FS { return shortening{fs, &f.armed} }).WithFaults(f.inject)
	var images []*disk.FS
	for life := range uint64(2) { // the second finds what the first left
		l, err := open(faulty)
		if err != nil {
			if !errors.Is(err, f.err) {
				return fmt.Errorf("life %d: open: the reason is lost: %w", life, err)
			}
			continue
		}
		if err := g.check(l); err != nil && !errors.Is(err, f.err) {
			return fmt.Errorf("life %d: %w", life, err)
		}
		err = f.use(ctx, l, g, life)
		images = []*disk.FS{base.Crash(0, 1), base.Crash(100, 1)}
		cerr := l.Close()
		if err == nil && cerr != nil && !errors.Is(cerr, f.err) {
			err = fmt.Errorf("close: %w", cerr)
		}
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		if l, err = open(images[0]); err != nil {
			return fmt.Errorf("life %d: after a crash: %w", life, err)
		}
		if err := errors.Join(g.freeze(func() {}).check(l), l.Close()); err != nil {
			return fmt.Errorf("life %d: after a crash: %w", life, err)
		}
	}
	f.off.Store(true)
	for i, image := range append(images, base) {
		known := g.freeze(func() {})
		l, err := open(image)
		if err != nil {
			return fmt.Errorf("image %d: open: %w", i, err)
		}
		if err := known.check(l); err != nil {
			return fmt.Errorf("image %d: %w", i, err)
		}
		end, err := known.stage(l, []byte("of use"))
		if err == nil {
			err = known.sync(ctx, l, end)
		}
		if err := errors.Join(err, l.Close()); err != nil {
			return fmt.Errorf("image %d: of no use: %w", i, err)
		}
	}
	return nil
}

// use runs a log until something fails, and finds out whether that is final.
func (f *logFault) use(ctx context.Context, l store.Log, g *ledger, life uint64) error {
	for _, err := range g.run(ctx, l, life*1000+uint64(f.at), 14, nil) {
		if !errors.Is(err, f.err) {
			return fmt.Errorf("not marked: %w", err)
		}
	}
	err := l.Check(ctx)
	if err == nil { // nothing was hit, or a read, or the disk was full for a spare
		return nil
	}
	if !errors.Is(err, f.err) {
		return fmt.Errorf("check: %w", err)
	}
	if _, err := l.StageOne(true, nil, []byte("late")); !errors.Is(err, f.err) {
		return fmt.Errorf("it failed, and then staged: %w", err)
	}
	staged, durable := l.Staged(), l.Durable()
	if err := l.SyncTo(ctx, staged); staged > durable && !errors.Is(err, f.err) {
		return fmt.Errorf("it failed, and then synced: %w", err)
	}
	if l.Durable() != durable {
		return errors.New("it failed, and then more became durable")
	}
	return nil
}
