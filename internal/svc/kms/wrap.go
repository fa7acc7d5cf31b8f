// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

const (
	wrapFormat     = 1
	wrapNonceBytes = primitive.NonceBytes
	wrapHead       = 1 + 8 + wrapNonceBytes
	wrapTagBytes   = primitive.TagBytes
	// MaxWrapBytes bounds what one Wrap takes. It is for keys and small secrets.
	MaxWrapBytes = 64 << 10
	// maxWrapADBytes bounds the associated data.
	maxWrapADBytes = 64 << 10
)

// Wrap encrypts plain with the newest version of an AES-256-GCM key of the given
// purpose. The result, at most MaxWrapBytes and 37 bytes, is
//
//	format u8 = 1 | key version u64 | nonce 12 bytes | ciphertext and tag
//
// The associated data of the cipher is the 9 bytes before the nonce, the key's
// name, a zero byte, and ad, which the caller must show again. Nonces are
// random: a key should be rotated before it wrapped 2^32 times.
func (s *Store) Wrap(ctx context.Context, name string, p Purpose, plain, ad []byte) ([]byte, error) {
	out, version, alg, err := s.wrap(name, p, plain, ad)
	if err = s.used(ctx, err, opWrap, name, alg, version); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Store) wrap(name string, p Purpose, plain, ad []byte) ([]byte, uint64, Algorithm, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.wrapper(name, p)
	if err != nil {
		return nil, 0, noAlg, err
	}
	if len(plain) > MaxWrapBytes || len(ad) > maxWrapADBytes {
		return nil, 0, k.alg, macronode.Errorf(macronode.TooLarge, "wrap takes %d bytes, and %d of associated data", MaxWrapBytes, maxWrapADBytes)
	}
	v := k.newest()
	out := make([]byte, wrapHead, wrapHead+len(plain)+wrapTagBytes)
	out[0] = wrapFormat
	binary.BigEndian.PutUint64(out[1:], v.number)
	nonce := out[9:wrapHead]
	if _, err := rand.Read(nonce); err != nil {
		return nil, 0, k.alg, macronode.Wrap(macronode.Internal, "", err)
	}
	sealed, err := v.halves[0].Seal(out, nonce, plain, wrapAD(out[:9], name, ad))
	if err != nil {
		return nil, 0, k.alg, macronode.Wrap(macronode.Internal, "", err)
	}
	return sealed, v.number, k.alg, nil
}

// Unwrap decrypts what Wrap made, with the version it names. Invalid: it is not
// of this key and associated data, or was changed.
func (s *Store) Unwrap(ctx context.Context, name string, p Purpose, wrapped, ad []byte) ([]byte, error) {
	out, version, alg, err := s.unwrap(name, p, wrapped, ad)
	if err = s.used(ctx, err, opUnwrap, name, alg, version); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Store) unwrap(name string, p Purpose, wrapped, ad []byte) ([]byte, uint64, Algorithm, error) {
	s.use.RLock()
	defer s.use.RUnlock()
	k, err := s.wrapper(name, p)
	if err != nil {
		return nil, 0, noAlg, err
	}
	refused := macronode.Errorf(macronode.Invalid, "not wrapped by this key with this associated data")
	if len(wrapped) < wrapHead+wrapTagBytes || len(wrapped) > wrapHead+MaxWrapBytes+wrapTagBytes ||
		len(ad) > maxWrapADBytes || wrapped[0] != wrapFormat {
		return nil, 0, k.alg, refused
	}
	n := binary.BigEndian.Uint64(wrapped[1:])
	v := k.find(n)
	if n == 0 || v == nil || v.wiped {
		return nil, 0, k.alg, refused
	}
	plain, err := v.halves[0].Open(wrapped[9:wrapHead], wrapped[wrapHead:], wrapAD(wrapped[:9], name, ad))
	if err != nil {
		return nil, 0, k.alg, refused
	}
	return plain, n, k.alg, nil
}

// wrapper finds a key that wraps. It needs s.use.
func (s *Store) wrapper(name string, p Purpose) (*key, error) {
	k, err := s.lookup(name, p)
	if err != nil {
		return nil, err
	}
	if !k.alg.Wraps() {
		return nil, macronode.Errorf(macronode.Denied, "key %s of algorithm %s does not wrap", name, k.alg)
	}
	return k, nil
}

func wrapAD(head []byte, name string, ad []byte) []byte {
	b := make([]byte, 0, len(head)+len(name)+1+len(ad))
	b = append(append(b, head...), name...)
	return append(append(b, 0), ad...)
}
