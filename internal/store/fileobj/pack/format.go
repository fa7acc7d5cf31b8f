// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// Pack file, format 1: a block of 4096 bytes, then records, one behind the other,
// each beginning at a multiple of 64. All integers are little-endian.
//
// The block holds the head, at 0, written once:
//
//	0       8       "MNPACK\0\0"
//	8       4       format version, 1
//	12      12      pack id, as in the file's name
//	24      24      zero
//	48      16      first bytes of the BLAKE3 of the 48 before
//
// and the hints, at 512, written again in place whenever something is removed:
//
//	0       8       "MNHINTS\0"
//	8       4       bit 0: settled
//	12      4       live records
//	16      8       bytes of live records
//	24      8       bytes of dead records
//	32      12      pack id
//	44      4       zero
//	48      16      first bytes of the BLAKE3 of the 48 before
//
// Nothing but "settled" is believed without a look at the records. A pack whose
// block is damaged is read as before, with no hints.
//
// A record:
//
//	0       8       "MNRECORD"
//	8       4       format version, 1
//	12      12      pack id
//	24      4       offset in the pack / 64
//	28      4       size of the object in bytes, at most 128 KiB
//	32      32      address
//	64      16      first bytes of the BLAKE3 of the 64 before
//	80      8       state: all eight bytes "\x9eREMOVED" or the record lives
//	88      8       zero
//	96      size    the object's bytes
//	        ...     its outboard tree (b3.TreeFormat 1), nothing up to 16 KiB
//	        ...     zero to the next multiple of 64
//
// The pack id and the offset in the sum keep an object's bytes, were they those of
// a pack, from passing for a record. Behind the last record a pack may hold zeros,
// or what a crash left of records that were never acknowledged.
const (
	// HeadBytes is the length of the block before the first record.
	HeadBytes = 4096
	// HintsAt is the hints' place, BlockBytes their length, and the head's.
	HintsAt    = 512
	BlockBytes = 64
	// RecordHead is the length of a record's head. The object's bytes follow.
	RecordHead = 96
	// StateAt is the state word's place in it, StateBytes its length.
	StateAt    = 80
	StateBytes = 8
	// Align divides the place of every record.
	Align = 64
	// MaxObject is the size of the largest object in a pack.
	MaxObject = 8 * b3.GroupBytes

	version      = 1
	headMagic    = "MNPACK\x00\x00"
	hintsMagic   = "MNHINTS\x00"
	recordMagic  = "MNRECORD"
	deadWord     = "\x9eREMOVED"
	recordSummed = 64
	sumBytes     = 16
	settledFlag  = 1
	idBytes      = 12
	suffix       = ".pack"
	locPrefix    = "p:" // also of a pack's volume id
	locBytes     = len(locPrefix) + 2*idBytes + 1 + 8
	maxBytes     = 1 << 60 // keeps sums within an int64
)

// ErrNewer says that a file was written by a later version of this program.
var ErrNewer = errors.New("fileobj: the format is newer than this program")

// ID names a pack. It is random and never used again.
type ID [idBytes]byte

// File is the name of the pack's file.
func (id ID) File() string { return hex.EncodeToString(id[:]) + suffix }

// Volume is the pack's id as a volume.
func (id ID) Volume() string { return locPrefix + hex.EncodeToString(id[:]) }

// ParseVolume reads what Volume returned.
func ParseVolume(s string) (id ID, ok bool) {
	if s, ok = strings.CutPrefix(s, locPrefix); !ok {
		return id, false
	}
	return parseID(s)
}

// ParseFile reads what File returned.
func ParseFile(s string) (id ID, ok bool) {
	if s, ok = strings.CutSuffix(s, suffix); !ok {
		return id, false
	}
	return parseID(s)
}

func parseID(s string) (id ID, ok bool) {
	if len(s) != 2*idBytes {
		return id, false
	}
	for i := range s {
		c, ok := nibble(s[i])
		if !ok {
			return id, false
		}
		id[i/2] = id[i/2]<<4 | c
	}
	return id, true
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// Place is where a record begins.
type Place struct {
	ID  ID
	Off int64
}

// Loc is the Loc of the object at p.
func (p Place) Loc() store.Loc {
	return store.Loc(fmt.Sprintf("%s:%08x", p.ID.Volume(), uint32(p.Off/Align)))
}

// ParsePlace reads what Loc returned.
func ParsePlace(loc store.Loc) (p Place, ok bool) {
	s := string(loc)
	if len(s) != locBytes || s[:len(locPrefix)] != locPrefix || s[locBytes-9] != ':' {
		return p, false
	}
	if p.ID, ok = parseID(s[len(locPrefix) : locBytes-9]); !ok {
		return p, false
	}
	for i := locBytes - 8; i < locBytes; i++ {
		c, ok := nibble(s[i])
		if !ok {
			return p, false
		}
		p.Off = p.Off<<4 | int64(c)
	}
	p.Off *= Align
	return p, p.Off >= HeadBytes
}

// Room is the bytes that an object takes in a pack, head, tree and padding included.
func Room(size int64) int64 {
	n := RecordHead + size + b3.TreeBytes(size)
	return (n + Align - 1) &^ (Align - 1)
}

// Record is what a record's head says.
type Record struct {
	Place
	Addr b3.Addr
	Size int64
}

// Append appends the head of a live record.
func (r *Record) Append(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = append(b, r.ID[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Off/Align))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Size))
	b = append(b, r.Addr[:]...)
	b = appendSum(b, start)
	return append(b, make([]byte, RecordHead-StateAt)...)
}

func appendSum(b []byte, start int) []byte {
	sum := b3.Sum(b[start:])
	return append(b, sum[:sumBytes]...)
}

// summed reports whether b, without its sum, is what was summed.
func summed(b []byte) bool {
	n := len(b) - sumBytes
	sum := b3.Sum(b[:n])
	return bytes.Equal(sum[:sumBytes], b[n:])
}

// IsDead reports whether a record's head says that it was removed.
func IsDead(head []byte) bool { return string(head[StateAt:StateAt+StateBytes]) == deadWord }

// ParseRecord reads the head of the record at p; ErrCorrupt where there is none.
func ParseRecord(head []byte, p Place) (r Record, err error) {
	if len(head) < RecordHead || string(head[:8]) != recordMagic || !summed(head[:recordSummed+sumBytes]) {
		return r, fmt.Errorf("%w: no record", store.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != version {
		return r, fmt.Errorf("%w: record version %d", ErrNewer, v)
	}
	r.Off = int64(binary.LittleEndian.Uint32(head[24:])) * Align
	r.Size = int64(binary.LittleEndian.Uint32(head[28:]))
	copy(r.ID[:], head[12:])
	copy(r.Addr[:], head[32:])
	if r.Place != p || r.Size > MaxObject {
		return r, fmt.Errorf("%w: a record of another place", store.ErrCorrupt)
	}
	return r, nil
}

// Hints are what a pack says of itself.
type Hints struct {
	Settled    bool
	Records    int64 // live ones
	Live, Dead int64 // bytes
}

// AppendHead appends the head of a pack.
func AppendHead(b []byte, id ID) []byte {
	start := len(b)
	b = append(b, headMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = append(b, id[:]...)
	b = append(b, make([]byte, 24)...)
	return appendSum(b, start)
}

// Append appends the hints of a pack.
func (h *Hints) Append(b []byte, id ID) []byte {
	start := len(b)
	b = append(b, hintsMagic...)
	var flags uint32
	if h.Settled {
		flags = settledFlag
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Records))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Live))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Dead))
	b = append(b, id[:]...)
	b = append(b, 0, 0, 0, 0)
	return appendSum(b, start)
}

// ParseBlock reads what of a pack's first block is whole. known is false where
// there are no hints.
func ParseBlock(b []byte, id ID) (h Hints, known bool, err error) {
	if len(b) >= BlockBytes && string(b[:8]) == headMagic && summed(b[:BlockBytes]) {
		if v := binary.LittleEndian.Uint32(b[8:]); v != version {
			return h, false, fmt.Errorf("%w: pack version %d", ErrNewer, v)
		}
	}
	if len(b) < HintsAt+BlockBytes {
		return h, false, nil
	}
	b = b[HintsAt : HintsAt+BlockBytes]
	if string(b[:8]) != hintsMagic || !summed(b) || ID(b[32:44]) != id {
		return h, false, nil
	}
	live, dead := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if live > maxBytes || dead > maxBytes {
		return h, false, nil
	}
	return Hints{
		Settled: binary.LittleEndian.Uint32(b[8:])&settledFlag != 0,
		Records: int64(binary.LittleEndian.Uint32(b[12:])),
		Live:    int64(live), Dead: int64(dead),
	}, true, nil
}
