// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"
	"io"

	"github.com/rustyonions/macronode/internal/store"
)

const (
	// stretchBytes are read at once at most, and stretchGap is the most that may lie
	// unwanted between two records of them.
	stretchBytes = 1 << 20
	stretchGap   = 4 << 10
)

// ReadMany implements store.Log.
func (l *Log) ReadMany(places []store.Span, f func(i int, record []byte, err error)) {
	for i := 0; i < len(places); {
		n := stretch(places[i:])
		var b []byte
		var s *segment
		if n > 1 {
			b, s = l.readStretch(places[i : i+n])
		}
		start := places[i].At.Offset()
		for end := i + n; i < end; i++ {
			record, ok := s.within(b, start, places[i].At.Offset())
			if ok {
				f(i, record, nil)
				continue
			}
			record, err := l.Read(places[i].At, nil)
			f(i, record, err)
		}
	}
}

// spanEnd is where a record that is as long as it may be ends.
func spanEnd(p store.Span) int64 { return p.At.Offset() + frameRoom(p.Bytes) }

// stretch is how many of the first places lie so near that they are read at once.
func stretch(places []store.Span) int {
	first := places[0].At
	end := spanEnd(places[0])
	for n, p := range places[1:] {
		off := p.At.Offset()
		next := spanEnd(p)
		if p.Bytes < 0 || p.At.Segment() != first.Segment() || off <= places[n].At.Offset() || off > end+stretchGap || next-first.Offset() > stretchBytes {
			return n + 1
		}
		end = max(end, next)
	}
	return len(places)
}

// readStretch reads from the first of the places to the end of the last; nothing
// where they are not all in the file, or it does not give them.
func (l *Log) readStretch(places []store.Span) ([]byte, *segment) {
	first, last := places[0].At, places[len(places)-1]
	l.mu.Lock()
	s := l.find(first.Segment())
	there := s != nil && !l.closing && !s.lost && last.At < l.staged && first.Offset() >= firstFrame
	for _, t := range l.lots {
		there = there && (t.seg != s || last.At.Offset() < t.off)
	}
	l.mu.Unlock()
	if !there {
		return nil, nil
	}
	h, err := l.open(s)
	if err != nil {
		return nil, nil
	}
	defer func() { _ = l.files.Release(h) }() // it is only read
	b := make([]byte, min(spanEnd(last), s.size)-first.Offset())
	n, err := h.File.ReadAt(b, first.Offset())
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil
	}
	return b[:n], s
}

// within is the record at off in b, which was read from start on; false where it is
// not there whole: then Read says what is wrong.
func (s *segment) within(b []byte, start, off int64) ([]byte, bool) {
	if s == nil || off%align != 0 || off-start+frameHead > int64(len(b)) {
		return nil, false
	}
	b = b[off-start:]
	fr, ok := s.parse(b, off)
	if !ok || fr.kind != kindRecord || fr.end() > s.limit() || frameHead+fr.length > int64(len(b)) {
		return nil, false
	}
	record := b[frameHead : frameHead+fr.length : frameHead+fr.length]
	return record, fr.whole(record)
}
