// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"encoding/binary"
	"errors"
	"io"
)

// walkBytes are read at once, more where a record is longer.
const walkBytes = 1 << 20

// walker reads the frames of a segment in order. Where there is none it looks for
// the next at each multiple of 8.
type walker struct {
	r   io.ReaderAt
	s   *segment
	end int64 // frames beyond it are not looked at

	// frame is called for each whole one; a broken one has a head and not the
	// record that it was written with. The record is good until the next call.
	frame  func(f frame, record []byte) error
	broken func(f frame) error
	// gap is called for what is no frame, before what follows it.
	gap func(off, end int64) error

	window []byte
	at     int64 // of the window
	// written is the end of the last eight bytes in gaps that are not all zero.
	written int64
}

// bytes returns the n bytes at off, or those up to the end of the file. The slice is
// good until the next call.
func (w *walker) bytes(off, n int64) ([]byte, error) {
	if off < w.at || off+n > w.at+int64(len(w.window)) {
		size := min(max(walkBytes, n), w.end-off)
		if int64(cap(w.window)) < size {
			w.window = make([]byte, size)
		}
		w.window = w.window[:size]
		m, err := w.r.ReadAt(w.window, off)
		if err != nil && !errors.Is(err, io.EOF) {
			w.window = w.window[:0]
			return nil, err
		}
		w.window, w.at = w.window[:m], off
	}
	b := w.window[off-w.at:]
	return b[:min(n, int64(len(b)))], nil
}

// run goes from the frame at pos to a seal, which is given to frame too, or the end.
func (w *walker) run(pos int64) (sealed bool, err error) {
	gap := int64(-1)
	for pos+frameHead <= w.end {
		b, err := w.bytes(pos, frameHead)
		if err != nil {
			return false, err
		}
		if len(b) < frameHead {
			break // the file is shorter than it was
		}
		f, ok := w.s.parse(b, pos)
		if !ok || f.end() > w.end {
			if gap < 0 {
				gap = pos
			}
			w.look(b, pos)
			if pos, err = w.next(pos); err != nil {
				return false, err
			}
			continue
		}
		if gap >= 0 {
			if err := w.gap(gap, pos); err != nil {
				return false, err
			}
			gap = -1
		}
		if err := w.found(f); err != nil || f.kind == kindSeal {
			return err == nil, err
		}
		pos = f.end()
	}
	if gap < 0 {
		gap = pos
	}
	if gap < w.end {
		return false, w.gap(gap, w.end)
	}
	return false, nil
}

func (w *walker) found(f frame) error {
	b, err := w.bytes(f.off+frameHead, f.length)
	if err != nil {
		return err
	}
	if int64(len(b)) < f.length || !f.whole(b) {
		return w.broken(f)
	}
	return w.frame(f, b)
}

// next is the next place after pos where a frame may begin: no frame begins with
// eight zeros.
func (w *walker) next(pos int64) (int64, error) {
	for pos += align; pos+frameHead <= w.end; pos += align {
		b, err := w.bytes(pos, frameHead)
		if err != nil {
			return 0, err
		}
		if len(b) < frameHead {
			return w.end, nil
		}
		if binary.LittleEndian.Uint64(b) != 0 {
			return pos, nil
		}
	}
	return w.end, nil
}

// look takes note of where what is no frame ends.
func (w *walker) look(b []byte, pos int64) {
	if binary.LittleEndian.Uint64(b) != 0 {
		w.written = pos + align
	}
}
