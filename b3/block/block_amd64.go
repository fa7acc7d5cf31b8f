// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package block

import "golang.org/x/sys/cpu"

// hasFast says that compressFast may be called.
var hasFast = cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL

// compressAVX512 is one compression of BLAKE3 with the counter 0. out may be cv;
// tail is the block's length, and in its upper half the flags.
//
//go:noescape
func compressAVX512(out, cv *Words, block *[64]byte, tail uint64)

func compressFast(out, cv *Words, block *[64]byte, blockLen, flags uint32) {
	compressAVX512(out, cv, block, uint64(flags)<<32|uint64(blockLen))
}
