// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package hot

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// advise asks for large pages and keeps the bytes out of core dumps. Neither is
// needed to work.
func advise(arena []byte) {
	_ = unix.Madvise(arena, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(arena, unix.MADV_DONTDUMP)
}

// misaligned is how many bytes of p come before the next large page.
func misaligned(p []byte) int {
	return int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) & (hugePage - 1))
}
