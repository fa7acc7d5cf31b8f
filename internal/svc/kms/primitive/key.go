// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package primitive holds keys of one algorithm each, with their secrets in
// locked memory: what signs, verifies and wraps. Which key may do what, and for
// whom, is package kms's.
package primitive

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"sync"
	"unsafe"

	circled "github.com/cloudflare/circl/sign/ed25519"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// Kind is an algorithm: one half of a hybrid, or the whole of any other key. Its
// number stands in signature envelopes and is never reused.
type Kind uint8

// The kinds.
const (
	Ed25519 Kind = 1
	P256    Kind = 2
	MLDSA44 Kind = 3
	MLDSA65 Kind = 4
	MAC     Kind = 5
	AES     Kind = 6
)

// SeedBytes is the length of every Kind's secret: an Ed25519 seed, a P-256
// scalar, an ML-DSA seed or a symmetric key.
const SeedBytes = 32

// MaxSignatureBytes bounds any Kind's signature.
const MaxSignatureBytes = mldsa65.SignatureSize

func (c Kind) String() string {
	switch c {
	case Ed25519:
		return "ed25519"
	case P256:
		return "ecdsa-p256"
	case MLDSA44:
		return "ml-dsa-44"
	case MLDSA65:
		return "ml-dsa-65"
	case MAC:
		return "mac-256"
	}
	return "aes-256-gcm"
}

// Public reports whether c has a public half.
func (c Kind) Public() bool { return c >= Ed25519 && c <= MLDSA65 }

// Key is one key: its secret in locked memory, and what was derived from it,
// kept because deriving is what costs. Its owner sees to it that nobody uses it
// during Wipe and after.
type Key struct {
	Kind  Kind
	Pub   []byte // raw public key; nil where there is none
	DER   []byte // its SubjectPublicKeyInfo
	arena *locked.Arena
	seed  []byte // its owner's

	// Expanded public keys, one of them.
	pub44  *mldsa44.PublicKey
	pub65  *mldsa65.PublicKey
	pub256 *ecdsa.PublicKey

	// Expanded private keys, made at first use; they end with the arena.
	once sync.Once
	priv *locked.Secret
}

// ErrSecret says that bytes are no secret of the algorithm.
var ErrSecret = errors.New("kms: not a private key of this algorithm")

// New derives the public key. The seed stays its owner's.
func New(c Kind, a *locked.Arena, seed []byte) (*Key, error) {
	h := &Key{Kind: c, arena: a, seed: seed}
	if len(seed) != SeedBytes {
		return nil, ErrSecret
	}
	switch c {
	case Ed25519:
		// circl's Ed25519 works on memory that is not Go's; the standard
		// library's caches keys by address and cannot.
		h.expand()
		h.Pub = append([]byte(nil), h.priv.Bytes()[circled.SeedSize:]...)
	case P256:
		var err error
		if h.Pub, err = publicP256(seed); err != nil {
			return nil, ErrSecret
		}
		if h.pub256, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), h.Pub); err != nil {
			return nil, ErrSecret
		}
	case MLDSA44:
		pub, priv := mldsa44.NewKeyFromSeed((*[SeedBytes]byte)(seed))
		h.Pub = pub.Bytes()
		*priv = mldsa44.PrivateKey{} // pub points into it
		h.pub44 = new(mldsa44.PublicKey)
		if err := h.pub44.UnmarshalBinary(h.Pub); err != nil {
			return nil, ErrSecret
		}
	case MLDSA65:
		pub, priv := mldsa65.NewKeyFromSeed((*[SeedBytes]byte)(seed))
		h.Pub = pub.Bytes()
		*priv = mldsa65.PrivateKey{} // pub points into it
		h.pub65 = new(mldsa65.PublicKey)
		if err := h.pub65.UnmarshalBinary(h.Pub); err != nil {
			return nil, ErrSecret
		}
	}
	var err error
	h.DER, err = spki(c, h.Pub)
	return h, err
}

// expand makes the private key that signs, where that is another than the seed.
// ML-DSA's is a struct without pointers, so it can lie in locked memory like any
// bytes.
func (h *Key) expand() {
	h.once.Do(func() {
		switch h.Kind {
		case Ed25519:
			heap := circled.NewKeyFromSeed(h.seed)
			h.priv = h.arena.Take(heap)
		case MLDSA44:
			_, heap := mldsa44.NewKeyFromSeed((*[SeedBytes]byte)(h.seed))
			h.priv = h.arena.Make(int(unsafe.Sizeof(*heap)))
			*(*mldsa44.PrivateKey)(h.at()) = *heap
			*heap = mldsa44.PrivateKey{}
		case MLDSA65:
			_, heap := mldsa65.NewKeyFromSeed((*[SeedBytes]byte)(h.seed))
			h.priv = h.arena.Make(int(unsafe.Sizeof(*heap)))
			*(*mldsa65.PrivateKey)(h.at()) = *heap
			*heap = mldsa65.PrivateKey{}
		}
	})
}

// at is where the expanded ML-DSA key lies: a mapping of its own, so aligned.
func (h *Key) at() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(h.priv.Bytes())) }

// Wipe ends the key but for its seed; nobody may be using it.
func (h *Key) Wipe() { h.priv.Wipe() }

// Sign signs message itself.
func (h *Key) Sign(message []byte) ([]byte, error) {
	h.expand()
	switch h.Kind {
	case Ed25519:
		return circled.Sign(circled.PrivateKey(h.priv.Bytes()), message), nil
	case P256:
		sum := sha256.Sum256(message)
		return signP256(h.arena, h.seed, sum[:])
	case MLDSA44:
		sig := make([]byte, mldsa44.SignatureSize)
		return sig, mldsa44.SignTo((*mldsa44.PrivateKey)(h.at()), message, nil, true, sig)
	case MLDSA65:
		sig := make([]byte, mldsa65.SignatureSize)
		return sig, mldsa65.SignTo((*mldsa65.PrivateKey)(h.at()), message, nil, true, sig)
	case MAC:
		return h.mac(message), nil
	}
	return nil, errors.New("kms: this key does not sign")
}

// SignDigest signs as crypto.Signer says: a digest with P-256, the message itself
// with Ed25519. No other kind does.
func (h *Key) SignDigest(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	h.expand()
	switch {
	case h.Kind == P256:
		return signP256(h.arena, h.seed, digest)
	case h.Kind != Ed25519:
		return nil, errors.New("kms: this key does not sign digests")
	case opts.HashFunc() != crypto.Hash(0):
		return nil, errors.New("kms: Ed25519 signs messages, not digests")
	}
	return circled.Sign(circled.PrivateKey(h.priv.Bytes()), digest), nil
}

// Public is the public key as crypto/tls and crypto/x509 know it; nil where they
// do not.
func (h *Key) Public() crypto.PublicKey {
	switch h.Kind {
	case P256:
		return h.pub256
	case Ed25519:
		return ed25519.PublicKey(append([]byte(nil), h.Pub...))
	}
	return nil
}

// Verify reports whether sig is h's signature of message.
func (h *Key) Verify(message, sig []byte) bool {
	switch h.Kind {
	case Ed25519:
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(h.Pub, message, sig)
	case P256:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(h.pub256, sum[:], sig)
	case MLDSA44:
		return mldsa44.Verify(h.pub44, message, nil, sig)
	case MLDSA65:
		return mldsa65.Verify(h.pub65, message, nil, sig)
	case MAC:
		want := h.mac(message)
		return subtle.ConstantTimeCompare(want, sig) == 1
	}
	return false
}

// macContext separates MACs for callers from every other use of a 32-byte key.
const macContext = "macronode kms mac v1"

// mac is keyed BLAKE3 of message, 32 bytes.
func (h *Key) mac(message []byte) []byte {
	k := h.arena.Make(SeedBytes)
	defer k.Wipe()
	Derive(k.Bytes(), macContext, h.seed)
	return keyedHash(k.Bytes(), message)
}

// Object identifiers of ML-DSA public keys (RFC 9881).
var (
	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
)

// spki is the DER SubjectPublicKeyInfo of a raw public key; nil where the
// component has none.
func spki(c Kind, pub []byte) ([]byte, error) {
	switch c {
	case Ed25519:
		return x509.MarshalPKIXPublicKey(ed25519.PublicKey(pub))
	case P256:
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), pub)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(k)
	case MLDSA44, MLDSA65:
		oid := oidMLDSA44
		if c == MLDSA65 {
			oid = oidMLDSA65
		}
		return asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{pkix.AlgorithmIdentifier{Algorithm: oid}, asn1.BitString{Bytes: pub, BitLength: 8 * len(pub)}})
	}
	return nil, nil
}
