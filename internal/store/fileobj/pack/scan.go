// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"errors"
	"io"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// scanBytes are read at once. It holds the largest record.
const scanBytes = 1 << 20

// Found is one piece of a pack.
type Found struct {
	Off, Bytes int64 // its room
	Addr       b3.Addr
	Size       int64 // -1: damaged
	Dead       bool
}

type scanner struct {
	r      io.ReaderAt
	id     ID
	end    int64
	window []byte
	at     int64 // of the window
	hasher *b3.Hasher
	tree   bytes.Buffer
}

// Scan reads the pack id up to end and calls f for each record, in order. It hashes
// every live one, which so is either whole or damaged.
//
// Between a record and the next, what is no record is one damaged record: it began
// where the one before ends. So is a rest that is not all zeros.
func Scan(r io.ReaderAt, id ID, end int64, f func(Found)) error {
	s := &scanner{r: r, id: id, end: end, window: make([]byte, 0, scanBytes)}
	s.hasher = b3.NewHasher(&s.tree)
	return s.run(f)
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

func (s *scanner) run(f func(Found)) error {
	gap := int64(-1)
	zero := true
	for pos := int64(HeadBytes); pos < s.end; {
		head, err := s.bytes(pos, RecordHead)
		if err != nil {
			return err
		}
		rec, err := ParseRecord(head, Place{s.id, pos})
		if errors.Is(err, store.ErrCorrupt) {
			if gap < 0 {
				gap, zero = pos, true
			}
			zero = zero && allZero(head[:min(Align, len(head))])
			pos += Align
			continue
		}
		if err != nil {
			return err
		}
		if err := s.gap(gap, pos, f); err != nil {
			return err
		}
		gap = -1
		piece := Found{Off: pos, Bytes: min(Room(rec.Size), s.end-pos), Addr: rec.Addr, Size: rec.Size, Dead: IsDead(head)}
		if !piece.Dead {
			whole, err := s.whole(rec)
			if err != nil {
				return err
			}
			if !whole {
				piece.Addr, piece.Size = b3.Addr{}, -1
			}
		}
		f(piece)
		pos += piece.Bytes
	}
	if !zero {
		return s.gap(gap, s.end, f)
	}
	return nil
}

// gap reports what lies from off to end and is no record.
func (s *scanner) gap(off, end int64, f func(Found)) error {
	if off < 0 {
		return nil
	}
	head, err := s.bytes(off, RecordHead)
	if err != nil {
		return err
	}
	f(Found{Off: off, Bytes: end - off, Size: -1, Dead: len(head) == RecordHead && IsDead(head)})
	return nil
}

// whole reports whether bytes and tree are those of the record's address.
func (s *scanner) whole(r Record) (bool, error) {
	n := r.Size + b3.TreeBytes(r.Size)
	b, err := s.bytes(r.Off+RecordHead, n)
	if err != nil || int64(len(b)) < n {
		return false, err
	}
	s.tree.Reset()
	s.hasher.Reset(&s.tree)
	_, _ = s.hasher.Write(b[:r.Size]) // a bytes.Buffer takes everything
	addr, _ := s.hasher.Sum()
	return addr == r.Addr && bytes.Equal(s.tree.Bytes(), b[r.Size:]), nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
