// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"time"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// What tests outside the package may look at.

// RawVersion is rawVersion.
type RawVersion = rawVersion

// DecodeKey is decodeKey.
var DecodeKey = decodeKey

// EncodeKey is encodeKey into plain memory.
func EncodeKey(alg Algorithm, p Purpose, raws []rawVersion) []byte {
	a := locked.New(nil)
	defer a.Close()
	return append([]byte(nil), encodeKey(a, alg, p, raws).Bytes()...)
}

// SecretOf copies the newest secret of a key.
func (s *Store) SecretOf(name string) []byte {
	return append([]byte(nil), s.keys[name].newest().secret.Bytes()...)
}

// Raw makes a rawVersion.
func Raw(n uint64, created time.Time, replay [32]byte, secret []byte) rawVersion {
	return rawVersion{version: n, created: created.UTC(), replay: replay, secret: secret}
}
