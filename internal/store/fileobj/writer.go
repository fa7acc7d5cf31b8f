// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// treeBytes of outboard tree are kept in memory, those of a 64 MiB object; a
// longer one goes to a file of its own until the commit, since its place is
// behind bytes that are still to come.
const treeBytes = 256 << 10

// scratch is the memory of one writer, or one reader, reused.
type scratch struct {
	hasher *b3.Hasher
	piece  [pieceBytes]byte
	tree   [8 * b3.ParentBytes]byte // of what is in piece
}

// writer implements store.ObjectWriter. It is used by one goroutine. It makes a
// file when there is more than a piece; what is not more goes to a pack.
type writer struct {
	s    *Objects
	temp string
	file disk.File // nil up to the first flush, and once it is whole
	made bool      // there was a file
	tree treeSink
	mem  *scratch
	n    int   // bytes in mem.piece
	size int64 // hashed and written
	err  error // the first; nothing more is written
	done bool

	reserve int64 // bytes that stay free on the disk
}

func newWriter(s *Objects, name string, reserve int64) *writer {
	w := &writer{s: s, reserve: reserve, temp: s.fs.PathJoin(s.dir, tempDir, name)}
	w.mem = s.scratch.Get().(*scratch)
	w.tree = treeSink{fs: s.fs, path: w.temp + ".tree", max: s.treeBytes, mem: w.mem.tree[:0]}
	w.mem.hasher.Reset(&w.tree)
	return w
}

// full marks errors of writing that say that the disk is used up.
func full(err error) error { return failed("write", err) }

// failed says what failed, and marks errors that say that the disk is used up: on
// some file systems even a change in place may meet that.
func failed(what string, err error) error {
	if disk.IsFull(err) {
		return fmt.Errorf("%w: %s: %w", store.ErrFull, what, err)
	}
	return fmt.Errorf("fileobj: %s: %w", what, err)
}

// Write implements io.Writer. After an error only Abort is of use.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.done {
		return 0, store.ErrClosed
	}
	for w.err == nil && len(p) > 0 {
		if w.n == pieceBytes {
			if w.err = w.flush(); w.err != nil {
				break
			}
		}
		m := copy(w.mem.piece[w.n:], p)
		w.n += m
		n += m
		p = p[m:]
	}
	return n, w.err
}

// flush hashes and writes what is in the piece.
func (w *writer) flush() error {
	p := w.mem.piece[:w.n]
	if len(p) == 0 {
		return nil
	}
	if err := w.s.room(int64(len(p)), w.reserve); err != nil {
		return err
	}
	if w.file == nil {
		file, err := w.s.fs.Create(w.temp, vfs.WriteCategoryUnspecified)
		if err != nil {
			return full(err)
		}
		w.file, w.made = file, true
	}
	if _, err := w.mem.hasher.Write(p); err != nil {
		return full(err)
	}
	if err := w.put(p); err != nil {
		return err
	}
	w.size += int64(len(p))
	w.n = 0
	return nil
}

func (w *writer) put(p []byte) error {
	if n, err := w.file.Write(p); err != nil {
		return full(err)
	} else if n < len(p) {
		return full(io.ErrShortWrite)
	}
	return nil
}

// Commit implements store.ObjectWriter. Where it fails nothing is left.
func (w *writer) Commit() (store.Loc, b3.Addr, int64, error) {
	if w.done {
		return "", b3.Addr{}, 0, store.ErrClosed
	}
	if w.err != nil {
		w.Abort()
		return "", b3.Addr{}, 0, w.err
	}
	var loc store.Loc
	var addr b3.Addr
	var err error
	if w.file == nil {
		loc, addr, err = w.commitPacked()
	} else {
		var id objectID
		id, addr, err = w.commit()
		loc = id.loc()
	}
	if err != nil {
		w.Abort()
		return "", b3.Addr{}, 0, err
	}
	w.s.scratch.Put(w.mem)
	w.done, w.mem = true, nil
	return loc, addr, w.size, nil
}

// commitPacked puts what is in the piece into a pack.
func (w *writer) commitPacked() (store.Loc, b3.Addr, error) {
	if w.s.closed.Load() {
		return "", b3.Addr{}, store.ErrClosed
	}
	r := packed{data: w.mem.piece[:w.n], reserve: w.reserve}
	if _, err := w.mem.hasher.Write(r.data); err != nil {
		return "", b3.Addr{}, full(err)
	}
	var err error
	if r.addr, err = w.mem.hasher.Sum(); err != nil {
		return "", b3.Addr{}, full(err)
	}
	r.tree = w.tree.mem
	if err := w.s.packer.put(&r); err != nil {
		return "", b3.Addr{}, err
	}
	w.size = int64(w.n)
	return r.at.Loc(), r.addr, nil
}

func (w *writer) commit() (id objectID, addr b3.Addr, err error) {
	if w.s.closed.Load() {
		return id, addr, store.ErrClosed
	}
	if err := w.flush(); err != nil {
		return id, addr, err
	}
	if addr, err = w.mem.hasher.Sum(); err != nil {
		return id, addr, full(err)
	}
	id, shard, err := w.s.place()
	if err != nil {
		return id, addr, full(err)
	}
	defer w.s.placed(shard)
	if err := w.tree.copyTo(w.put, w.mem.piece[:]); err != nil {
		return id, addr, err
	}
	foot := footer{id: id, addr: addr, size: w.size}
	if err := w.put(foot.append(w.mem.piece[:0])); err != nil {
		return id, addr, err
	}
	if err := w.file.Sync(); err != nil {
		return id, addr, full(err)
	}
	if err := w.file.Close(); err != nil {
		w.file = nil
		return id, addr, full(err)
	}
	w.file = nil
	if err := w.s.fs.Rename(w.temp, w.s.path(id)); err != nil {
		return id, addr, full(err)
	}
	if err := w.s.syncDir(id.shard()); err != nil {
		// Whether it is durable is unknown and it is not acknowledged. Where
		// it cannot be removed either, WalkVolume finds it.
		return id, addr, errors.Join(full(err), w.s.fs.Remove(w.s.path(id)))
	}
	return id, addr, nil
}

// Abort implements store.ObjectWriter.
func (w *writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	var errs error
	if w.file != nil {
		errs = w.file.Close()
	}
	errs = errors.Join(errs, w.tree.remove())
	if w.made {
		if err := w.s.fs.Remove(w.temp); err != nil && !missing(err) {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil { // the next Open removes it
		w.s.log.Warn("an unfinished object stays", "event", "object_abort_failed", "error", errs)
	}
	w.s.scratch.Put(w.mem)
	w.mem = nil
}

// treeSink takes an outboard tree, in memory as long as it is short.
type treeSink struct {
	fs   *disk.FS
	path string
	max  int
	mem  []byte
	file disk.File // nil while everything is in mem
}

func (t *treeSink) Write(p []byte) (int, error) {
	if len(t.mem)+len(p) > t.max {
		if err := t.spill(); err != nil {
			return 0, err
		}
	}
	t.mem = append(t.mem, p...)
	return len(p), nil
}

func (t *treeSink) spill() error {
	if t.file == nil {
		file, err := t.fs.Create(t.path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		t.file = file
	}
	n, err := t.file.Write(t.mem)
	if err == nil && n < len(t.mem) {
		err = io.ErrShortWrite
	}
	t.mem = t.mem[:0]
	return err
}

// copyTo writes the tree with put, through buf where it is in a file, which is
// removed.
func (t *treeSink) copyTo(put func([]byte) error, buf []byte) error {
	if t.file == nil {
		if len(t.mem) == 0 {
			return nil
		}
		return put(t.mem)
	}
	if err := t.spill(); err != nil {
		return full(err)
	}
	for off := int64(0); ; {
		n, err := t.file.ReadAt(buf, off)
		if n > 0 {
			if err := put(buf[:n]); err != nil {
				return err
			}
			off += int64(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return full(err)
		}
	}
	if err := t.remove(); err != nil {
		return full(err)
	}
	return nil
}

func (t *treeSink) remove() error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	return errors.Join(err, t.fs.Remove(t.path))
}
