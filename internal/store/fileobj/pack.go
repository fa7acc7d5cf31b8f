// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
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
	packVersion   = 1
	packMagic     = "MNPACK\x00\x00"
	hintsMagic    = "MNHINTS\x00"
	recordMagic   = "MNRECORD"
	deadWord      = "\x9eREMOVED"
	packHead      = 4096
	hintsAt       = 512
	blockBytes    = 64 // of head and hints, sum included
	recordHead    = 96
	recordSummed  = 64
	stateAt       = 80
	sumBytes      = 16
	align         = 64
	packedBytes   = pieceBytes // the largest object in a pack
	recordMax     = recordHead + packedBytes + 8*b3.ParentBytes
	settledFlag   = 1
	packIDBytes   = 12
	packSuffix    = ".pack"
	packLocPrefix = "p:" // also of a pack's volume id
)

type packID [packIDBytes]byte

func (id packID) file() string   { return hex.EncodeToString(id[:]) + packSuffix }
func (id packID) volume() string { return packLocPrefix + hex.EncodeToString(id[:]) }

func volumePack(s string) (id packID, ok bool) {
	if s, ok = strings.CutPrefix(s, packLocPrefix); !ok {
		return id, false
	}
	return parsePackID(s)
}

func parsePackID(s string) (id packID, ok bool) {
	if len(s) != 2*packIDBytes {
		return id, false
	}
	for i := range s {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return id, false
		}
		id[i/2] = id[i/2]<<4 | c
	}
	return id, true
}

// place is where a record begins.
type place struct {
	id  packID
	off int64
}

const packLocBytes = len(packLocPrefix) + 2*packIDBytes + 1 + 8

func (p place) loc() store.Loc {
	return store.Loc(fmt.Sprintf("%s:%08x", p.id.volume(), uint32(p.off/align)))
}

func parsePlace(loc store.Loc) (p place, ok bool) {
	s := string(loc)
	if len(s) != packLocBytes || s[:len(packLocPrefix)] != packLocPrefix || s[packLocBytes-9] != ':' {
		return p, false
	}
	if p.id, ok = parsePackID(s[len(packLocPrefix) : packLocBytes-9]); !ok {
		return p, false
	}
	for _, c := range []byte(s[packLocBytes-8:]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return p, false
		}
		p.off = p.off<<4 | int64(c)
	}
	p.off *= align
	return p, p.off >= packHead
}

// recordBytes is the room that an object takes in a pack.
func recordBytes(size int64) int64 {
	n := recordHead + size + b3.TreeBytes(size)
	return (n + align - 1) &^ (align - 1)
}

// record is what a record's head says.
type record struct {
	place
	addr b3.Addr
	size int64
}

func (r *record) append(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, packVersion)
	b = append(b, r.id[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.off/align))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.size))
	b = append(b, r.addr[:]...)
	b = appendSum(b, start)
	return append(b, make([]byte, recordHead-stateAt)...)
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

func isDead(head []byte) bool { return string(head[stateAt:stateAt+8]) == deadWord }

// parseRecord reads the head of the record at p; ErrCorrupt where there is none.
func parseRecord(head []byte, p place) (r record, err error) {
	if len(head) < recordHead || string(head[:8]) != recordMagic || !summed(head[:recordSummed+sumBytes]) {
		return r, fmt.Errorf("%w: no record", store.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != packVersion {
		return r, fmt.Errorf("%w: record version %d", ErrNewer, v)
	}
	r.place.off = int64(binary.LittleEndian.Uint32(head[24:])) * align
	r.size = int64(binary.LittleEndian.Uint32(head[28:]))
	copy(r.id[:], head[12:])
	copy(r.addr[:], head[32:])
	if r.place != p || r.size > packedBytes {
		return r, fmt.Errorf("%w: a record of another place", store.ErrCorrupt)
	}
	return r, nil
}

// hints are what a pack says of itself.
type hints struct {
	settled    bool
	records    int64 // live ones
	live, dead int64 // bytes
}

func appendHead(b []byte, id packID) []byte {
	start := len(b)
	b = append(b, packMagic...)
	b = binary.LittleEndian.AppendUint32(b, packVersion)
	b = append(b, id[:]...)
	b = append(b, make([]byte, 24)...)
	return appendSum(b, start)
}

func (h *hints) append(b []byte, id packID) []byte {
	start := len(b)
	b = append(b, hintsMagic...)
	var flags uint32
	if h.settled {
		flags = settledFlag
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.records))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.live))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.dead))
	b = append(b, id[:]...)
	b = append(b, 0, 0, 0, 0)
	return appendSum(b, start)
}

// parseBlock reads what of a pack's first block is whole. known is false where
// there are no hints.
func parseBlock(b []byte, id packID) (h hints, known bool, err error) {
	if len(b) >= blockBytes && string(b[:8]) == packMagic && summed(b[:blockBytes]) {
		if v := binary.LittleEndian.Uint32(b[8:]); v != packVersion {
			return h, false, fmt.Errorf("%w: pack version %d", ErrNewer, v)
		}
	}
	if len(b) < hintsAt+blockBytes {
		return h, false, nil
	}
	b = b[hintsAt : hintsAt+blockBytes]
	if string(b[:8]) != hintsMagic || !summed(b) || packID(b[32:44]) != id {
		return h, false, nil
	}
	live, dead := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	if live > maxSize || dead > maxSize {
		return h, false, nil
	}
	return hints{
		settled: binary.LittleEndian.Uint32(b[8:])&settledFlag != 0,
		records: int64(binary.LittleEndian.Uint32(b[12:])),
		live:    int64(live), dead: int64(dead),
	}, true, nil
}
