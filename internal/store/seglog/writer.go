// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// write takes lot after lot to the disk. It is the only one to write frames.
func (l *Log) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.err == nil && !l.closing && !l.due() {
			l.work.Wait()
		}
		if l.err != nil || len(l.lots) == 0 {
			return
		}
		t := l.lots[0]
		if t == l.cur {
			l.cur = nil
		}
		l.mu.Unlock()
		err := t.write()
		l.mu.Lock()
		if l.err != nil {
			return
		}
		if err == nil {
			l.through(t)
			if len(l.lots) == 0 && !t.sealed {
				err = l.mark()
			}
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// due reports whether there is something to write now.
func (l *Log) due() bool {
	return len(l.lots) > 0 && (l.wanted > l.durable || l.pending >= gatherBytes || len(l.lots) > 1)
}

// write makes the lot durable.
func (t *lot) write() error {
	if err := writeAt(t.seg.file, t.buf, t.off); err != nil {
		return err
	}
	if err := t.seg.file.SyncData(); err != nil {
		return err
	}
	if !t.sealed {
		return nil
	}
	file := t.seg.file
	t.seg.file = nil
	return file.Close()
}

// through tells everybody that the first lot is durable.
func (l *Log) through(t *lot) {
	l.lots = slices.Delete(l.lots, 0, 1)
	l.pending -= int64(len(t.buf))
	l.durable = t.end()
	l.staged = max(l.staged, l.durable)
	if l.buffer == nil && cap(t.buf) <= keepBuffer {
		l.buffer = t.buf
	}
	close(t.done)
	l.room.Broadcast()
}

// mark writes the mark of the next lot before there is one: it says that what is
// before it is durable, so that damage there is not taken for what a crash tore. It
// is true, so it may reach the disk at any time or not at all.
func (l *Log) mark() error {
	s, off := l.active(), l.next
	if off+tailRoom > s.limit() {
		return nil
	}
	b := s.appendHead(l.markHead[:0], kindMark, off, off, 0, 0)
	l.mu.Unlock()
	defer l.mu.Lock()
	return writeAt(s.file, b, off)
}

// prepare keeps a spare ready.
func (l *Log) prepare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.err == nil && !l.closing && (l.full != nil && !l.again || l.spare != nil && l.spare.roomy(l.need)) {
			l.prep.Wait()
		}
		if l.err != nil || l.closing {
			return
		}
		if err := l.newSpare(); err != nil {
			l.fail(err)
			return
		}
	}
}

// newSpare makes the spare, which takes the place of one that is too small. A full
// disk is no error; l.full tells it.
func (l *Log) newSpare() error {
	old, spares := l.spare, l.spares
	number := l.active().number + 1
	need, deep := l.need, l.deep
	l.spare, l.spares, l.again, l.deep = nil, nil, false, false // nobody takes them meanwhile
	l.mu.Unlock()
	s, err := l.makeFitting(number, need, deep, &spares)
	l.mu.Lock()
	l.need = 0
	l.spares = append(l.spares, spares...)
	switch {
	case errors.Is(err, store.ErrFull):
		l.log.Warn("the log has no room for another segment", "event", "log_full", "dir", l.c.Dir, "error", err)
		l.spare, l.full, l.fullAt, l.deepest = old, err, time.Now(), deep
		l.room.Broadcast()
		return nil
	case err != nil:
		if old != nil {
			err = errors.Join(err, old.file.Close())
		}
		return err
	}
	l.spare, l.full, l.deepest = s, nil, false
	l.room.Broadcast()
	if old != nil {
		if err := old.file.Close(); err != nil {
			return err
		}
	}
	return l.fill(s)
}

// fill writes zeros to a spare until it is needed: blocks that were written once can
// be written again without a change to the file system's own records.
func (l *Log) fill(s *segment) error {
	var zeros []byte
	for off := int64(firstFrame); off < s.limit() && !s.reused && !s.hurry && l.spare == s && !l.closing && l.err == nil; off += fillBytes {
		s.filling = true
		l.mu.Unlock()
		var err error
		if zeros, err = s.zero(zeros, off, min(off+fillBytes, s.limit())); err == nil {
			err = s.file.SyncData()
		}
		l.mu.Lock()
		s.filling = false
		l.room.Broadcast()
		if disk.IsFull(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Drop implements store.Log.
func (l *Log) Drop(ids ...uint32) error {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.err != nil {
			return l.err
		}
		if l.closing {
			return store.ErrClosed
		}
		if slices.Contains(ids, l.active().number) {
			return fmt.Errorf("%w: the active segment cannot be dropped", store.ErrRange)
		}
		// What is staged into one of them is written first.
		i := slices.IndexFunc(l.lots, func(t *lot) bool { return slices.Contains(ids, t.seg.number) })
		if i < 0 {
			break
		}
		done := l.lots[i].done
		l.wanted = max(l.wanted, l.lots[i].end())
		l.work.Signal()
		l.mu.Unlock()
		<-done
		l.mu.Lock()
	}
	var gone []*segment
	l.segments = slices.DeleteFunc(l.segments, func(s *segment) bool {
		found := slices.Contains(ids, s.number)
		if found {
			gone = append(gone, s)
		}
		return found
	})
	if len(gone) == 0 {
		return nil
	}
	keep := keepSpares - len(l.spares)
	l.mu.Unlock()
	spares, err := l.remove(gone, keep)
	l.mu.Lock()
	if err != nil {
		l.fail(err)
		return l.err
	}
	l.spares = append(l.spares, spares...)
	l.retry()
	return nil
}

// remove takes the names of segments away, durably. Up to keep of the files stay, to
// be used again: on a disk that is full, too, a log goes on that way.
func (l *Log) remove(gone []*segment, keep int) (spares []string, err error) {
	for _, s := range gone {
		l.files.Drop(s.number)
		path := l.path(fileName(s.number))
		if len(spares) < keep && !s.lost && !s.short && s.size == l.c.SegmentBytes {
			name := spareName()
			spares = append(spares, name)
			err = l.fs.Rename(path, l.path(name))
		} else {
			err = l.fs.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return spares, l.fs.SyncDir(l.c.Dir)
}
