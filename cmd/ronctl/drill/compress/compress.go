// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package compress makes compressed bodies, also such as no compressor makes.
package compress

import (
	"bytes"
	"compress/gzip"
)

const zstdBlock = 128 << 10

// Gzip is one member of data.
func Gzip(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}

// Zstd is a frame of the raw bytes and then of n zeros (RFC 8878): blocks as
// they are, and blocks of one byte that is repeated.
func Zstd(raw []byte, n int) []byte {
	const rawBlock, runBlock = 0, 1
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3} // no size, no checksum, a window of 128 KiB
	block := func(kind, size int, last bool) {
		h := size<<3 | kind<<1
		if last {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16))
	}
	for len(raw) > 0 {
		m := min(len(raw), zstdBlock)
		block(rawBlock, m, false)
		b, raw = append(b, raw[:m]...), raw[m:]
	}
	for n > 0 {
		m := min(n, zstdBlock)
		n -= m
		block(runBlock, m, n == 0)
		b = append(b, 0)
	}
	return b
}
