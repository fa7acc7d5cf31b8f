// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package disk is the only writer of files. Everything that the node keeps goes
// through an FS: the real one, one in memory (a node that may leave nothing
// behind; tests), and for tests one that fails on demand or loses at a crash
// what was not synced.
//
// On the real file system directories are made 0700 and files 0600, whatever
// the caller or the umask says, unless a function takes a mode.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Modes of what the node makes.
const (
	DirMode  fs.FileMode = 0o700
	FileMode fs.FileMode = 0o600
)

// tempPrefix begins the names of files that ReplaceFile has not finished. They
// are garbage after a crash.
const tempPrefix = ".tmp-"

// ErrTooLarge says that a file is beyond the limit given to ReadFile.
var ErrTooLarge = errors.New("disk: file too large")

// File is an open file.
type File = vfs.File

var _ vfs.FS = (*FS)(nil)

// FS is a file system. Its embedded methods are Pebble's, so that a database can
// live on it; they sync nothing by themselves. It is safe for concurrent use.
type FS struct {
	vfs.FS
	real bool
	mem  *vfs.MemFS // of Mem and Crashable
}

// Real returns the machine's file system.
func Real() *FS { return &FS{FS: private{vfs.Default}, real: true} }

// Mem returns an empty file system in memory.
func Mem() *FS {
	m := vfs.NewMem()
	return &FS{FS: m, mem: m}
}

// Crashable returns an empty file system in memory that knows what was synced.
func Crashable() *FS {
	m := vfs.NewCrashableMem()
	return &FS{FS: m, mem: m}
}

// Crash returns what a machine that loses power now could find afterwards: what
// was synced, and each block and directory entry that was not with a chance of
// unsynced in 100, drawn from seed. Only of a Crashable.
func (f *FS) Crash(unsynced int, seed uint64) *FS {
	m := f.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(seed, 0x6d6e))})
	return &FS{FS: m, mem: m}
}

// WithFaults returns f with every operation put to inject first, which fails it
// by returning an error. For tests.
func (f *FS) WithFaults(inject func(errorfs.Op) error) *FS {
	g := *f
	g.FS = errorfs.Wrap(f.FS, errorfs.InjectorFunc(inject))
	return &g
}

// WithBase returns f with its vfs.FS replaced by wrap of it.
func (f *FS) WithBase(wrap func(vfs.FS) vfs.FS) *FS {
	g := *f
	g.FS = wrap(f.FS)
	return &g
}

// Real reports whether f is the machine's file system, so that paths mean
// something to other processes.
func (f *FS) Real() bool { return f.real }

// Free returns the bytes that can still be written to the file system of path.
// It is math.MaxInt64 where there is no such bound.
func (f *FS) Free(path string) (int64, error) {
	u, err := f.GetDiskUsage(path)
	if errors.Is(err, vfs.ErrUnsupported) {
		return math.MaxInt64, nil
	}
	if err != nil {
		return 0, err
	}
	return int64(min(u.AvailBytes, math.MaxInt64)), nil
}

// Usage returns how many bytes can still be written to the file system of path,
// and how many it has; NaN where it does not say.
func (f *FS) Usage(path string) (free, size float64) {
	u, err := f.GetDiskUsage(path)
	if err != nil {
		return math.NaN(), math.NaN()
	}
	return float64(u.AvailBytes), float64(u.TotalBytes)
}

// SetFree makes Free return n, which it does not count down. Only in memory, for
// tests.
func (f *FS) SetFree(n int64) {
	f.mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: uint64(n), TotalBytes: math.MaxInt64})
}

// IsFull reports whether err says that the disk, or a quota on it, is used up.
func IsFull(err error) bool { return isFull(err) }

// SyncDir makes the entries of dir durable.
func (f *FS) SyncDir(dir string) error {
	d, err := f.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// MkdirAllSync makes dir and the parents that are missing, each durable when it
// returns. It syncs the parent of one that is there too: that may be left by a
// call that was killed, or failed, between making it and syncing. Its own parents
// are durable, for no directory is made in one that is not.
func (f *FS) MkdirAllSync(dir string) error {
	parent := f.PathDir(dir)
	if fi, err := f.Stat(dir); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("disk: %s is not a directory", dir)
		}
		if parent == dir {
			return nil
		}
		if err := f.SyncDir(parent); err != nil && !isForeign(err) {
			return err
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent != dir {
		if err := f.MkdirAllSync(parent); err != nil {
			return err
		}
	}
	if err := f.MkdirAll(dir, DirMode); err != nil {
		return err
	}
	return f.SyncDir(parent)
}

// ReplaceFile makes path hold data, durably: a reader, or a crash, sees either
// the old content or the new, whole. Its directory must exist. The mode counts
// on the real file system only.
func (f *FS) ReplaceFile(path string, data []byte, mode fs.FileMode) (err error) {
	dir := f.PathDir(path)
	temp := f.PathJoin(dir, tempPrefix+strconv.FormatUint(rand.Uint64(), 36)+"-"+f.PathBase(path))
	defer func() {
		if err != nil {
			_ = f.Remove(temp) // the first error is the one to tell
		}
	}()
	if err = f.writeFile(temp, data, mode); err != nil {
		return err
	}
	if err = f.Rename(temp, path); err != nil {
		return err
	}
	return f.SyncDir(dir)
}

func (f *FS) writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	w, err := f.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := f.chmod(w, mode); err != nil {
		return err
	}
	// vfs.File may scribble on what it is given.
	if _, err := w.Write(append([]byte(nil), data...)); err != nil {
		return err
	}
	return w.Sync()
}

// ReadFile returns the content of path, at most limit bytes, else ErrTooLarge.
func (f *FS) ReadFile(path string, limit int64) ([]byte, error) {
	r, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // nothing was written
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is over %d bytes", ErrTooLarge, f.PathBase(path), limit)
	}
	return b, nil
}

// RemoveSync removes path, durably. A missing one is no error.
func (f *FS) RemoveSync(path string) error {
	if err := f.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.SyncDir(f.PathDir(path))
}

// RemoveTemp removes what an interrupted ReplaceFile left in dir. Nothing else
// may be writing there.
func (f *FS) RemoveTemp(dir string) error {
	names, err := f.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if len(name) > len(tempPrefix) && name[:len(tempPrefix)] == tempPrefix {
			err = errors.Join(err, f.Remove(f.PathJoin(dir, name)))
		}
	}
	return err
}

// Chmod sets the mode of path. It does nothing in memory.
func (f *FS) Chmod(path string, mode fs.FileMode) error {
	if !f.real {
		return nil
	}
	return os.Chmod(path, mode)
}

// Mode returns the permission bits of path; those of a private file in memory.
func (f *FS) Mode(path string) (fs.FileMode, error) {
	fi, err := f.Stat(path)
	if err != nil {
		return 0, err
	}
	if !f.real {
		return FileMode, nil
	}
	return fi.Mode().Perm(), nil
}

// Abs is filepath.Abs on the real file system and path elsewhere.
func (f *FS) Abs(path string) (string, error) {
	if !f.real {
		return path, nil
	}
	return filepath.Abs(path)
}
