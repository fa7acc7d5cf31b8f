// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/rustyonions/macronode/internal/store"
)

// Segment file NUMBER.log (8 hex digits), format 1: a block of 4096 bytes, frames,
// each at a multiple of 8, and a last block of 4096 bytes. All integers are
// little-endian. The head, written before the file gets its name, is at 0, at 2048
// and at the last block:
//
//	0       8       "MNSEGLOG"
//	8       4       format version, 1
//	12      4       number of the segment
//	16      16      id of the log
//	32      8       salt, random
//	40      8       length of the file
//	48      4       bit 0: the file was used before, so that what is no frame is not zero
//	52      8       zero
//	60      4       CRC-32C of the 60 before
//
// A frame:
//
//	0       4       bits 0-29: length of the record; bits 30-31: 0 record, 1 mark, 2 seal
//	4       4       where its lot begins in the file, / 8
//	8       4       CRC-32C of the record, xor the upper half of the salt
//	12      4       CRC-32C of the first 60 bytes of the segment's head and the 12 before, xor its place
//	16      length  the record
//	        ...     zero to the next multiple of 8
//
// A lot is what is written at once, and synced before the next is begun. So a frame
// says of all that lies before its lot that it was durable. Each lot begins with a
// mark, a frame without a record; it is written once more as soon as the lot before
// is durable and nothing follows. A seal ends a segment.
//
// The salt keeps what a file held under another number, and what a record contains,
// from passing for a frame.
const (
	version    = 1
	headMagic  = "MNSEGLOG"
	headBytes  = 64
	headSummed = 60
	secondHead = 2048
	blockBytes = 4096
	firstFrame = blockBytes
	reusedFlag = 1

	frameHead  = 16
	align      = 8
	kindShift  = 30
	lengthMask = 1<<kindShift - 1
	kindRecord = 0
	kindMark   = 1
	kindSeal   = 2
	// tailRoom stays behind every record: for a mark and a seal.
	tailRoom = 2 * frameHead

	suffix      = ".log"
	sparePrefix = "spare-"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logID tells logs apart.
type logID [16]byte

// head is what a segment says of itself.
type head struct {
	number uint32
	log    logID
	salt   uint64
	size   int64
	reused bool
}

func fileName(number uint32) string { return fmt.Sprintf("%08x%s", number, suffix) }

// parseName reads what fileName returned.
func parseName(name string) (uint32, bool) {
	name, ok := strings.CutSuffix(name, suffix)
	if !ok || len(name) != 8 || strings.ToLower(name) != name {
		return 0, false
	}
	b, err := hex.DecodeString(name)
	if err != nil {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b)
	return n, n != 0
}

// append appends the head's bytes.
func (h *head) append(b []byte) []byte {
	start := len(b)
	b = append(b, headMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, h.number)
	b = append(b, h.log[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.salt)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.size))
	var flags uint32
	if h.reused {
		flags = reusedFlag
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, make([]byte, 8)...) // to headSummed
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseHead reads one copy of a head; ErrCorrupt where there is none.
func parseHead(b []byte) (h head, err error) {
	if len(b) < headBytes || string(b[:8]) != headMagic ||
		binary.LittleEndian.Uint32(b[headSummed:]) != crc32.Checksum(b[:headSummed], castagnoli) {
		return h, fmt.Errorf("%w: no head of a segment", store.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return h, fmt.Errorf("%w: version %d", ErrNewer, v)
	}
	h.number = binary.LittleEndian.Uint32(b[12:])
	copy(h.log[:], b[16:])
	h.salt = binary.LittleEndian.Uint64(b[32:])
	size := binary.LittleEndian.Uint64(b[40:])
	h.reused = binary.LittleEndian.Uint32(b[48:])&reusedFlag != 0
	if size < firstFrame+tailRoom+blockBytes || size > maxFile || size%align != 0 || h.number == 0 {
		return h, fmt.Errorf("%w: a segment of %d bytes", store.ErrCorrupt, size)
	}
	h.size = int64(size)
	return h, nil
}

// codec makes and knows the frames of one segment.
type codec struct {
	base uint32 // checksum of the head
	mask uint32 // of the checksums of records
}

// codec is made of the head without its checksum: with it the sum is always the same.
func (h *head) codec() codec {
	return codec{base: crc32.Checksum(h.append(nil)[:headSummed], castagnoli), mask: uint32(h.salt >> 32)}
}

// frame is what the head of a frame says.
type frame struct {
	off    int64 // in the file
	lot    int64 // where its lot begins
	length int64 // of the record
	kind   uint32
	sum    uint32
}

func (f *frame) end() int64 { return f.off + frameRoom(f.length) }

// frameRoom is what a record of n bytes takes.
func frameRoom(n int64) int64 { return (frameHead + n + align - 1) &^ (align - 1) }

// place is one to one, so that no frame is valid at another place.
func place(off int64) uint32 { return uint32(off/align) * 0x9e3779b1 }

// appendHead appends the head of a frame whose record has the checksum sum.
func (c codec) appendHead(b []byte, kind uint32, off, lot, length int64, sum uint32) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(length)|kind<<kindShift)
	b = binary.LittleEndian.AppendUint32(b, uint32(lot/align))
	b = binary.LittleEndian.AppendUint32(b, sum^c.mask)
	return binary.LittleEndian.AppendUint32(b, crc32.Update(c.base, castagnoli, b[start:])^place(off))
}

// parse reads the head of the frame at off, where there is one. Nothing in it is
// believed before the checksum.
func (c codec) parse(b []byte, off int64) (f frame, ok bool) {
	if binary.LittleEndian.Uint32(b[12:]) != crc32.Update(c.base, castagnoli, b[:12])^place(off) {
		return f, false
	}
	word := binary.LittleEndian.Uint32(b)
	f = frame{
		off: off, kind: word >> kindShift, length: int64(word & lengthMask),
		lot: int64(binary.LittleEndian.Uint32(b[4:])) * align, sum: binary.LittleEndian.Uint32(b[8:]) ^ c.mask,
	}
	ok = f.lot >= firstFrame && f.lot <= off && f.length <= store.MaxRecordBytes && f.kind <= kindSeal &&
		(f.kind == kindRecord || f.length == 0)
	return f, ok
}

// whole reports whether b is the frame's record.
func (f *frame) whole(b []byte) bool { return crc32.Checksum(b, castagnoli) == f.sum }
