// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package primitive

import (
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// Derive fills dst with BLAKE3's derive_key of src, and leaves nothing of either
// behind: the library computes on the stack.
func Derive(dst []byte, context string, src []byte) {
	locked.Scrub(func() { blake3.DeriveKey(dst, context, src) })
}

// keyedHash is BLAKE3 of message under a 32-byte key.
func keyedHash(key, message []byte) (sum []byte) {
	locked.Scrub(func() {
		m := blake3.New(SeedBytes, key)
		_, _ = m.Write(message) // a hash's Write does not fail
		sum = m.Sum(nil)
		locked.Erase(m)
	})
	return sum
}
