// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"bufio"
	"context"
	"io"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/head"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/room"
)

// SnapshotDue reports whether so much was logged since the latest snapshot that another is
// worth its writing: what a start reads of the log, and what a snapshot costs, stay
// in proportion.
func (b *Core) SnapshotDue() bool {
	last, bytes := b.snapshots.Last()
	return room.Since(b.log, last) >= max(b.cfg.SnapshotBytes, 2*bytes)
}

// SaveSnapshot writes a snapshot beside all that goes on. Locks are held for a copy
// of the catalogue, and for each topic's list of pieces.
func (b *Core) SaveSnapshot() error {
	var h head.Header
	var counted room.Counted
	err := b.cfg.Snapshots.Save(func(w io.Writer) error {
		counted.To = w
		buffered := bufio.NewWriterSize(&counted, 256<<10)
		b.catalogue.Lock() // nobody makes or deletes a topic between from and the list
		h = head.Header{From: b.log.Staged(), Mark: b.clock.Mark(), Secret: b.secret, LastLease: b.lastLease.Load(), LastNumber: b.lastNumber}
		list := make([]*Topic, 0, len(b.byNumber))
		for _, t := range b.byNumber {
			list = append(list, t)
		}
		b.catalogue.Unlock()
		if _, err := buffered.Write(h.Append(nil)); err != nil {
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
	b.snapshots.Saved(h.From, counted.N)
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
