// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"errors"
	"io"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// scanBytes are read at once. It holds the largest record.
const scanBytes = 1 << 20

// found is one piece of a pack.
type found struct {
	off, bytes int64 // its room
	addr       b3.Addr
	size       int64 // -1: damaged
	dead       bool
}

// scanner reads a pack from end to end. It hashes every live record, so one is
// either whole or damaged.
type scanner struct {
	r      io.ReaderAt
	id     packID
	end    int64
	window []byte
	at     int64 // of the window
	hasher *b3.Hasher
	tree   bytes.Buffer
}

func newScanner(r io.ReaderAt, id packID, end int64) *scanner {
	s := &scanner{r: r, id: id, end: end, window: make([]byte, 0, scanBytes)}
	s.hasher = b3.NewHasher(&s.tree)
	return s
}

// bytes returns the n bytes at off, or those up to the end. The slice is good
// until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	n = min(n, s.end-off)
	if off < s.at || off+n > s.at+int64(len(s.window)) {
		s.window = s.window[:min(s.end-off, scanBytes)]
		s.at = off
		m, err := s.r.ReadAt(s.window, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		clear(s.window[m:]) // the file became shorter than it was
	}
	return s.window[off-s.at:][:n], nil
}

// run calls f for each record. Between a record and the next, what is no record is
// one damaged record that began where it should have: its end is where the next
// begins. So is a rest that is not all zeros.
func (s *scanner) run(f func(found)) error {
	gap := int64(-1)
	zero := true
	for pos := int64(packHead); pos < s.end; {
		head, err := s.bytes(pos, recordHead)
		if err != nil {
			return err
		}
		rec, err := parseRecord(head, place{s.id, pos})
		if errors.Is(err, store.ErrCorrupt) {
			if gap < 0 {
				gap, zero = pos, true
			}
			zero = zero && allZero(head[:min(align, len(head))])
			pos += align
			continue
		}
		if err != nil {
			return err
		}
		if err := s.gap(gap, pos, f); err != nil {
			return err
		}
		gap = -1
		piece := found{off: pos, bytes: min(recordBytes(rec.size), s.end-pos), addr: rec.addr, size: rec.size, dead: isDead(head)}
		if !piece.dead {
			whole, err := s.whole(rec)
			if err != nil {
				return err
			}
			if !whole {
				piece.addr, piece.size = b3.Addr{}, -1
			}
		}
		f(piece)
		pos += piece.bytes
	}
	if !zero {
		return s.gap(gap, s.end, f)
	}
	return nil
}

// gap reports what lies from off to end and is no record.
func (s *scanner) gap(off, end int64, f func(found)) error {
	if off < 0 {
		return nil
	}
	head, err := s.bytes(off, recordHead)
	if err != nil {
		return err
	}
	f(found{off: off, bytes: end - off, size: -1, dead: len(head) == recordHead && isDead(head)})
	return nil
}

// whole reports whether bytes and tree are those of the record's address.
func (s *scanner) whole(r record) (bool, error) {
	n := r.size + b3.TreeBytes(r.size)
	b, err := s.bytes(r.off+recordHead, n)
	if err != nil || int64(len(b)) < n {
		return false, err
	}
	s.tree.Reset()
	s.hasher.Reset(&s.tree)
	_, _ = s.hasher.Write(b[:r.size]) // a bytes.Buffer takes everything
	addr, _ := s.hasher.Sum()
	return addr == r.addr && bytes.Equal(s.tree.Bytes(), b[r.size:]), nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
