// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/rustyonions/macronode/internal/disk/handles"
	"github.com/rustyonions/macronode/internal/store"
)

// readBytes are read at first: most records are in them.
const readBytes = 4096

// find returns the segment of a number, or nil. The caller holds mu.
func (l *Log) find(number uint32) *segment {
	i, ok := slices.BinarySearchFunc(l.segments, number, func(s *segment, n uint32) int { return int(s.number) - int(n) })
	if !ok {
		return nil
	}
	return l.segments[i]
}

// Read implements store.Log.
func (l *Log) Read(p store.Pos, buf []byte) ([]byte, error) {
	l.mu.Lock()
	s := l.find(p.Segment())
	switch {
	case l.closing:
		l.mu.Unlock()
		return nil, store.ErrClosed
	case s == nil || p >= l.staged || p.Offset() < firstFrame || p.Offset()%align != 0:
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: no record %x", store.ErrNotFound, uint64(p))
	case s.lost:
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: segment %d has no head", store.ErrCorrupt, s.number)
	}
	for _, t := range l.lots {
		if t.seg == s && p.Offset() >= t.off && p < t.end() {
			defer l.mu.Unlock()
			return t.read(p.Offset(), buf)
		}
	}
	l.mu.Unlock()
	b, err := l.readFile(s, p.Offset(), buf)
	if err != nil && (errors.Is(err, store.ErrCorrupt) || errors.Is(err, fs.ErrNotExist)) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.find(s.number) == nil { // it was dropped, and perhaps used again
			return nil, fmt.Errorf("%w: segment %d was dropped", store.ErrNotFound, s.number)
		}
	}
	return b, err
}

func damaged(p store.Pos) error {
	return fmt.Errorf("%w: record %x", store.ErrCorrupt, uint64(p))
}

// read reads what is staged.
func (t *lot) read(off int64, buf []byte) ([]byte, error) {
	b := t.buf[off-t.off:]
	if len(b) < frameHead {
		return nil, damaged(t.seg.pos(off))
	}
	f, ok := t.seg.parse(b, off)
	if !ok || f.kind != kindRecord {
		return nil, damaged(t.seg.pos(off))
	}
	return append(buf[:0], b[frameHead:][:f.length]...), nil
}

func (l *Log) readFile(s *segment, off int64, buf []byte) ([]byte, error) {
	h, err := l.open(s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.files.Release(h) }() // it is only read
	n := min(readBytes, s.size-off)
	buf = slices.Grow(buf[:0], int(n))[:n]
	got, err := h.File.ReadAt(buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if got < frameHead {
		return nil, damaged(s.pos(off))
	}
	f, ok := s.parse(buf, off)
	if !ok || f.kind != kindRecord || f.end() > s.limit() {
		return nil, damaged(s.pos(off))
	}
	if all := frameHead + int(f.length); got < all {
		buf = slices.Grow(buf[:got], all-got)[:all]
		if _, err := h.File.ReadAt(buf[got:], off+int64(got)); errors.Is(err, io.EOF) {
			return nil, damaged(s.pos(off))
		} else if err != nil {
			return nil, err
		}
	}
	b := buf[:copy(buf, buf[frameHead:frameHead+f.length])]
	if !f.whole(b) {
		return nil, damaged(s.pos(off))
	}
	return b, nil
}

// open returns the file of a segment to read, with a reference.
func (l *Log) open(s *segment) (*handles.Handle[uint32, *segment], error) {
	h, removals := l.files.Get(s.number)
	if h != nil {
		return h, nil
	}
	file, err := l.fs.Open(l.path(fileName(s.number)))
	if err != nil {
		return nil, err
	}
	h = handles.New(s.number, file, s)
	l.files.Put(h, removals)
	return h, nil
}

// Scan implements store.Log.
func (l *Log) Scan(from store.Pos, f func(store.Pos, []byte) error, damage func(store.Pos, int64)) error {
	l.mu.Lock()
	segments, end, closing := slices.Clone(l.segments), l.durable, l.closing
	l.mu.Unlock()
	if closing {
		return store.ErrClosed
	}
	var window []byte
	for _, s := range segments {
		if s.number < from.Segment() || s.pos(0) > end {
			continue
		}
		start := int64(firstFrame)
		if s.number == from.Segment() {
			start = max(start, from.Offset())
		}
		if s.lost {
			damage(s.pos(start), max(s.size-start, 0))
			continue
		}
		limit := s.limit()
		if s.number == end.Segment() {
			limit = min(limit, end.Offset())
		}
		var err error
		if window, err = l.scan(s, start, limit, window, f, damage); err != nil {
			l.mu.Lock()
			gone := l.find(s.number) == nil
			l.mu.Unlock()
			if gone && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
	}
	return nil
}

func (l *Log) scan(s *segment, start, limit int64, window []byte, f func(store.Pos, []byte) error, damage func(store.Pos, int64)) ([]byte, error) {
	h, err := l.open(s)
	if err != nil {
		return window, err
	}
	defer func() { _ = l.files.Release(h) }() // it is only read
	w := walker{
		r: h.File, s: s, end: limit, window: window[:0],
		frame: func(fr frame, record []byte) error {
			if fr.kind != kindRecord {
				return nil
			}
			return f(s.pos(fr.off), record)
		},
		broken: func(fr frame) error { damage(s.pos(fr.off), fr.end()-fr.off); return nil },
		gap:    func(off, end int64) error { damage(s.pos(off), end-off); return nil },
	}
	_, err = w.run(start)
	return w.window, err
}
