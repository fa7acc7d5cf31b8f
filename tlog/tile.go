// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// TileWidth is how many hashes or entries a full tile holds.
	TileWidth = 256
	tileBits  = 8
	// maxLevel is that of the highest tile of a tree of MaxTreeSize.
	maxLevel = 63
	// MaxBundleBytes is a full bundle of the largest entries.
	MaxBundleBytes = TileWidth * (2 + MaxRecordBytes)
)

// ErrTile: a path or bytes that are no tile.
var ErrTile = errors.New("tlog: not a tile")

// Tile names a tile (C2SP tlog-tiles): Width hashes of level Level beginning with
// the Index*256th. Of Entries it names a bundle of entries, on level 0.
type Tile struct {
	Entries bool
	Level   int
	Index   uint64
	Width   int // 1 to 256
}

// Path is the tile's place below a log's prefix: "tile/0/x001/234.p/5".
func (t Tile) Path() string {
	level := strconv.Itoa(t.Level)
	if t.Entries {
		level = "entries"
	}
	return "tile/" + level + "/" + t.Rest()
}

// Rest is the path from the index on: "x001/234.p/5".
func (t Tile) Rest() string {
	n := t.Index
	s := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if t.Width < TileWidth {
		s += ".p/" + strconv.Itoa(t.Width)
	}
	return s
}

// ParseTile reads level ("0" to "63", or "entries") and rest as Rest writes it.
func ParseTile(level, rest string) (Tile, error) {
	t := Tile{Width: TileWidth, Entries: level == "entries"}
	bad := func() (Tile, error) { return Tile{}, fmt.Errorf("%w: %.20s/%.60s", ErrTile, level, rest) }
	if !t.Entries {
		n, err := strconv.ParseUint(level, 10, 8)
		if err != nil || n > maxLevel || strconv.FormatUint(n, 10) != level {
			return bad()
		}
		t.Level = int(n)
	}
	if len(rest) > 60 {
		return bad()
	}
	whole, width, partial := strings.Cut(rest, ".p/")
	if partial {
		n, err := strconv.ParseUint(width, 10, 16)
		if err != nil || n == 0 || n >= TileWidth {
			return bad()
		}
		t.Width = int(n)
	}
	for _, part := range strings.Split(whole, "/") {
		n, err := strconv.ParseUint(strings.TrimPrefix(part, "x"), 10, 16)
		if err != nil || n > 999 || t.Index > MaxTreeSize/1000 {
			return bad()
		}
		t.Index = t.Index*1000 + n
	}
	// Written again it must be the same: no other name for a tile.
	if t.Index > MaxTreeSize/TileWidth || t.Rest() != rest {
		return bad()
	}
	return t, nil
}

// WidthIn is how wide the tile at level and index is in a tree of this size: 0
// where there is none.
func WidthIn(size uint64, level int, index uint64) int {
	if level >= 64/tileBits {
		return 0
	}
	hashes := size >> (tileBits * level)
	if index > hashes/TileWidth {
		return 0
	}
	return int(min(hashes-index*TileWidth, TileWidth))
}

// AppendEntry adds an entry to a bundle.
func AppendEntry(bundle, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...) //nolint:gosec // entries are at most MaxRecordBytes
}

// SplitBundle returns the entries of a bundle, which share its memory.
func SplitBundle(bundle []byte) ([][]byte, error) {
	var out [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 || len(out) == TileWidth {
			return nil, fmt.Errorf("%w: a bundle ends in the middle, or holds too much", ErrTile)
		}
		n := int(binary.BigEndian.Uint16(bundle))
		if n > len(bundle)-2 || n > MaxRecordBytes {
			return nil, fmt.Errorf("%w: an entry of %d bytes in a bundle with %d left", ErrTile, n, len(bundle)-2)
		}
		out = append(out, bundle[2:2+n:2+n])
		bundle = bundle[2+n:]
	}
	return out, nil
}
