// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/disk/handles"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	// The first segment has firstBytes, each later one four times as many up to
	// Config.SegmentBytes.
	firstBytes = 1 << 20
	maxFile    = MaxSegmentBytes
	// gatherBytes are written though nobody waits.
	gatherBytes = 256 << 10
	// pendingBytes are the most that may be staged and not written.
	pendingBytes = 64 << 20
	// keepBuffer is the most memory kept for the next lot.
	keepBuffer = 4 << 20
	// keepSpares is how many files of dropped segments are kept to be used again.
	keepSpares = 2
	openFiles  = 256
	// fullRetry is how long a disk that was full is taken to be so.
	fullRetry = time.Second
)

// Log is a store.Log in files.
type Log struct {
	c       Config
	fs      *disk.FS
	log     *slog.Logger
	first   int64 // firstBytes, but in tests
	id      logID
	reserve atomic.Int64
	files   *handles.Cache[uint32, *segment]
	running sync.WaitGroup

	dropping sync.Mutex // held by Drop; before mu

	mu   sync.Mutex // guards the rest
	work sync.Cond  // the writer waits
	prep sync.Cond  // the preparer waits
	room sync.Cond  // Stage waits
	err  error      // final: of the first write or sync that failed, or closed
	// closing: Close was called; nothing is taken any more.
	closing bool

	segments []*segment // in order; the last is active
	next     int64      // where the next frame of the active one goes
	lots     []*lot     // staged and not durable, in order
	cur      *lot       // the last of lots where more may be added to it
	pending  int64      // bytes of lots
	staged   store.Pos
	durable  store.Pos
	wanted   store.Pos       // somebody waits for what is before it
	buffer   []byte          // of a lot that is through
	markHead [frameHead]byte // the writer's

	spare  *segment  // follows the active one; has its name and its blocks
	spares []string  // files of dropped segments
	need   int64     // bytes of frames that the spare has to hold
	full   error     // why no spare could be made
	fullAt time.Time // when that was
	again  bool      // the preparer is to try again
	// deep: the next try may take of the reserve, for what frees space waits for it;
	// deepest: the try that failed was such a one.
	deep, deepest bool
}

var _ store.Log = (*Log)(nil)

// lot is what is written and synced at once.
type lot struct {
	seg *segment
	off int64
	buf []byte
	// sealed: it ends its segment.
	sealed bool
	done   chan struct{}
	err    error // once done is closed
}

func (t *lot) end() store.Pos { return t.seg.pos(t.off + int64(len(t.buf))) }

// SetReserve makes n bytes of the disk stay free from now on.
func (l *Log) SetReserve(n int64) {
	l.reserve.Store(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retry()
}

// Stage implements store.Log.
func (l *Log) Stage(reserve bool, records ...[]byte) ([]store.Pos, error) {
	var total int64
	for _, r := range records {
		if len(r) > store.MaxRecordBytes {
			return nil, fmt.Errorf("%w: a record of %d bytes", store.ErrTooLarge, len(r))
		}
		total += frameRoom(int64(len(r)))
	}
	if total > store.MaxStageBytes {
		return nil, fmt.Errorf("%w: %d bytes at once", store.ErrTooLarge, total)
	}
	places := make([]store.Pos, len(records))
	sums := make([]uint32, len(records))
	for i, r := range records {
		sums[i] = crc32.Checksum(r, castagnoli)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.take(total, reserve); err != nil {
		return nil, err
	}
	for i, r := range records {
		places[i] = l.put(r, nil, sums[i])
	}
	l.gathered()
	return places, nil
}

// StageOne implements store.Log.
func (l *Log) StageOne(reserve bool, head, body []byte) (store.Pos, error) {
	n := len(head) + len(body)
	if n > store.MaxRecordBytes {
		return 0, fmt.Errorf("%w: a record of %d bytes", store.ErrTooLarge, n)
	}
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.take(frameRoom(int64(n)), reserve); err != nil {
		return 0, err
	}
	at := l.put(head, body, sum)
	l.gathered()
	return at, nil
}

// take makes sure that total bytes of frames can be staged, in one segment. The
// caller holds mu.
func (l *Log) take(total int64, reserve bool) error {
	for {
		if l.err != nil {
			return l.err
		}
		if l.closing {
			return store.ErrClosed
		}
		if l.pending > 0 && l.pending+total > pendingBytes {
			l.work.Signal()
			l.room.Wait()
			continue
		}
		if l.next+frameHead+total+tailRoom <= l.active().limit() {
			if reserve || l.spare != nil {
				break
			}
			// Without a spare the rest of the active segment is the reserve. While one
			// is being made half of it may be used.
			if l.full != nil {
				return l.refuse()
			}
			if l.next <= l.active().limit()/2 {
				break
			}
			l.prep.Signal()
			l.room.Wait()
			continue
		}
		if l.spare == nil || !l.spare.roomy(total) {
			l.need = max(l.need, total)
			if l.full != nil && (!reserve || l.deepest) {
				return l.refuse()
			}
			if l.full != nil {
				l.need, l.deep, l.again = total, true, true
			}
			l.prep.Signal()
			l.room.Wait()
			continue
		}
		if l.spare.filling {
			l.spare.hurry = true
			l.room.Wait()
			continue
		}
		if !reserve && len(l.spares) == 0 {
			if err := l.spaceFor(l.leastOf(0), l.reserve.Load()); err != nil {
				return err
			}
		}
		l.rotate()
	}
	if l.cur == nil {
		l.begin()
	}
	return nil
}

// refuse tells why there is no spare, and has the preparer try again now and then.
func (l *Log) refuse() error {
	if time.Since(l.fullAt) > fullRetry {
		l.retry()
	}
	return l.full
}

// retry has the preparer try again, if the disk was full.
func (l *Log) retry() {
	l.again = true
	l.prep.Signal()
}

func (l *Log) active() *segment { return l.segments[len(l.segments)-1] }

// sizeOf is the size of a segment that holds total bytes of frames, where the disk
// has room for it.
func (l *Log) sizeOf(number uint32, total int64) int64 {
	size := l.first
	for n := uint32(1); n < number && size < l.c.SegmentBytes; n++ {
		size *= 4
	}
	return max(min(size, l.c.SegmentBytes), l.leastOf(total))
}

// leastOf is the smallest segment that is made for total bytes of frames.
func (l *Log) leastOf(total int64) int64 {
	least := firstFrame + frameHead + total + tailRoom + blockBytes
	return max(l.first, (least+blockBytes-1)&^(blockBytes-1))
}

// begin begins a lot, with its mark.
func (l *Log) begin() {
	t := &lot{seg: l.active(), off: l.next, buf: l.buffer[:0], done: make(chan struct{})}
	l.buffer = nil
	l.cur = t
	l.lots = append(l.lots, t)
	if l.next+tailRoom <= t.seg.limit() { // else it is a seal alone
		l.frame(kindMark, 0, 0)
	}
}

// frame appends the head of a frame to the lot being gathered.
func (l *Log) frame(kind uint32, length int64, sum uint32) {
	t, before := l.cur, len(l.cur.buf)
	t.buf = t.seg.appendHead(t.buf, kind, l.next, t.off, length, sum)
	l.next += frameHead
	l.pending += int64(len(t.buf) - before)
}

// put adds a record to the lot being gathered. take made sure that there is room.
func (l *Log) put(a, b []byte, sum uint32) store.Pos {
	t, at := l.cur, l.next
	n := int64(len(a) + len(b))
	l.frame(kindRecord, n, sum)
	t.buf = append(append(t.buf, a...), b...)
	pad := frameRoom(n) - frameHead - n
	t.buf = append(t.buf, "\x00\x00\x00\x00\x00\x00\x00"[:pad]...)
	l.next += n + pad
	l.pending += n + pad
	l.staged = t.seg.pos(l.next)
	return t.seg.pos(at)
}

// gathered wakes the writer where enough is staged to be written anyway.
func (l *Log) gathered() {
	if l.pending >= gatherBytes {
		l.work.Signal()
	}
}

// rotate ends the active segment and goes on in the spare.
func (l *Log) rotate() {
	if l.cur == nil {
		l.begin()
	}
	l.frame(kindSeal, 0, 0)
	l.cur.sealed = true
	l.cur = nil
	l.segments = append(l.segments, l.spare)
	l.spare = nil
	l.next = firstFrame
	l.prep.Signal()
	l.work.Signal()
}

// Sync implements store.Log.
func (l *Log) Sync(ctx context.Context) error { return l.SyncTo(ctx, l.Staged()) }

// SyncTo implements store.Log.
func (l *Log) SyncTo(ctx context.Context, end store.Pos) error {
	l.mu.Lock()
	end = min(end, l.staged)
	if end <= l.durable {
		l.mu.Unlock()
		return nil
	}
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	i := slices.IndexFunc(l.lots, func(t *lot) bool { return t.end() >= end })
	t := l.lots[i]
	l.wanted = max(l.wanted, end)
	l.work.Signal()
	l.mu.Unlock()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Staged implements store.Log.
func (l *Log) Staged() store.Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.staged
}

// Durable implements store.Log.
func (l *Log) Durable() store.Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// Segments implements store.Log.
func (l *Log) Segments() []store.LogSegment {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]store.LogSegment, 0, len(l.segments))
	for _, s := range l.segments {
		list = append(list, store.LogSegment{ID: s.number, Bytes: s.size, Active: s == l.active()})
	}
	return list
}

// Check implements store.Log.
func (l *Log) Check(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && l.closing {
		return store.ErrClosed
	}
	return l.err
}

// fail ends the log's use: nobody knows what the disk holds. The caller holds mu.
func (l *Log) fail(err error) {
	if l.err == nil {
		l.err = fmt.Errorf("seglog: the log failed: %w", err)
		l.log.Error("the log failed; it is opened again before it is used", "event", "log_failed", "dir", l.c.Dir, "error", err)
	}
	for _, t := range l.lots {
		t.err = l.err
		close(t.done)
	}
	l.cur, l.lots = nil, nil
	l.work.Broadcast()
	l.prep.Broadcast()
	l.room.Broadcast()
}

// Close implements store.Log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return store.ErrClosed
	}
	l.closing = true
	l.work.Broadcast()
	l.prep.Broadcast()
	l.room.Broadcast()
	l.mu.Unlock()
	l.running.Wait()
	l.dropping.Lock()
	defer l.dropping.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.err
	if err == nil { // the mark of the last lot; what it says holds without it
		err = l.active().file.SyncData()
		l.err = store.ErrClosed
	}
	for _, s := range append([]*segment{l.spare}, l.segments...) {
		if s != nil && s.file != nil {
			err = errors.Join(err, s.file.Close())
			s.file = nil
		}
	}
	return errors.Join(err, l.files.Close())
}
