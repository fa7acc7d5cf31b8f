// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// private is the machine's file system with the modes of a data directory, which
// Pebble's own would leave to the umask.
type private struct{ vfs.FS }

func (p private) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return restrict(p.FS.Create(name, c))
}

func (p private) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return restrict(p.FS.OpenReadWrite(name, c, opts...))
}

func (p private) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return restrict(p.FS.ReuseForWrite(oldname, newname, c))
}

func (p private) MkdirAll(dir string, _ os.FileMode) error {
	return p.FS.MkdirAll(dir, DirMode)
}

func (p private) Unwrap() vfs.FS { return p.FS }

func restrict(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(FileMode)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// chmod sets the mode of an open file; in memory there is none.
func (f *FS) chmod(w File, mode fs.FileMode) error {
	if fd := w.Fd(); f.real && fd != vfs.InvalidFd {
		return unix.Fchmod(int(fd), uint32(mode.Perm()))
	}
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// isForeign reports whether an error of SyncDir says that the directory is one in
// which this process makes nothing: not to be read, or on a file system that is
// read-only or knows no sync.
func isForeign(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) ||
		errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
