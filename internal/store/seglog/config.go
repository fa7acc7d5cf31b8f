// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// Bounds of Config.SegmentBytes, and what it is where nothing is said.
const (
	MinSegmentBytes     = 1 << 20
	MaxSegmentBytes     = 1 << 30
	DefaultSegmentBytes = 64 << 20
)

// ErrNewer says that a later version of this program wrote the log.
var ErrNewer = errors.New("seglog: the log format is newer than this program")

// Config says where a log is and how it grows.
type Config struct {
	FS *disk.FS
	// Dir is the log's alone. It is made, and its parents.
	Dir string
	// SegmentBytes is the size of a segment; the first few are smaller. One is
	// larger where a single call of Stage needs it.
	SegmentBytes int64
	// Reserve are bytes of the disk that stay free. SetReserve changes it.
	Reserve int64
	Log     *slog.Logger
}

// Validate returns what is wrong with c.
func (c *Config) Validate() error {
	if c.FS == nil || c.Dir == "" {
		return errors.New("seglog: no place for the log")
	}
	if n := c.SegmentBytes; n != 0 && (n < MinSegmentBytes || n > MaxSegmentBytes) {
		return fmt.Errorf("seglog: a segment has %d to %d bytes, not %d", MinSegmentBytes, MaxSegmentBytes, n)
	}
	if c.Reserve < 0 {
		return errors.New("seglog: a negative reserve")
	}
	return nil
}

// Found is what opening a log found.
type Found struct {
	Segments int
	Bytes    int64
	// TornAt is where a crash cut the log, TornBytes how much of it went: what was
	// staged and not durable. 0 where nothing was.
	TornAt    store.Pos
	TornBytes int64
	// Damaged are places of the last segment, and segments that cannot be read at
	// all. Damage elsewhere is met by Scan and Read.
	Damaged []Damage
}

// Damage is a part of the log that cannot be read.
type Damage struct {
	At    store.Pos
	Bytes int64
}
