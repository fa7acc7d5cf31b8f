// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package head is how a snapshot of the mailbox begins: what it says of all topics.
package head

import (
	"encoding/binary"
	"fmt"
	"io"

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

// Header is what a snapshot says of the whole mailbox.
type Header struct {
	From       store.Pos // the log from here on goes with the snapshot
	Mark       clock.Mark
	Secret     [receipt.SecretBytes]byte
	LastLease  uint64
	LastNumber uint32
}

// Append appends the header to b.
func (h *Header) Append(b []byte) []byte {
	b = append(b, snapshotVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.From))
	b = h.Mark.Append(b)
	b = append(b, h.Secret[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.LastLease)
	return binary.LittleEndian.AppendUint32(b, h.LastNumber)
}

// Read reads what Append wrote; store.ErrCorrupt where it is none.
func Read(r io.Reader) (h Header, err error) {
	var b [headerBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, fmt.Errorf("%w: header: %w", store.ErrCorrupt, err)
	}
	if b[0] != snapshotVersion {
		return h, fmt.Errorf("mailbox: a snapshot of version %d, this program reads %d", b[0], snapshotVersion)
	}
	rest := b[1:]
	h.From = store.Pos(binary.LittleEndian.Uint64(rest))
	if h.Mark, err = clock.ParseMark(rest[8 : 8+clock.MarkBytes]); err != nil {
		return h, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	rest = rest[8+clock.MarkBytes:]
	copy(h.Secret[:], rest)
	rest = rest[receipt.SecretBytes:]
	h.LastLease = binary.LittleEndian.Uint64(rest)
	h.LastNumber = binary.LittleEndian.Uint32(rest[8:])
	return h, nil
}
