// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package primitive

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// Sizes of AES-256-GCM.
const (
	NonceBytes = 12
	TagBytes   = 16
)

// errOpen says that a cipher text is not of this key and associated data.
var errOpen = errors.New("kms: the cipher text does not open")

// Seal appends the AES-256-GCM cipher text of plain, and its tag, to dst. The
// nonce must never come twice with one key.
func (h *Key) Seal(dst, nonce, plain, ad []byte) (out []byte, err error) {
	err = h.gcm(func(aead cipher.AEAD) error {
		out = aead.Seal(dst, nonce, plain, ad)
		return nil
	})
	return out, err
}

// Open returns the plain text of what Seal made.
func (h *Key) Open(nonce, sealed, ad []byte) (plain []byte, err error) {
	err = h.gcm(func(aead cipher.AEAD) error {
		plain, err = aead.Open([]byte{}, nonce, sealed, ad)
		if err != nil {
			return errOpen
		}
		return nil
	})
	return plain, err
}

// gcm expands the key for one use, and erases what it was expanded to: the first
// half of it is the key itself.
func (h *Key) gcm(f func(cipher.AEAD) error) (err error) {
	if h.Kind != AES {
		return errors.New("kms: this key does not wrap")
	}
	locked.Scrub(func() {
		var block cipher.Block
		if block, err = aes.NewCipher(h.seed); err != nil {
			return
		}
		defer locked.Erase(block)
		var aead cipher.AEAD
		if aead, err = cipher.NewGCM(block); err != nil {
			return
		}
		defer locked.Erase(aead)
		err = f(aead)
	})
	return err
}
