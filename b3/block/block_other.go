// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package block

const hasFast = false

func compressFast(out, cv *Words, block *[64]byte, blockLen, flags uint32) {
	compressPlain(out, cv, block, blockLen, flags)
}
