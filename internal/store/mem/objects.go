// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// DefaultObjectsBytes is ObjectsConfig.MaxBytes where that is zero.
const DefaultObjectsBytes = 1 << 30

const (
	// pieceBytes is the unit in which an object's memory is allocated.
	pieceBytes = 64 << 10
	// packedBytes is the largest object that goes to a pack.
	packedBytes = 128 << 10
	// volumeObjects go to a volume that is no pack.
	volumeObjects = 4096
)

// ObjectsConfig bounds an Objects.
type ObjectsConfig struct {
	// MaxBytes of all objects, those being written included.
	MaxBytes int64
	// PackBytes, if not 0, keeps objects of up to 128 KiB in packs of that many
	// bytes, as they are on a disk: what is removed takes its room until its
	// pack is empty. For tests of who moves the rest.
	PackBytes int64
}

// Objects implements store.Objects. Memory is trusted: what was hashed while it
// was written is what is read.
type Objects struct {
	max    int64
	pack   int64 // ObjectsConfig.PackBytes
	used   atomic.Int64
	closed atomic.Bool

	mu      sync.RWMutex // guards the rest
	next    uint64
	objs    map[store.Loc]*object
	volumes map[string]*volume
	open    [2]*volume // where large and packed objects go; nil before the first
}

// object is immutable once committed.
type object struct {
	pieces [][]byte // all of pieceBytes but the last
	size   int64
	addr   b3.Addr
	tree   []byte
	volume *volume
}

var _ store.Objects = (*Objects)(nil)

// NewObjects returns an empty Objects.
func NewObjects(c ObjectsConfig) *Objects {
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultObjectsBytes
	}
	return &Objects{max: c.MaxBytes, pack: c.PackBytes, objs: make(map[store.Loc]*object), volumes: make(map[string]*volume)}
}

// Create implements store.Objects.
func (s *Objects) Create(ctx context.Context, sizeHint int64) (store.ObjectWriter, error) {
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	if sizeHint > s.max-s.used.Load() {
		return nil, s.full()
	}
	w := &writer{s: s}
	w.h = b3.NewHasher(&w.tree)
	return w, nil
}

func (s *Objects) full() error {
	return fmt.Errorf("%w: objects in memory are bounded to %d bytes", store.ErrFull, s.max)
}

// Open implements store.Objects.
func (s *Objects) Open(ctx context.Context, loc store.Loc, addr b3.Addr, size int64) (store.Object, error) {
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	o := s.objs[loc]
	s.mu.RUnlock()
	if o == nil {
		return nil, store.ErrNotFound
	}
	if o.addr != addr || o.size != size {
		return nil, fmt.Errorf("%w: another object is at its place", store.ErrCorrupt)
	}
	return &reader{o: o}, nil
}

// Check implements store.Objects.
func (s *Objects) Check(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Close forgets everything. Objects already open can still be read.
func (s *Objects) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.objs)
	clear(s.volumes)
	return nil
}

// writer is used by one goroutine.
type writer struct {
	s    *Objects
	h    *b3.Hasher
	tree bytes.Buffer
	o    object
	done bool
}

func (w *writer) Write(p []byte) (n int, err error) {
	if w.done || w.s.closed.Load() {
		return 0, store.ErrClosed
	}
	if w.s.used.Add(int64(len(p))) > w.s.max {
		w.s.used.Add(-int64(len(p)))
		return 0, w.s.full()
	}
	_, _ = w.h.Write(p) // only a tree fails
	w.o.size += int64(len(p))
	for n = len(p); len(p) > 0; {
		last := len(w.o.pieces) - 1
		if last < 0 || len(w.o.pieces[last]) == pieceBytes {
			w.o.pieces = append(w.o.pieces, make([]byte, 0, min(len(p), pieceBytes)))
			last++
		}
		take := min(len(p), pieceBytes-len(w.o.pieces[last]))
		w.o.pieces[last] = append(w.o.pieces[last], p[:take]...)
		p = p[take:]
	}
	return n, nil
}

// Commit implements store.ObjectWriter.
func (w *writer) Commit() (store.Loc, b3.Addr, int64, error) {
	if w.done {
		return "", b3.Addr{}, 0, store.ErrClosed
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return "", b3.Addr{}, 0, store.ErrClosed
	}
	w.o.addr, _ = w.h.Sum()
	w.o.tree = w.tree.Bytes()
	w.done, w.h = true, nil
	s.next++
	loc := store.Loc(fmt.Sprintf("m:%016x", s.next))
	s.objs[loc] = &w.o
	s.shelve(loc, &w.o)
	return loc, w.o.addr, w.o.size, nil
}

// Abort implements store.ObjectWriter.
func (w *writer) Abort() {
	if !w.done {
		w.done = true
		w.s.used.Add(-w.o.size)
		w.o = object{}
	}
}

// reader may be used by many goroutines, as io.ReaderAt wants.
type reader struct {
	o      *object
	closed atomic.Bool
}

func (r *reader) Size() int64 { return r.o.size }

func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if r.closed.Load() {
		return 0, store.ErrClosed
	}
	if off < 0 {
		return 0, store.ErrRange
	}
	for n < len(p) && off < r.o.size {
		m := copy(p[n:], r.o.pieces[off/pieceBytes][off%pieceBytes:])
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *reader) WriteRange(w io.Writer, off, n int64) (done int64, err error) {
	if r.closed.Load() {
		return 0, store.ErrClosed
	}
	if off < 0 || n < 0 || off > r.o.size || n > r.o.size-off {
		return 0, store.ErrRange
	}
	for done < n {
		piece := r.o.pieces[off/pieceBytes][off%pieceBytes:]
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
func (r *reader) Parent(s, m int64) (p [b3.ParentBytes]byte, err error) {
	if r.closed.Load() {
		return p, store.ErrClosed
	}
	if m < 2 {
		return p, store.ErrRange
	}
	return b3.NewVerifier(r.o.addr, r.o.size, bytes.NewReader(r.o.tree)).Parent(s, m)
}

func (r *reader) Close() error {
	r.closed.Store(true)
	return nil
}
