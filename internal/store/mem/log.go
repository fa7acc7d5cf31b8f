// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rustyonions/macronode/internal/store"
)

const (
	logSegment = 4 << 20
	// logFirst is the offset of the first record: 0 is no place.
	logFirst = 4096
	// logReserve is the part of the bound that is kept for records that free space.
	logReserve = 8
)

// Log is a store.Log in memory. A record is durable once a Sync that covers it has
// returned, and never lost.
type Log struct {
	max, segment int64

	mu       sync.Mutex // guards the rest
	closed   bool
	segments []*logPart // in order; the last is active
	bytes    int64
	durable  store.Pos
}

type logPart struct {
	id    uint32
	bytes int64 // records and what is reckoned for each
	recs  []logRecord
}

type logRecord struct {
	off  int64
	data []byte
}

var _ store.Log = (*Log)(nil)

// NewLog returns an empty log of up to maxBytes, an eighth of them for records that
// free space.
func NewLog(maxBytes int64) *Log {
	first := &logPart{id: 1}
	return &Log{max: maxBytes, segment: min(logSegment, maxBytes/logReserve), segments: []*logPart{first}, durable: first.end()}
}

func (p *logPart) end() store.Pos { return store.MakePos(p.id, logFirst+p.bytes) }

func room(n int) int64 { return (int64(n) + store.RecordRoomBytes + 7) &^ 7 }

// Stage implements store.Log.
func (l *Log) Stage(reserve bool, records ...[]byte) ([]store.Pos, error) {
	var total int64
	for _, r := range records {
		if len(r) > store.MaxRecordBytes {
			return nil, fmt.Errorf("%w: a record of %d bytes", store.ErrTooLarge, len(r))
		}
		total += room(len(r))
	}
	if total > store.MaxStageBytes {
		return nil, fmt.Errorf("%w: %d bytes at once", store.ErrTooLarge, total)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.take(total, reserve); err != nil {
		return nil, err
	}
	places := make([]store.Pos, len(records))
	for i, r := range records {
		places[i] = l.put(slices.Clone(r))
	}
	return places, nil
}

// StageOne implements store.Log.
func (l *Log) StageOne(reserve bool, head, body []byte) (store.Pos, error) {
	n := len(head) + len(body)
	if n > store.MaxRecordBytes {
		return 0, fmt.Errorf("%w: a record of %d bytes", store.ErrTooLarge, n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.take(room(n), reserve); err != nil {
		return 0, err
	}
	return l.put(slices.Concat(head, body)), nil
}

// take finds room for n bytes in one segment. The caller holds mu.
func (l *Log) take(n int64, reserve bool) error {
	limit := l.max
	if !reserve {
		limit -= l.max / logReserve
	}
	switch {
	case l.closed:
		return store.ErrClosed
	case l.bytes+n > limit:
		return fmt.Errorf("%w: the log holds %d of %d bytes", store.ErrFull, l.bytes, l.max)
	}
	if p := l.active(); p.bytes > 0 && p.bytes+n > l.segment {
		l.segments = append(l.segments, &logPart{id: p.id + 1})
	}
	return nil
}

func (l *Log) active() *logPart { return l.segments[len(l.segments)-1] }

func (l *Log) put(data []byte) store.Pos {
	p := l.active()
	at := p.end()
	p.recs = append(p.recs, logRecord{at.Offset(), data})
	p.bytes += room(len(data))
	l.bytes += room(len(data))
	return at
}

// Sync implements store.Log.
func (l *Log) Sync(ctx context.Context) error { return l.SyncTo(ctx, l.Staged()) }

// SyncTo implements store.Log.
func (l *Log) SyncTo(ctx context.Context, end store.Pos) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed && end > l.durable {
		return store.ErrClosed
	}
	l.durable = max(l.durable, min(end, l.active().end()))
	return nil
}

// Staged implements store.Log.
func (l *Log) Staged() store.Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active().end()
}

// Durable implements store.Log.
func (l *Log) Durable() store.Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

func (l *Log) find(id uint32) *logPart {
	i, ok := slices.BinarySearchFunc(l.segments, id, func(p *logPart, id uint32) int { return int(p.id) - int(id) })
	if !ok {
		return nil
	}
	return l.segments[i]
}

// from returns the index of the first record at or behind off.
func (p *logPart) from(off int64) int {
	i, _ := slices.BinarySearchFunc(p.recs, off, func(r logRecord, off int64) int { return int(r.off - off) })
	return i
}

// Read implements store.Log.
func (l *Log) Read(at store.Pos, buf []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, store.ErrClosed
	}
	p := l.find(at.Segment())
	if p == nil {
		return nil, store.ErrNotFound
	}
	i := p.from(at.Offset())
	if i == len(p.recs) || p.recs[i].off != at.Offset() {
		return nil, store.ErrNotFound
	}
	return append(buf[:0], p.recs[i].data...), nil
}

// ReadMany implements store.Log.
func (l *Log) ReadMany(places []store.Span, f func(i int, record []byte, err error)) {
	for i, p := range places {
		b, err := l.Read(p.At, nil)
		f(i, b, err)
	}
}

// Scan implements store.Log. Nothing is ever damaged.
func (l *Log) Scan(from store.Pos, f func(store.Pos, []byte) error, _ func(store.Pos, int64)) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return store.ErrClosed
	}
	end := l.durable
	parts := make([]logPart, 0, len(l.segments))
	for _, p := range l.segments { // records do not change, so a look at each slice is enough
		parts = append(parts, *p)
	}
	l.mu.Unlock()
	for _, p := range parts {
		for _, r := range p.recs {
			at := store.MakePos(p.id, r.off)
			if at < from {
				continue
			}
			if at >= end {
				return nil
			}
			if err := f(at, r.data); err != nil {
				return err
			}
		}
	}
	return nil
}

// Segments implements store.Log.
func (l *Log) Segments() []store.LogSegment {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]store.LogSegment, 0, len(l.segments))
	for i, p := range l.segments {
		list = append(list, store.LogSegment{ID: p.id, Bytes: p.bytes, Active: i == len(l.segments)-1})
	}
	return list
}

// Drop implements store.Log.
func (l *Log) Drop(ids ...uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return store.ErrClosed
	}
	if slices.Contains(ids, l.active().id) {
		return fmt.Errorf("%w: the active segment cannot be dropped", store.ErrRange)
	}
	l.segments = slices.DeleteFunc(l.segments, func(p *logPart) bool {
		gone := slices.Contains(ids, p.id)
		if gone {
			l.bytes -= p.bytes
		}
		return gone
	})
	return nil
}

// Check implements store.Log.
func (l *Log) Check(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return store.ErrClosed
	}
	return nil
}

// Close implements store.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}
