// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
)

// tail is what a look through a segment found.
type tail struct {
	frames int
	// durable: all before it was synced, for a frame says so.
	durable int64
	end     int64    // of the last frame
	bad     []extent // that holds no whole frame, in order; the last one may reach to the limit
	sealed  bool
	// written is where the last byte lies that is not zero, of a file that was new.
	written int64
}

type extent struct {
	off, end int64
	broken   bool // a frame of which the record is not whole
}

// survey looks through a segment, up to limit.
func (l *Log) survey(s *segment, limit int64) (tail, error) {
	t := tail{durable: firstFrame, end: firstFrame}
	file, err := l.fs.Open(l.path(fileName(s.number)))
	if err != nil {
		return t, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	seen := func(f frame) {
		t.frames++
		t.durable = max(t.durable, f.lot)
		t.end = f.end()
	}
	w := walker{
		r: file, s: s, end: limit,
		frame:  func(f frame, _ []byte) error { seen(f); return nil },
		broken: func(f frame) error { seen(f); t.bad = append(t.bad, extent{f.off, f.end(), true}); return nil },
		gap:    func(off, end int64) error { t.bad = append(t.bad, extent{off, end, false}); return nil },
	}
	t.sealed, err = w.run(firstFrame)
	if !s.reused {
		t.written = w.written
	}
	return t, err
}

// cut is the first place that was not durable and holds no whole frame: there the
// log ends, but for a segment that was ended, where there may be none.
func (t *tail) cut() (int64, bool) {
	for _, x := range t.bad {
		if x.off >= t.durable {
			return x.off, true
		}
	}
	return t.end, !t.sealed
}

// recover makes what is whole of the last segment durable, and cuts off what a crash
// tore. It reports whether nothing more may be added to it.
//
// A frame says that what lies before its lot was durable: what is not whole there was
// damaged later. It stays, and what follows it too. Of the last lot everything goes
// from the first frame on that is not whole: what was staged first is kept first.
func (l *Log) recover(s *segment, found *Found) (ended bool, err error) {
	t, err := l.survey(s, s.limit())
	if err != nil {
		return false, err
	}
	cut, open := t.cut()
	for _, x := range t.bad {
		if x.off < cut || s.short {
			found.Damaged = append(found.Damaged, Damage{s.pos(x.off), x.end - x.off})
			l.log.Error("the log is damaged", "event", "log_damaged", "dir", l.c.Dir, "segment", s.number, "from", x.off, "bytes", x.end-x.off)
		}
	}
	if s.file, err = l.fs.OpenReadWrite(l.path(fileName(s.number)), vfs.WriteCategoryUnspecified); err != nil {
		return false, err
	}
	// The process before may have died before its sync, or of one that failed: then
	// the system holds bytes for written that are not. Only writing them again helps.
	from := min(t.durable, cut)
	if err := rewrite(s.file, from, cut); err != nil {
		return false, err
	}
	l.durable = s.pos(cut)
	if !open || s.short {
		// What is beyond the end of a file that was cut short is not known.
		file := s.file
		s.file = nil
		return true, file.Close()
	}
	l.next = cut
	if torn := max(t.end, t.written) - cut; torn > 0 {
		found.TornAt, found.TornBytes = s.pos(cut), torn
		l.log.Warn("cut off what a crash left of records that were not durable", "event", "log_torn", "dir", l.c.Dir, "segment", s.number, "at", cut, "bytes", torn)
	}
	if t.end > cut {
		err = l.forget(s, cut, t.end)
	}
	l.durable = s.pos(l.next)
	l.staged = l.durable
	return false, err
}

// forget removes the frames behind a cut, which would come back when what is added
// has reached them. Before that a mark says that what is before is durable, else the
// next recovery, should this one be cut short, could not know it any more.
func (l *Log) forget(s *segment, cut, end int64) error {
	b := s.appendHead(nil, kindMark, cut, cut, 0, 0)
	if err := writeAt(s.file, b, cut); err != nil {
		return err
	}
	if err := s.file.SyncData(); err != nil {
		return err
	}
	l.next = cut + frameHead
	var zeros []byte
	for off := l.next; off < end; off += fillBytes {
		var err error
		if zeros, err = s.zero(zeros, off, min(off+fillBytes, end)); err != nil {
			return err
		}
	}
	return s.file.SyncData()
}

// rewrite writes what is there again, and syncs it.
func rewrite(file disk.File, off, end int64) error {
	b := make([]byte, min(max(end-off, 0), fillBytes))
	for off < end {
		b = b[:min(int64(len(b)), end-off)]
		n, err := file.ReadAt(b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n < len(b) { // of a file that was cut short; what is padding only is not missed
			b, end = b[:n], off+int64(n)
		}
		if err := writeAt(file, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return file.SyncData()
}
