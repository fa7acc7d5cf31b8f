// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// forgetful is a file system whose failed syncs drop what was to be written, as
// Linux does: it reads as before, is clean, and no later sync writes it. Names are
// durable at once.
type forgetful struct {
	vfs.FS
	fail  func() bool // of each sync of a file
	mu    *sync.Mutex
	files map[string]*forgetfulNode
}

// forgetfulNode is a file's content on the disk, and what a sync would write.
type forgetfulNode struct {
	disk  []byte
	dirty []forgetfulSpan
}

type forgetfulSpan struct {
	off int64
	b   []byte
}

type forgetfulFile struct {
	vfs.File
	fs   *forgetful
	node *forgetfulNode
}

func (f *forgetful) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	if f.files[name] == nil {
		f.files[name] = &forgetfulNode{}
	}
	return &forgetfulFile{file, f, f.files[name]}, nil
}

func (f *forgetful) Rename(old, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = f.files[old]
	delete(f.files, old)
	return f.FS.Rename(old, name)
}

func (f *forgetful) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, name)
	return f.FS.Remove(name)
}

func (f *forgetful) Unwrap() vfs.FS { return f.FS }

func (f *forgetfulFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.dirty = append(f.node.dirty, forgetfulSpan{off, append([]byte(nil), p...)})
	return f.File.WriteAt(p, off)
}

func (f *forgetfulFile) SyncData() error { return f.Sync() }

func (f *forgetfulFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	dirty := f.node.dirty
	f.node.dirty = nil
	if f.fs.fail() {
		return syscall.EIO
	}
	for _, s := range dirty {
		if grow := int(s.off) + len(s.b) - len(f.node.disk); grow > 0 {
			f.node.disk = append(f.node.disk, make([]byte, grow)...)
		}
		copy(f.node.disk[s.off:], s.b)
	}
	return nil
}

// power returns what is left when the power goes.
func (f *forgetful) power(dir string) (*disk.FS, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	image := disk.Mem()
	err := image.MkdirAllSync(dir)
	for name, node := range f.files {
		err = errors.Join(err, image.ReplaceFile(name, node.disk, disk.FileMode))
	}
	return image, err
}

// LogForget fails each sync in turn on a disk that drops what it could not write. A
// process that opens the log again must not take for durable what it reads: the next
// power cut may show that it never was. dir is where open keeps the log.
func LogForget(t *testing.T, open OpenLog, dir string) {
	hits := 0
	for n := int64(1); ; n++ {
		var syncs atomic.Int64
		var mem *forgetful
		fs := disk.Mem().WithBase(func(fs vfs.FS) vfs.FS {
			mem = &forgetful{FS: fs, mu: new(sync.Mutex), files: map[string]*forgetfulNode{}, fail: func() bool { return syncs.Add(1) == n }}
			return mem
		})
		g, err := logForget(t.Context(), fs, n, open)
		if err != nil {
			t.Fatalf("sync %d: %v", n, err)
		}
		if syncs.Load() < n {
			break
		}
		hits++
		image, err := mem.power(dir)
		storetest.Must(t, err)
		l, err := open(image)
		if err != nil {
			t.Fatalf("sync %d: after the power cut: %v", n, err)
		}
		if err := errors.Join(g.check(l), l.Close()); err != nil {
			t.Fatalf("sync %d: after the power cut: %v", n, err)
		}
	}
	if hits < 10 {
		t.Errorf("only %d syncs were hit", hits)
	}
}

// logForget uses a log until a sync fails, and opens it again. All that the second
// process finds is durable, for it said so.
func logForget(ctx context.Context, fs *disk.FS, n int64, open OpenLog) (*ledger, error) {
	g := newLedger()
	for life := range uint64(2) {
		l, err := open(fs)
		if errors.Is(err, syscall.EIO) {
			if l, err = open(fs); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
		if err := g.check(l); err != nil {
			return nil, err
		}
		if life == 0 {
			for _, err := range g.run(ctx, l, uint64(n), 40, nil) {
				if !errors.Is(err, syscall.EIO) {
					return nil, err
				}
			}
		}
		if err := l.Close(); err != nil && !errors.Is(err, syscall.EIO) {
			return nil, err
		}
	}
	return g, nil
}
