// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/disk/handles"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

// object implements store.Object for an object file, or a record of more than one
// group in a pack. It is safe for concurrent use.
type object struct {
	s        *Objects
	h        *handle
	base     int64 // of its bytes in the file
	size     int64
	verifier *b3.Verifier
	closed   atomic.Bool
}

// damage marks errors that say that bytes are not what was written.
func damage(err error) error {
	if errors.Is(err, b3.ErrMismatch) {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return fmt.Errorf("fileobj: read: %w", err)
}

// fileKey names an object file or a pack.
type fileKey struct {
	pack bool
	id   [idBytes]byte
}

func objectKey(id objectID) fileKey { return fileKey{id: id} }

func packKey(id pack.ID) fileKey {
	k := fileKey{pack: true}
	copy(k.id[:], id[:])
	return k
}

// frame is what is known of an open object file; nothing of a pack.
type frame struct {
	foot     footer
	verifier *b3.Verifier
}

type handle = handles.Handle[fileKey, frame]

// treeReader reads the tree that begins at base in a file.
type treeReader struct {
	file disk.File
	base int64
}

func (t treeReader) ReadAt(p []byte, off int64) (int, error) { return t.file.ReadAt(p, t.base+off) }

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Size implements store.Object.
func (o *object) Size() int64 { return o.size }

// ReadAt implements store.Object.
func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
	if o.closed.Load() {
		return 0, store.ErrClosed
	}
	if off < 0 {
		return 0, store.ErrRange
	}
	size := o.size
	var mem *scratch
	for n < len(p) && off < size {
		want := p[n:min(int64(len(p)), int64(n)+size-off)]
		var m int
		if whole := o.whole(off, int64(len(want))); whole > 0 {
			m = int(min(whole, pieceBytes))
			err = o.groups(want[:m], off)
		} else {
			if mem == nil {
				mem = o.s.scratch.Get().(*scratch)
				defer o.s.scratch.Put(mem)
			}
			start := off - off%b3.GroupBytes
			group := mem.piece[:min(b3.GroupBytes, size-start)]
			if err = o.groups(group, start); err == nil {
				m = copy(want, group[off-start:])
			}
		}
		if err != nil {
			return n, err
		}
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// whole returns how many of n bytes from off are whole groups, 0 where off is
// inside one. The object's last group is whole though it may be short.
func (o *object) whole(off, n int64) int64 {
	switch {
	case off%b3.GroupBytes != 0:
		return 0
	case off+n == o.size:
		return n
	default:
		return n - n%b3.GroupBytes
	}
}

// groups fills p with the whole groups from off, verified. Where it fails p holds
// zeros, lest a caller that disregards the error should use what is there.
func (o *object) groups(p []byte, off int64) error {
	n, err := o.h.File.ReadAt(p, o.base+off)
	switch {
	case n == len(p):
		err = o.verifier.Verify(off/b3.GroupBytes, p)
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: the file ends early", b3.ErrMismatch)
	}
	if err != nil {
		clear(p)
		return damage(err)
	}
	return nil
}

// WriteRange implements store.Object.
func (o *object) WriteRange(w io.Writer, off, n int64) (done int64, err error) {
	if o.closed.Load() {
		return 0, store.ErrClosed
	}
	size := o.size
	if off < 0 || n < 0 || off > size || n > size-off {
		return 0, store.ErrRange
	}
	mem := o.s.scratch.Get().(*scratch)
	defer o.s.scratch.Put(mem)
	for done < n {
		start := off - off%b3.GroupBytes
		last := off + n - done + b3.GroupBytes - 1 // round up to a group
		end := min(start+pieceBytes, last-last%b3.GroupBytes, size)
		piece := mem.piece[:end-start]
		if err := o.groups(piece, start); err != nil {
			return done, err
		}
		piece = piece[off-start:]
		piece = piece[:min(int64(len(piece)), n-done)]
		m, err := w.Write(piece)
		done += int64(m)
		off += int64(m)
		if err != nil {
			return done, err
		}
		if m < len(piece) {
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}

// Parent implements store.Object.
func (o *object) Parent(s, m int64) (p [b3.ParentBytes]byte, err error) {
	if o.closed.Load() {
		return p, store.ErrClosed
	}
	if m < 2 {
		return p, store.ErrRange
	}
	if p, err = o.verifier.Parent(s, m); err != nil {
		return p, damage(err)
	}
	return p, nil
}

// Close implements store.Object.
func (o *object) Close() error {
	if o.closed.Swap(true) {
		return nil
	}
	return o.s.cache.Release(o.h)
}
