// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
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
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// component is one half of a hybrid, or the whole of any other key. Its number
// stands in signature envelopes and is never reused.
type component uint8

const (
	compEd25519 component = 1
	compP256    component = 2
	compMLDSA44 component = 3
	compMLDSA65 component = 4
	compMAC     component = 5
	compAES     component = 6
)

// seedBytes is the length of every component's secret: an Ed25519 seed, a P-256
// scalar, an ML-DSA seed or a symmetric key.
const seedBytes = 32

// maxSignatureBytes bounds any component's signature.
const maxSignatureBytes = mldsa65.SignatureSize

func (c component) String() string {
	switch c {
	case compEd25519:
		return string(Ed25519)
	case compP256:
		return string(P256)
	case compMLDSA44:
		return string(MLDSA44)
	case compMLDSA65:
		return string(MLDSA65)
	case compMAC:
		return string(MAC256)
	}
	return string(AES256GCM)
}

// public reports whether the component has a public half.
func (c component) public() bool { return c >= compEd25519 && c <= compMLDSA65 }

// half is one component of one version of a key: its secret in locked memory,
// and what was derived from it, kept because deriving is what costs.
type half struct {
	comp  component
	arena *locked.Arena
	seed  []byte // part of the version's secret
	pub   []byte // raw public key; nil where there is none
	der   []byte // its SubjectPublicKeyInfo

	// Expanded public keys, one of them.
	pub44  *mldsa44.PublicKey
	pub65  *mldsa65.PublicKey
	pub256 *ecdsa.PublicKey

	// Expanded private keys, made at first use; they end with the arena.
	once    sync.Once
	priv    *locked.Secret
	priv256 *ecdsa.PrivateKey
}

var errSecret = errors.New("kms: not a private key of this algorithm")

// newHalf derives the public key. The seed stays its owner's.
func newHalf(c component, a *locked.Arena, seed []byte) (*half, error) {
	h := &half{comp: c, arena: a, seed: seed}
	if len(seed) != seedBytes {
		return nil, errSecret
	}
	switch c {
	case compEd25519:
		// circl's Ed25519 works on memory that is not Go's; the standard
		// library's caches keys by address and cannot.
		h.expand()
		h.pub = append([]byte(nil), h.priv.Bytes()[circled.SeedSize:]...)
	case compP256:
		h.expand()
		if h.priv256 == nil {
			return nil, errSecret
		}
		h.pub256 = &h.priv256.PublicKey
		var err error
		if h.pub, err = h.pub256.Bytes(); err != nil {
			return nil, errSecret
		}
	case compMLDSA44:
		pub, priv := mldsa44.NewKeyFromSeed((*[seedBytes]byte)(seed))
		h.pub = pub.Bytes()
		*priv = mldsa44.PrivateKey{} // pub points into it
		h.pub44 = new(mldsa44.PublicKey)
		if err := h.pub44.UnmarshalBinary(h.pub); err != nil {
			return nil, errSecret
		}
	case compMLDSA65:
		pub, priv := mldsa65.NewKeyFromSeed((*[seedBytes]byte)(seed))
		h.pub = pub.Bytes()
		*priv = mldsa65.PrivateKey{} // pub points into it
		h.pub65 = new(mldsa65.PublicKey)
		if err := h.pub65.UnmarshalBinary(h.pub); err != nil {
			return nil, errSecret
		}
	}
	var err error
	h.der, err = spki(c, h.pub)
	return h, err
}

// expand makes the private key that signs. ML-DSA's is a struct without
// pointers, so it can lie in locked memory like any bytes. P-256 has to stay on
// the Go heap, where crypto/ecdsa wants it.
func (h *half) expand() {
	h.once.Do(func() {
		switch h.comp {
		case compEd25519:
			heap := circled.NewKeyFromSeed(h.seed)
			h.priv = h.arena.Take(heap)
		case compP256:
			// The scalar is checked here: zero and beyond the order fail.
			if k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), h.seed); err == nil {
				h.priv256 = k
			}
		case compMLDSA44:
			_, heap := mldsa44.NewKeyFromSeed((*[seedBytes]byte)(h.seed))
			h.priv = h.arena.Make(int(unsafe.Sizeof(*heap)))
			*(*mldsa44.PrivateKey)(h.at()) = *heap
			*heap = mldsa44.PrivateKey{}
		case compMLDSA65:
			_, heap := mldsa65.NewKeyFromSeed((*[seedBytes]byte)(h.seed))
			h.priv = h.arena.Make(int(unsafe.Sizeof(*heap)))
			*(*mldsa65.PrivateKey)(h.at()) = *heap
			*heap = mldsa65.PrivateKey{}
		}
	})
}

// at is where the expanded ML-DSA key lies: a mapping of its own, so aligned.
func (h *half) at() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(h.priv.Bytes())) }

// wipe ends the half but for its seed; nobody may be using it.
func (h *half) wipe() {
	h.priv.Wipe()
	if h.priv256 != nil {
		//lint:ignore SA1019 the only way to reach the words
		clear(h.priv256.D.Bits())
	}
}

// sign signs message itself.
func (h *half) sign(message []byte) ([]byte, error) {
	h.expand()
	switch h.comp {
	case compEd25519:
		return circled.Sign(circled.PrivateKey(h.priv.Bytes()), message), nil
	case compP256:
		sum := sha256.Sum256(message)
		return h.priv256.Sign(rand.Reader, sum[:], crypto.SHA256)
	case compMLDSA44:
		sig := make([]byte, mldsa44.SignatureSize)
		return sig, mldsa44.SignTo((*mldsa44.PrivateKey)(h.at()), message, nil, true, sig)
	case compMLDSA65:
		sig := make([]byte, mldsa65.SignatureSize)
		return sig, mldsa65.SignTo((*mldsa65.PrivateKey)(h.at()), message, nil, true, sig)
	case compMAC:
		return h.mac(message), nil
	}
	return nil, errors.New("kms: this key does not sign")
}

// verify reports whether sig is h's signature of message.
func (h *half) verify(message, sig []byte) bool {
	switch h.comp {
	case compEd25519:
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(h.pub, message, sig)
	case compP256:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(h.pub256, sum[:], sig)
	case compMLDSA44:
		return mldsa44.Verify(h.pub44, message, nil, sig)
	case compMLDSA65:
		return mldsa65.Verify(h.pub65, message, nil, sig)
	case compMAC:
		want := h.mac(message)
		return subtle.ConstantTimeCompare(want, sig) == 1
	}
	return false
}

// macContext separates MACs for callers from every other use of a 32-byte key.
const macContext = "macronode kms mac v1"

// mac is keyed BLAKE3 of message, 32 bytes.
func (h *half) mac(message []byte) []byte {
	k := h.arena.Make(seedBytes)
	defer k.Wipe()
	blake3.DeriveKey(k.Bytes(), macContext, h.seed)
	m := blake3.New(32, k.Bytes())
	_, _ = m.Write(message) // a hash's Write does not fail
	return m.Sum(nil)
}

// Object identifiers of ML-DSA public keys (RFC 9881).
var (
	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
)

// spki is the DER SubjectPublicKeyInfo of a raw public key; nil where the
// component has none.
func spki(c component, pub []byte) ([]byte, error) {
	switch c {
	case compEd25519:
		return x509.MarshalPKIXPublicKey(ed25519.PublicKey(pub))
	case compP256:
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), pub)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(k)
	case compMLDSA44, compMLDSA65:
		oid := oidMLDSA44
		if c == compMLDSA65 {
			oid = oidMLDSA65
		}
		return asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{pkix.AlgorithmIdentifier{Algorithm: oid}, asn1.BitString{Bytes: pub, BitLength: 8 * len(pub)}})
	}
	return nil, nil
}
