// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

// Object file, format 1: the object's bytes from offset 0, so that a group of
// 16 KiB is page-aligned; its outboard tree (b3.TreeFormat 1); a footer:
//
//	offset  length
//	0       8       "MNOBJECT"
//	8       4       format version, 1 (all integers little-endian)
//	12      4       b3.TreeFormat, 1
//	16      8       size of the object in bytes
//	24      16      id, as in the file's name
//	40      32      address
//	72      8       zero
//	80      16      first bytes of the BLAKE3 of the 80 before
//
// The file ends with the footer: its length is size + tree + 96.
const (
	formatVersion = 1
	footerBytes   = 96
	summedBytes   = 80
	magic         = "MNOBJECT"
)

// maxSize keeps sums of sizes within an int64.
const maxSize = 1 << 60

// ErrNewer says that a file was written by a later version of this program.
var ErrNewer = pack.ErrNewer

// locPrefix marks the Locs of object files. Packs have their own.
const locPrefix = "f:"

// idBytes is the length of an object's id. The first two bytes are the shard.
const idBytes = 16

type objectID [idBytes]byte

func (id objectID) loc() store.Loc { return store.Loc(locPrefix + hex.EncodeToString(id[:])) }

// shard is the name of the directory, name that of the file in it.
func (id objectID) shard() string { return hex.EncodeToString(id[:2]) }
func (id objectID) name() string  { return hex.EncodeToString(id[2:]) }

func parseLoc(loc store.Loc) (id objectID, err error) {
	s := string(loc)
	if len(s) != len(locPrefix)+2*idBytes || s[:len(locPrefix)] != locPrefix {
		return id, fmt.Errorf("%w: no such place", store.ErrNotFound)
	}
	return parseID(s[len(locPrefix):])
}

func parseID(s string) (id objectID, err error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == idBytes && hex.EncodeToString(b) == s {
		return objectID(b), nil
	}
	return id, fmt.Errorf("%w: no such place", store.ErrNotFound)
}

// footer says what a file holds.
type footer struct {
	id   objectID
	addr b3.Addr
	size int64
}

// fileBytes is the length that the file must have.
func (f *footer) fileBytes() int64 { return f.size + b3.TreeBytes(f.size) + footerBytes }

func (f *footer) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, b3.TreeFormat)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.size))
	b = append(b, f.id[:]...)
	b = append(b, f.addr[:]...)
	b = append(b, make([]byte, 8)...)
	sum := b3.Sum(b[start:])
	return append(b, sum[:footerBytes-summedBytes]...)
}

func parseFooter(b []byte) (f footer, err error) {
	if len(b) != footerBytes || string(b[:8]) != magic {
		return f, fmt.Errorf("%w: no footer", store.ErrCorrupt)
	}
	if sum := b3.Sum(b[:summedBytes]); !bytes.Equal(sum[:footerBytes-summedBytes], b[summedBytes:]) {
		return f, fmt.Errorf("%w: footer", store.ErrCorrupt)
	}
	if v, t := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]); v != formatVersion || t != b3.TreeFormat {
		return f, fmt.Errorf("%w: version %d, tree %d", ErrNewer, v, t)
	}
	size := binary.LittleEndian.Uint64(b[16:])
	if size > maxSize {
		return f, fmt.Errorf("%w: size", store.ErrCorrupt)
	}
	f.size = int64(size)
	copy(f.id[:], b[24:])
	copy(f.addr[:], b[40:])
	return f, nil
}

// readFooter reads and checks the footer of an open file that should be id's.
func readFooter(file disk.File, id objectID) (f footer, err error) {
	fi, err := file.Stat()
	if err != nil {
		return f, err
	}
	if fi.Size() < footerBytes {
		return f, fmt.Errorf("%w: file too short", store.ErrCorrupt)
	}
	var b [footerBytes]byte
	if _, err := file.ReadAt(b[:], fi.Size()-footerBytes); err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	if f, err = parseFooter(b[:]); err != nil {
		return f, err
	}
	if f.id != id || f.fileBytes() != fi.Size() {
		return f, fmt.Errorf("%w: the file is not what its footer says", store.ErrCorrupt)
	}
	return f, nil
}
