// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk/handles"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

// groupBuffer holds the head and bytes of a packed object of one group.
type groupBuffer [pack.RecordHead + b3.GroupBytes]byte

// openPacked opens the record at p. An object of one group is read with the
// head, at once.
func (s *Objects) openPacked(p pack.Place, addr b3.Addr, size int64) (store.Object, error) {
	if size < 0 || size > pack.MaxObject {
		return nil, fmt.Errorf("%w: another object is at its place", store.ErrCorrupt)
	}
	h, err := s.packHandle(p.ID)
	if err != nil {
		return nil, err
	}
	buf := s.groups.Get().(*groupBuffer)
	want := buf[:pack.RecordHead]
	if size <= b3.GroupBytes {
		want = buf[:pack.RecordHead+size]
	}
	if err := readRecord(h, p, want, addr, size); err != nil {
		s.groups.Put(buf)
		return nil, errors.Join(err, s.cache.Release(h))
	}
	if size <= b3.GroupBytes {
		if err := s.cache.Release(h); err != nil {
			s.groups.Put(buf)
			return nil, fmt.Errorf("fileobj: open: %w", err)
		}
		return &smallObject{s: s, addr: addr, size: size, buf: buf}, nil
	}
	s.groups.Put(buf)
	base := p.Off + pack.RecordHead
	o := &object{s: s, h: h, size: size, base: base}
	o.verifier = b3.NewVerifier(addr, size, treeReader{h.File, base + size})
	if err := o.verifier.VerifyTop(); err != nil {
		return nil, errors.Join(damage(err), s.cache.Release(h))
	}
	return o, nil
}

// readRecord fills b with the beginning of the record at p and finds out whether
// it is live and the one that is expected.
func readRecord(h *handle, p pack.Place, b []byte, addr b3.Addr, size int64) error {
	n, err := h.File.ReadAt(b, p.Off)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("fileobj: open: %w", err)
	}
	if n < pack.RecordHead {
		return fmt.Errorf("%w: the pack ends before the record", store.ErrCorrupt)
	}
	if pack.IsDead(b) {
		return store.ErrNotFound
	}
	rec, err := pack.ParseRecord(b, p)
	if err != nil {
		return fmt.Errorf("fileobj: open: %w", err)
	}
	if rec.Addr != addr || rec.Size != size {
		return fmt.Errorf("%w: another object is at its place", store.ErrCorrupt)
	}
	if n < len(b) {
		return fmt.Errorf("%w: the pack ends within the record", store.ErrCorrupt)
	}
	return nil
}

// packHandle returns the open file of a pack, with a reference.
func (s *Objects) packHandle(id pack.ID) (*handle, error) {
	key := packKey(id)
	h, removals := s.cache.Get(key)
	if h != nil {
		return h, nil
	}
	file, err := s.fs.Open(s.packPath(id))
	if missing(err) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("fileobj: open: %w", err)
	}
	h = handles.New(key, file, frame{})
	s.cache.Put(h, removals)
	return h, nil
}

// smallObject implements store.Object for a packed object of one group, which is
// in memory. It is safe for concurrent use.
type smallObject struct {
	s    *Objects
	addr b3.Addr
	size int64

	mu     sync.Mutex   // guards the rest
	buf    *groupBuffer // goes back when the object is closed and not in use
	proven bool         // the bytes belong to the address
	users  int
	closed bool
}

// use returns the verified bytes, to be given back with done.
func (o *smallObject) use() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, store.ErrClosed
	}
	data := o.buf[pack.RecordHead : pack.RecordHead+o.size]
	if !o.proven {
		if b3.Sum(data) != o.addr {
			return nil, damage(b3.ErrMismatch)
		}
		o.proven = true
	}
	o.users++
	return data, nil
}

func (o *smallObject) done() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users--
	o.giveBack()
}

// giveBack lets others have the buffer. o.mu is held.
func (o *smallObject) giveBack() {
	if o.closed && o.users == 0 && o.buf != nil {
		o.s.groups.Put(o.buf)
		o.buf = nil
	}
}

// Size implements store.Object.
func (o *smallObject) Size() int64 { return o.size }

// ReadAt implements store.Object.
func (o *smallObject) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, store.ErrRange
	}
	data, err := o.use()
	if err != nil {
		return 0, err
	}
	defer o.done()
	n := copy(p, data[min(off, o.size):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteRange implements store.Object.
func (o *smallObject) WriteRange(w io.Writer, off, n int64) (int64, error) {
	data, err := o.use()
	if err != nil {
		return 0, err
	}
	defer o.done()
	if off < 0 || n < 0 || off > o.size || n > o.size-off {
		return 0, store.ErrRange
	}
	if n == 0 {
		return 0, nil
	}
	m, err := w.Write(data[off : off+n])
	if err == nil && int64(m) < n {
		err = io.ErrShortWrite
	}
	return int64(m), err
}

// Parent implements store.Object: there is none above one group.
func (o *smallObject) Parent(s, m int64) (p [b3.ParentBytes]byte, err error) {
	if _, err := o.use(); err != nil {
		return p, err
	}
	o.done()
	return p, store.ErrRange
}

// Close implements store.Object.
func (o *smallObject) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.giveBack()
	return nil
}

// packHealth takes note of whether packs can be written and synced, for Check.
func (s *Objects) packHealth(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && s.sickAt == packsDir:
		s.sick, s.sickAt = nil, ""
	case err != nil && !errors.Is(err, store.ErrFull) && !errors.Is(full(err), store.ErrFull):
		s.sick, s.sickAt = err, packsDir
	}
}
