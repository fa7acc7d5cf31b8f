// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"

	"github.com/rustyonions/macronode/bundle"
)

// MaxKeyFileBytes bounds a file with a signer's key.
const MaxKeyFileBytes = 16 << 10

// PrivateKey is a signer's key outside of any node, as a file has it.
type PrivateKey struct {
	V       int    `json:"v"` // 1
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Ed25519 []byte `json:"ed25519"`             // seed, 32 bytes, base64
	MLDSA65 []byte `json:"ml_dsa_65,omitempty"` // seed, 32 bytes, base64; absent: not hybrid
}

// NewKey makes a key from rand; hybrid adds ML-DSA-65.
func NewKey(name string, version uint64, hybrid bool, rand io.Reader) (*PrivateKey, error) {
	k := &PrivateKey{V: format, Name: name, Version: version, Ed25519: make([]byte, ed25519.SeedSize)}
	if _, err := io.ReadFull(rand, k.Ed25519); err != nil {
		return nil, err
	}
	if hybrid {
		k.MLDSA65 = make([]byte, mldsa65.SeedSize)
		if _, err := io.ReadFull(rand, k.MLDSA65); err != nil {
			return nil, err
		}
	}
	return k, k.validate()
}

// ParsePrivateKey reads a key's file: JSON as Encode writes it, or PKCS #8 in PEM with an
// Ed25519 key, which then has name and version from the caller. Errors wrap
// ErrMalformed and repeat nothing of the file.
func ParsePrivateKey(file []byte, name string, version uint64) (*PrivateKey, error) {
	if len(file) > MaxKeyFileBytes {
		return nil, malformed("key file of %d bytes, at most %d are accepted", len(file), MaxKeyFileBytes)
	}
	if block, _ := pem.Decode(file); block != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		private, ok := parsed.(ed25519.PrivateKey)
		if err != nil || !ok || block.Type != "PRIVATE KEY" {
			return nil, malformed("key file: the PEM has no Ed25519 key in PKCS #8")
		}
		k := &PrivateKey{V: format, Name: name, Version: version, Ed25519: private.Seed()}
		return k, k.validate()
	}
	var k PrivateKey
	if _, err := decode(file, MaxKeyFileBytes, "key file", &k); err != nil {
		return nil, malformed("key file: it is neither a key's JSON nor PEM")
	}
	return &k, k.validate()
}

// Encode is the file's text: the key is in it.
func (k *PrivateKey) Encode() ([]byte, error) {
	if err := k.validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(k, "", "  ")
	return append(b, '\n'), err
}

func (k *PrivateKey) validate() error {
	switch {
	case k.V != format:
		return malformed("key file: format %d, this version reads %d", k.V, format)
	case !ValidName(k.Name) || k.Version < 1 || k.Version > bundle.MaxInteger:
		return malformed("key file: a key has a name (1 to 64 of a-z, 0-9, dot, underscore and hyphen) and a version, from 1")
	case len(k.Ed25519) != ed25519.SeedSize || len(k.MLDSA65) != 0 && len(k.MLDSA65) != mldsa65.SeedSize:
		return malformed("key file: a seed has 32 bytes")
	}
	return nil
}

// Anchor is the public key.
func (k *PrivateKey) Anchor() bundle.Anchor {
	a := bundle.Anchor{Name: k.Name, Version: k.Version, Ed25519: ed25519.NewKeyFromSeed(k.Ed25519).Public().(ed25519.PublicKey)}
	if len(k.MLDSA65) > 0 {
		public, _ := mldsa65.NewKeyFromSeed((*[mldsa65.SeedSize]byte)(k.MLDSA65))
		a.MLDSA65 = public.Bytes()
	}
	return a
}

// Halves are signers, one for each half of the key.
func (k *PrivateKey) Halves() []bundle.Signer {
	list := []bundle.Signer{half{k, bundle.AlgEd25519}}
	if len(k.MLDSA65) > 0 {
		list = append(list, half{k, bundle.AlgMLDSA65})
	}
	return list
}

type half struct {
	k   *PrivateKey
	alg string
}

// KeyID implements bundle.Signer.
func (h half) KeyID() string {
	return bundle.KeyID{Name: h.k.Name, Version: h.k.Version, Alg: h.alg}.String()
}

// Alg implements bundle.Signer.
func (h half) Alg() string { return h.alg }

// Sign implements bundle.Signer.
func (h half) Sign(message []byte) ([]byte, error) {
	if h.alg == bundle.AlgEd25519 {
		return ed25519.Sign(ed25519.NewKeyFromSeed(h.k.Ed25519), message), nil
	}
	_, private := mldsa65.NewKeyFromSeed((*[mldsa65.SeedSize]byte)(h.k.MLDSA65))
	sig := make([]byte, mldsa65.SignatureSize)
	err := mldsa65.SignTo(private, message, nil, false, sig)
	return sig, err
}
