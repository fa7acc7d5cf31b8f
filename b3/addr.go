// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package b3 names bytes by their BLAKE3-256 and verifies bytes against a name.
package b3

import (
	"encoding/hex"
	"errors"
)

// Size is the length of a hash in bytes.
const Size = 32

// prefix begins the text of every address.
const prefix = "b3:"

// TextLen is the length of an address's text.
const TextLen = len(prefix) + 2*Size

// Addr is the address of an object: the BLAKE3-256 of its bytes.
type Addr [Size]byte

// ErrAddr says that a text is no address.
var ErrAddr = errors.New("an address is b3: and 64 lower-case hex digits")

// Parse reads the one accepted form: "b3:" and 64 lower-case hex digits.
func Parse(s string) (Addr, error) {
	var a Addr
	if len(s) != TextLen || s[:len(prefix)] != prefix {
		return Addr{}, ErrAddr
	}
	for i := len(prefix); i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Addr{}, ErrAddr
		}
	}
	if _, err := hex.Decode(a[:], []byte(s[len(prefix):])); err != nil {
		return Addr{}, ErrAddr
	}
	return a, nil
}

// String returns the address's text.
func (a Addr) String() string {
	var b [TextLen]byte
	copy(b[:], prefix)
	hex.Encode(b[len(prefix):], a[:])
	return string(b[:])
}

// MarshalText writes the address's text.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Addr) UnmarshalText(b []byte) (err error) {
	*a, err = Parse(string(b))
	return err
}
