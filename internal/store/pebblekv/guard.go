// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the file system once the database is open.
// Where Pebble cannot go on after an error, of the log or the manifest, it panics,
// in a state of its locks in which the panic ends the process, or calls Fatalf
// with locks held that readers need. So such an error never reaches it: the store
// is failed, and the goroutine that met the error is parked for good, outside
// those locks, with whatever waits for it. What was being committed stays
// unacknowledged.
type guard struct {
	vfs.FS
	k      *KV
	active *atomic.Bool // not while the database is opened, which can fail by itself
}

func (g guard) Unwrap() vfs.FS { return g.FS }

// vital reports whether Pebble cannot go on after an error of the file.
func (g guard) vital(name string) bool {
	base := g.PathBase(name)
	return strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") || isMarker(base)
}

func isMarker(base string) bool { return strings.HasPrefix(base, "marker.") }

// stop does not return where err, of a vital file, is an error.
func (g guard) stop(err error) error {
	if err != nil && g.active.Load() {
		g.k.fail(err)
		select {}
	}
	return err
}

// rest does not return once the store has failed: Pebble would try a failing flush
// again and again until the process ends.
func (g guard) rest() {
	select {
	case <-g.k.failed:
		if g.active.Load() {
			select {}
		}
	default:
	}
}

func (g guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.rest()
	if isMarker(g.PathBase(name)) {
		// A marker says by its name which manifest counts. Pebble syncs the
		// directory after both are made, and so trusts the file system to keep
		// their order. Not here: the manifest's entry is durable first.
		if err := g.k.c.FS.SyncDir(g.PathDir(name)); err != nil {
			return nil, g.stop(err)
		}
	}
	f, err := g.FS.Create(name, c)
	return g.file(name, f, err)
}

func (g guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	return g.file(newname, f, err)
}

func (g guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return guardedFile{f, g}, nil
}

func (g guard) Remove(name string) error {
	err := g.FS.Remove(name)
	if isMarker(g.PathBase(name)) {
		return g.stop(err)
	}
	return err
}

func (g guard) file(name string, f vfs.File, err error) (vfs.File, error) {
	if !g.vital(name) {
		return f, err
	}
	if err := g.stop(err); err != nil {
		return nil, err
	}
	return guardedFile{f, g}, nil
}

// guardedFile is a vital file, or its directory.
type guardedFile struct {
	vfs.File
	g guard
}

func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.g.stop(err)
}

func (f guardedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.g.stop(err)
}

func (f guardedFile) Sync() error     { return f.g.stop(f.File.Sync()) }
func (f guardedFile) SyncData() error { return f.g.stop(f.File.SyncData()) }
func (f guardedFile) Close() error    { return f.g.stop(f.File.Close()) }

func (f guardedFile) Stat() (vfs.FileInfo, error) {
	fi, err := f.File.Stat()
	return fi, f.g.stop(err)
}

func (f guardedFile) SyncTo(n int64) (bool, error) {
	full, err := f.File.SyncTo(n)
	return full, f.g.stop(err)
}
