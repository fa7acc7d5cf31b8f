// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/audit/forward"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// File returns the sink that appends records to a file, one a line, each once: what
// a kill cut off in the middle becomes empty lines. The file may be renamed away at
// any time; its directory must exist.
func File(fs *disk.FS, path string) forward.Sink { return file{fs, path} }

type file struct {
	fs   *disk.FS
	path string
}

// Deliver implements forward.Sink. The records are durable when it returns nil.
func (s file) Deliver(_ context.Context, rows []tree.Row) (_ int, err error) {
	_, err = s.fs.Stat(s.path)
	made := errors.Is(err, fs.ErrNotExist)
	f, err := s.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if made {
		if err := s.fs.SyncDir(s.fs.PathDir(s.path)); err != nil {
			return 0, err
		}
	}
	end, last, err := mend(f)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		// The cursor may be behind what the file holds.
		if last != nil && bytes.Equal(rows[i].Entry, last) {
			rows = rows[i+1:]
			break
		}
	}
	if len(rows) > 0 {
		if _, err := f.WriteAt(lines(rows), end); err != nil {
			return 0, err
		}
	}
	return 0, f.Sync()
}

// mend makes empty lines of what stands behind the last whole line, and returns where
// the file ends and its last record, nil where there is none.
func mend(f disk.File) (end int64, last []byte, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	end = info.Size()
	tail := make([]byte, min(end, 3*(tlog.MaxRecordBytes+1)))
	if _, err := f.ReadAt(tail, end-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if torn := len(tail) - whole; torn > 0 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{'\n'}, torn), end-int64(torn)); err != nil {
			return 0, nil, err
		}
	}
	line := bytes.TrimRight(tail[:whole], "\n")
	if i := bytes.LastIndexByte(line, '\n'); i >= 0 || int64(len(tail)) == end {
		line = line[i+1:]
	} else {
		line = nil // its beginning is further up: no record is so long
	}
	if len(line) == 0 {
		return end, nil, nil
	}
	return end, line, nil
}
