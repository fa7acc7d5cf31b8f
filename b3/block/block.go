// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package block is BLAKE3 of what is at most one chunk long, block by block on the
// stack: a Hasher costs many times that to set up, and vector code for many chunks at
// once does nothing for one.
package block

import (
	"encoding/binary"

	"lukechampine.com/blake3/guts"
)

// Words is a chaining value: a key or a hash as the algorithm sees it.
type Words = [8]uint32

// MaxBytes is what Sum takes.
const MaxBytes = guts.ChunkSize

// Sum is BLAKE3 in the mode that flags say (of package guts; 0 is the plain hash) of at
// most MaxBytes bytes, keyed by key; guts.IV is no key. It allocates nothing.
func Sum[T string | []byte](key *Words, flags uint32, msg T) Words {
	if len(msg) > MaxBytes {
		panic("block: more than one chunk")
	}
	var block [guts.BlockSize]byte
	cv := *key
	flags |= guts.FlagChunkStart
	for len(msg) > guts.BlockSize {
		copy(block[:], msg)
		compress(&cv, &cv, &block, guts.BlockSize, flags)
		flags &^= guts.FlagChunkStart
		msg = msg[guts.BlockSize:]
	}
	clear(block[copy(block[:], msg):])
	compress(&cv, &cv, &block, uint32(len(msg)), flags|guts.FlagChunkEnd|guts.FlagRoot)
	return cv
}

// compress is one compression of BLAKE3 with the counter 0, which all blocks of
// a first chunk have. out may be cv.
func compress(out, cv *Words, block *[guts.BlockSize]byte, blockLen, flags uint32) {
	if hasFast {
		compressFast(out, cv, block, blockLen, flags)
		return
	}
	compressPlain(out, cv, block, blockLen, flags)
}

// compressPlain is compress without the help of the processor.
func compressPlain(out, cv *Words, block *[guts.BlockSize]byte, blockLen, flags uint32) {
	n := guts.Node{CV: *cv, BlockLen: blockLen, Flags: flags}
	for i := range n.Block {
		n.Block[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	sum := guts.CompressNode(n)
	*out = Words(sum[:8])
}
