// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import "github.com/rustyonions/macronode/internal/config/document"

// Seal writes version (0: as it is), signer (empty: as it is) and the hash that
// follows into a bundle's text, without touching anything else. See
// [document.Seal].
func Seal(text []byte, version uint64, signer string) ([]byte, error) {
	return document.Seal(text, version, signer)
}

// ReadMeta reads what a bundle says of itself, and its own hash, even where the
// rest would be refused.
func ReadMeta(text []byte, file string) (document.Meta, error) {
	return document.ReadMeta(text, file)
}
