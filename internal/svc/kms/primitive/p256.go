// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package primitive

import (
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"math/big"

	"filippo.io/bigmod"
	"filippo.io/nistec"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// crypto/ecdsa keeps its own copy of a private key on the heap, which nobody can
// erase. So ECDSA is put together here, of the same curve and the same modular
// arithmetic: the parts that the standard library's own ECDSA is made of, by
// their author. The scalar stays in locked memory.

// order is the order of the group P-256.
var order = mustModulus(elliptic.P256().Params().N.Bytes())

func mustModulus(b []byte) *bigmod.Modulus {
	m, err := bigmod.NewModulus(b)
	if err != nil {
		panic(err) // a constant
	}
	return m
}

// number reads 32 bytes below the order; the caller wipes it.
func number(b []byte) (*bigmod.Nat, error) {
	if len(b) != SeedBytes {
		return nil, ErrSecret
	}
	x, err := bigmod.NewNat().SetBytes(b, order)
	if err != nil || x.IsZero() == 1 {
		return nil, ErrSecret
	}
	return x, nil
}

func wipe(numbers ...*bigmod.Nat) {
	for _, x := range numbers {
		if x != nil {
			clear(x.Bits())
		}
	}
}

// ValidScalar reports whether b is a private scalar of P-256: 1 to the order less one.
func ValidScalar(b []byte) bool {
	var err error
	locked.Scrub(func() {
		var x *bigmod.Nat
		x, err = number(b)
		wipe(x)
	})
	return err == nil
}

// randomScalar fills b, 32 bytes, with a uniform private scalar.
func randomScalar(b []byte) (*bigmod.Nat, error) {
	for {
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
		if x, err := number(b); err == nil { // fails once in 2^32
			return x, nil
		}
	}
}

// publicP256 is the uncompressed point of a scalar.
func publicP256(seed []byte) (pub []byte, err error) {
	locked.Scrub(func() {
		var d *bigmod.Nat
		if d, err = number(seed); err != nil {
			return
		}
		wipe(d)
		var p *nistec.P256Point
		if p, err = nistec.NewP256Point().ScalarBaseMult(seed); err == nil {
			pub = p.Bytes()
		}
	})
	return pub, err
}

// signP256 is an ECDSA signature (ASN.1) of a digest by the scalar seed.
func signP256(a *locked.Arena, seed, digest []byte) ([]byte, error) {
	var r, s []byte
	var err error
	locked.Scrub(func() { r, s, err = ecdsaP256(a, seed, digest) })
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
}

// ecdsaP256 is FIPS 186-5, 6.4.1: s = (e + r·d)/k for a fresh random k.
func ecdsaP256(a *locked.Arena, seed, digest []byte) (rOut, sOut []byte, err error) {
	d, err := number(seed)
	if err != nil {
		return nil, nil, err
	}
	nonce, mask := a.Make(SeedBytes), a.Make(SeedBytes)
	var k, b *bigmod.Nat
	defer func() { wipe(d, k, b); nonce.Wipe(); mask.Wipe() }()
	e, err := bigmod.NewNat().SetOverflowingBytes(leftmost(digest), order)
	if err != nil {
		return nil, nil, err
	}
	for {
		wipe(k, b)
		if k, err = randomScalar(nonce.Bytes()); err != nil {
			return nil, nil, err
		}
		if b, err = randomScalar(mask.Bytes()); err != nil {
			return nil, nil, err
		}
		point, err := nistec.NewP256Point().ScalarBaseMult(nonce.Bytes())
		if err != nil {
			return nil, nil, err
		}
		x, err := point.BytesX()
		if err != nil {
			return nil, nil, err
		}
		r, err := bigmod.NewNat().SetOverflowingBytes(x, order)
		if err != nil {
			return nil, nil, err
		}
		// 1/k by way of k·b with a random b: the inversion takes a time that
		// depends on what it inverts, which then says nothing of k.
		kb := copyOf(b).Mul(k, order)
		inv, ok := bigmod.NewNat().InverseVarTime(kb, order)
		if !ok {
			return nil, nil, ErrSecret // no number below a prime is without one
		}
		inv.Mul(b, order)
		s := copyOf(r).Mul(d, order)
		s.Add(e, order).Mul(inv, order)
		wipe(kb, inv)
		if r.IsZero() == 1 || s.IsZero() == 1 {
			continue
		}
		return r.Bytes(order), s.Bytes(order), nil
	}
}

// copyOf is a second number of the same value; adding zero copies.
func copyOf(x *bigmod.Nat) *bigmod.Nat {
	return bigmod.NewNat().ExpandFor(order).Add(x, order)
}

// leftmost is what ECDSA takes of a digest: at most 32 bytes, from the left.
func leftmost(digest []byte) []byte {
	if len(digest) > SeedBytes {
		digest = digest[:SeedBytes]
	}
	padded := make([]byte, SeedBytes)
	copy(padded[SeedBytes-len(digest):], digest)
	return padded
}
