// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/clock"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/receipt"
)

// The form of a snapshot, within what Snapshots adds to prove it whole:
//
//	version (1) | from (8) | clock mark (40) | secret (32) | last lease (8) | last topic number (4)
//	for each topic: 1, and what queue.Snapshot wrote
//	0
//
// Numbers are little-endian.
const (
	snapshotVersion = 1
	headerBytes     = 1 + 8 + clock.MarkBytes + receipt.SecretBytes + 8 + 4
)

// header is what a snapshot says of the whole mailbox.
type header struct {
	from       store.Pos // the log from here on goes with the snapshot
	mark       clock.Mark
	secret     [receipt.SecretBytes]byte
	lastLease  uint64
	lastNumber uint32
}

func (h *header) append(b []byte) []byte {
	b = append(b, snapshotVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.from))
	b = h.mark.Append(b)
	b = append(b, h.secret[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.lastLease)
	return binary.LittleEndian.AppendUint32(b, h.lastNumber)
}

func readHeader(r io.Reader) (h header, err error) {
	var b [headerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, fmt.Errorf("%w: header: %w", store.ErrCorrupt, err)
	}
	if b[0] != snapshotVersion {
		return h, fmt.Errorf("mailbox: a snapshot of version %d, this program reads %d", b[0], snapshotVersion)
	}
	rest := b[1:]
	h.from = store.Pos(binary.LittleEndian.Uint64(rest))
	if h.mark, err = clock.ParseMark(rest[8 : 8+clock.MarkBytes]); err != nil {
		return h, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	rest = rest[8+clock.MarkBytes:]
	copy(h.secret[:], rest)
	rest = rest[receipt.SecretBytes:]
	h.lastLease = binary.LittleEndian.Uint64(rest)
	h.lastNumber = binary.LittleEndian.Uint32(rest[8:])
	return h, nil
}

// snapshotState is what is known of the snapshots on disk.
type snapshotState struct {
	wake chan struct{} // holds one: look whether one is due

	mu    sync.Mutex
	older store.Pos // where the tail of the one before the latest begins; 0 unknown
	last  store.Pos // where that of the latest does
	bytes int64     // size of the latest
}

// loaded notes the snapshot that a start was made from. Whether there is an older
// one, and how old it is, is not known: the log is kept until there are two new ones.
func (s *snapshotState) loaded(from store.Pos) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = from
}

func (s *snapshotState) saved(from store.Pos, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.older, s.last, s.bytes = s.last, from, bytes
}

// needed is the place from which on the log may be needed by a snapshot.
func (s *snapshotState) needed() store.Pos {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.older
}

// due reports whether so much was logged since the latest snapshot that another is
// worth its writing: what a start reads of the log, and what a snapshot costs, stay
// in proportion.
func (b *Core) snapshotDue() bool {
	b.snapshots.mu.Lock()
	last, least := b.snapshots.last, max(b.cfg.SnapshotBytes, 2*b.snapshots.bytes)
	b.snapshots.mu.Unlock()
	return b.loggedSince(last) >= least
}

// loggedSince is how many bytes of log there are from a place on.
func (b *Core) loggedSince(from store.Pos) int64 {
	end := b.log.Staged()
	var n int64
	for _, s := range b.log.Segments() {
		switch {
		case s.ID < from.Segment():
		case s.ID == end.Segment():
			n += end.Offset()
		case !s.Active:
			n += s.Bytes
		}
	}
	return n - from.Offset()
}

// saveSnapshot writes a snapshot beside all that goes on. Locks are held for a copy
// of the catalogue, and for each topic's list of pieces.
func (b *Core) saveSnapshot() error {
	var h header
	var counted countingWriter
	err := b.cfg.Snapshots.Save(func(w io.Writer) error {
		counted.to = w
		buffered := bufio.NewWriterSize(&counted, 256<<10)
		b.catalogue.Lock() // nobody makes or deletes a topic between from and the list
		h = header{from: b.log.Staged(), mark: b.clock.Mark(), secret: b.secret, lastLease: b.lastLease.Load(), lastNumber: b.lastNumber}
		list := make([]*Topic, 0, len(b.byNumber))
		for _, t := range b.byNumber {
			list = append(list, t)
		}
		b.catalogue.Unlock()
		if _, err := buffered.Write(h.append(nil)); err != nil {
			return err
		}
		for _, t := range list {
			if err := t.save(buffered); err != nil {
				return err
			}
		}
		if err := buffered.WriteByte(0); err != nil {
			return err
		}
		return buffered.Flush()
	}, func() error {
		// The topics were ahead of the disk. What they rest on has to be there
		// before a start may believe them.
		return b.Settle(context.Background())
	})
	if err != nil {
		return err
	}
	b.snapshots.saved(h.from, counted.n)
	return nil
}

func (t *Topic) save(w *bufio.Writer) error {
	t.mu.Lock()
	if t.gone {
		t.mu.Unlock()
		return nil
	}
	s := t.q.Freeze()
	t.mu.Unlock()
	if err := w.WriteByte(1); err != nil {
		return err
	}
	return s.Write(w)
}

type countingWriter struct {
	to io.Writer
	n  int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}
