// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk/handles"
)

// Open opens the log of a directory, or begins one, and says what it found. A lost
// or damaged segment is no error. ErrFull where not even the first has room, ErrNewer.
//
// It reads the head of every segment and the last one through.
func Open(c Config) (*Log, Found, error) {
	if err := c.Validate(); err != nil {
		return nil, Found{}, err
	}
	return open(c, firstBytes)
}

func open(c Config, first int64) (*Log, Found, error) {
	var found Found
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{c: c, fs: c.FS, log: c.Log, first: min(first, c.SegmentBytes), files: handles.NewCache[uint32, *segment](openFiles)}
	l.work.L, l.prep.L, l.room.L = &l.mu, &l.mu, &l.mu
	l.reserve.Store(c.Reserve)
	if err := l.load(&found); err != nil {
		for _, s := range append([]*segment{l.spare}, l.segments...) {
			if s != nil && s.file != nil {
				err = errors.Join(err, s.file.Close())
			}
		}
		return nil, found, errors.Join(err, l.files.Close())
	}
	for _, s := range l.segments {
		found.Segments++
		found.Bytes += s.size
	}
	l.running.Go(l.write)
	l.running.Go(l.prepare)
	return l, found, nil
}

func (l *Log) load(found *Found) error {
	if err := l.fs.MkdirAllSync(l.c.Dir); err != nil {
		return err
	}
	// What a killed process did with names holds from here on, also through a crash.
	if err := l.fs.SyncDir(l.c.Dir); err != nil {
		return err
	}
	names, err := l.fs.List(l.c.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			l.spares = append(l.spares, name)
		}
		number, ok := parseName(name)
		if !ok {
			continue
		}
		s, err := l.readSegment(number)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	for len(l.spares) > keepSpares {
		last := len(l.spares) - 1
		if err := l.fs.Remove(l.path(l.spares[last])); err != nil {
			return err
		}
		l.spares = l.spares[:last]
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return int(a.number) - int(b.number) })
	if err := l.know(found); err != nil {
		return err
	}
	return l.resume(found)
}

// know finds out which log this is. Segments of another one are lost.
func (l *Log) know(found *Found) error {
	known := false
	for _, s := range slices.Backward(l.segments) {
		if !s.lost && !known {
			l.id, known = s.log, true
		}
		if s.lost || s.log != l.id {
			s.lost = true
			found.Damaged = append(found.Damaged, Damage{s.pos(firstFrame), max(0, s.size-firstFrame)})
			l.log.Error("a segment of the log cannot be read", "event", "log_segment_lost", "dir", l.c.Dir, "segment", s.number)
		}
	}
	if !known {
		_, _ = rand.Read(l.id[:]) // never fails
	}
	return nil
}

// resume finds where the log ends, and goes on there.
func (l *Log) resume(found *Found) error {
	var last, before *segment
	for n := len(l.segments); n > 0 && last == nil; n = len(l.segments) {
		s := l.segments[n-1]
		if s.lost {
			break
		}
		// One that has no frame and follows one that was not ended was a spare.
		if n > 1 && !l.segments[n-2].lost {
			unused, err := l.unused(s, l.segments[n-2])
			if err != nil {
				return err
			}
			if unused {
				// Two, where a crash came before the first of them was written to.
				if l.spare != nil {
					if err := l.fs.RemoveSync(l.path(fileName(l.spare.number))); err != nil {
						return err
					}
				}
				l.spare = s
				l.segments = l.segments[:n-1]
				continue
			}
			before = l.segments[n-2]
		}
		last = s
	}
	if before != nil {
		if err := l.settle(last, before); err != nil {
			return err
		}
	}
	if last != nil {
		ended, err := l.recover(last, found)
		if err != nil {
			return err
		}
		if !ended {
			return l.openSpare()
		}
	}
	return l.follow()
}

// settle makes the end of the segment before the last one durable, where no frame of
// the last one says that it is.
func (l *Log) settle(last, before *segment) error {
	t, err := l.survey(last, firstFrame+frameHead)
	if err != nil || t.frames > 0 {
		return err
	}
	if t, err = l.survey(before, before.limit()); err != nil {
		return err
	}
	file, err := l.fs.OpenReadWrite(l.path(fileName(before.number)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(rewrite(file, t.durable, t.end), file.Close())
}

// openSpare opens the file of a spare that was found.
func (l *Log) openSpare() (err error) {
	if s := l.spare; s != nil {
		s.reused = true // it may hold anything
		s.file, err = l.fs.OpenReadWrite(l.path(fileName(s.number)), vfs.WriteCategoryUnspecified)
	}
	return err
}

// follow makes the active segment where no other can be: the first of a log, or one
// behind what was ended.
func (l *Log) follow() error {
	s := l.spare
	if err := l.openSpare(); err != nil {
		return err
	}
	if l.spare = nil; s == nil {
		number := uint32(1)
		if len(l.segments) > 0 {
			number = l.active().number + 1
		}
		var err error
		if s, err = l.makeFitting(number, 0, true, &l.spares); err != nil {
			return err
		}
		if number == 1 { // small, so it is worth the wait
			if err := l.fillFirst(s); err != nil {
				return errors.Join(err, s.file.Close())
			}
		}
	}
	l.segments = append(l.segments, s)
	l.next = firstFrame
	l.staged = s.pos(l.next)
	l.durable = l.staged
	return nil
}

// unused reports whether s has no frame where the first belongs, and the one before
// it was not ended.
func (l *Log) unused(s, before *segment) (bool, error) {
	t, err := l.survey(s, firstFrame+frameHead)
	if err != nil || t.frames > 0 {
		return false, err
	}
	t, err = l.survey(before, before.limit())
	_, open := t.cut()
	return err == nil && open, err
}

// fillFirst writes zeros into the first segment, which nobody fills in the background.
func (l *Log) fillFirst(s *segment) error {
	var zeros []byte
	for off := int64(firstFrame); off < s.limit(); off += fillBytes {
		var err error
		if zeros, err = s.zero(zeros, off, min(off+fillBytes, s.limit())); err != nil {
			return err
		}
	}
	return s.file.SyncData()
}
