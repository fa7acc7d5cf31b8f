// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package hot

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// hugePage is what the mapping is aligned to, so that the system can back it
// with few large pages.
const hugePage = 2 << 20

// mapArena maps size bytes that take no memory until they are written. unmap
// takes the second result.
func mapArena(size int) (arena, whole []byte, err error) {
	whole, err = unix.Mmap(-1, 0, size+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("hot: map %d bytes: %w", size, err)
	}
	skip := misaligned(whole)
	arena = whole[skip : skip+size : skip+size]
	advise(arena)
	return arena, whole, nil
}

func unmapArena(whole []byte) error { return unix.Munmap(whole) }

// An entry is a header, its bytes, and what is missing to the next multiple of
// headerBytes.
const headerBytes = 64

// room is what an entry of n bytes takes.
func room(n int) int { return headerBytes + (n+headerBytes-1)&^(headerBytes-1) }

// putHeader writes tenant(16) address(32) piece(4) length(4) hash(8).
func putHeader(b []byte, k *Key, n int, hash uint64) {
	copy(b, k.Tenant[:])
	copy(b[16:], k.Addr[:])
	binary.LittleEndian.PutUint32(b[48:], k.Piece)
	binary.LittleEndian.PutUint32(b[52:], uint32(n))
	binary.LittleEndian.PutUint64(b[56:], hash)
}

func headerIs(b []byte, k *Key) bool {
	return [16]byte(b[:16]) == k.Tenant && [32]byte(b[16:48]) == k.Addr && binary.LittleEndian.Uint32(b[48:]) == k.Piece
}

func headerLen(b []byte) int     { return int(binary.LittleEndian.Uint32(b[52:])) }
func headerHash(b []byte) uint64 { return binary.LittleEndian.Uint64(b[56:]) }
