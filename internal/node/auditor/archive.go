// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditor

import (
	"bufio"
	"errors"
	"io"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/tlog"
)

// archive is the folder of what was cut off the log.
type archive struct{ d datadir.Dir }

// unchecked ends the names of archives that nobody has verified yet.
const unchecked = ".part"

// Keep implements audit.Archive.
func (a archive) Keep(name string, write func(io.Writer) error, check func(io.Reader) error) (err error) {
	fs, dir := a.d.FS, filepath.Join(a.d.At(datadir.AuditDir), "archive")
	if err := fs.MkdirAllSync(dir); err != nil {
		return err
	}
	part := filepath.Join(dir, name+unchecked)
	defer func() {
		if err != nil {
			_ = fs.Remove(part) // the first error is the one to tell
		}
	}()
	f, err := fs.Create(part, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	if err = errors.Join(write(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	r, err := fs.Open(part)
	if err != nil {
		return err
	}
	if err = errors.Join(check(r), r.Close()); err != nil {
		return err
	}
	if err = fs.Rename(part, filepath.Join(dir, name)); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

// versions are the keys that have signed checkpoints under the origin, by version,
// the newest first.
func (a *Auditor) versions(origin string) ([][]tlog.Key, error) {
	return versionsOf(a.d.Keys, a.key.Load().Name, origin)
}
