// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package primitive

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"math/big"
	"testing"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

func arena(t testing.TB) *locked.Arena {
	a := locked.New(nil)
	t.Cleanup(a.Close)
	return a
}

// Derive and the keyed hash are BLAKE3's, as another implementation has them.
func TestDeriveIsBlake3(t *testing.T) {
	for i := range 64 {
		src := bytes.Repeat([]byte{byte(i * 3)}, SeedBytes)
		src[i%SeedBytes] ^= 0x5a
		context := "a context of some length, up to a block of sixty-four bytes....."[:i+1]
		var got, want [SeedBytes]byte
		Derive(got[:], context, src)
		blake3.DeriveKey(want[:], context, src)
		if got != want {
			t.Fatalf("context of %d bytes: another key", len(context))
		}
		h := blake3.New(32, src)
		_, _ = h.Write([]byte(context))
		if !bytes.Equal(keyedHash(src, []byte(context)), h.Sum(nil)) {
			t.Fatal("another keyed hash")
		}
	}
}

// Signatures of our P-256 verify with the standard library's, for small, large
// and random scalars and digests of every length; none comes twice.
func TestP256AgreesWithTheStandardLibrary(t *testing.T) {
	a := arena(t)
	n := elliptic.P256().Params().N
	scalars := [][]byte{}
	for _, d := range []*big.Int{big.NewInt(1), big.NewInt(2), new(big.Int).Sub(n, big.NewInt(1)), new(big.Int).Rsh(n, 1)} {
		scalars = append(scalars, d.FillBytes(make([]byte, 32)))
	}
	for range 20 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		scalars = append(scalars, b)
	}
	seen := map[string]bool{}
	for _, d := range scalars {
		std, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
		if err != nil {
			t.Fatal(err)
		}
		k, err := New(P256, a, d)
		if err != nil {
			t.Fatal(err)
		}
		if pub, _ := std.PublicKey.Bytes(); !bytes.Equal(pub, k.Pub) {
			t.Fatal("another public key")
		}
		sum32, sum64 := sha256.Sum256(d[:3]), sha512.Sum512(d[:3])
		for _, digest := range [][]byte{sum32[:], sum64[:], sum32[:20], nil, bytes.Repeat([]byte{0xff}, 32), make([]byte, 32), n.Bytes()} {
			sig, err := signP256(a, d, digest)
			if err != nil {
				t.Fatal(err)
			}
			if !ecdsa.VerifyASN1(&std.PublicKey, digest, sig) {
				t.Fatalf("a signature of %d bytes of digest does not verify", len(digest))
			}
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(sig, &rs); err != nil || seen[rs.R.String()] {
				t.Fatal("a nonce came twice", err)
			}
			seen[rs.R.String()] = true
		}
		message := []byte("message")
		sig, err := k.Sign(message)
		if err != nil || !k.Verify(message, sig) || k.Verify([]byte("another"), sig) {
			t.Fatal("sign and verify", err)
		}
	}
}

func TestScalarsThatAreNone(t *testing.T) {
	n := elliptic.P256().Params().N
	above := new(big.Int).Add(n, big.NewInt(1)).Bytes()
	for name, b := range map[string][]byte{"zero": make([]byte, 32), "the order": n.Bytes(), "above it": above, "all ones": bytes.Repeat([]byte{0xff}, 32), "short": {1}, "none": nil} {
		if ValidScalar(b) {
			t.Error(name)
		}
		if _, err := New(P256, arena(t), b); err == nil {
			t.Error(name, "makes a key")
		}
	}
	if !ValidScalar(new(big.Int).Sub(n, big.NewInt(1)).Bytes()) {
		t.Error("the largest is refused")
	}
}

// Our AES-256-GCM is the standard one, and refuses what is not of this key.
func TestSealIsAESGCM(t *testing.T) {
	a := arena(t)
	seed, nonce := bytes.Repeat([]byte{7}, 32), make([]byte, NonceBytes)
	k, err := New(AES, a, seed)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Seal([]byte("head"), nonce, []byte("plain"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	std, _ := cipher.NewGCM(block)
	if want := std.Seal([]byte("head"), nonce, []byte("plain"), []byte("ad")); !bytes.Equal(sealed, want) {
		t.Fatal("another cipher text")
	}
	if p, err := k.Open(nonce, sealed[4:], []byte("ad")); err != nil || string(p) != "plain" {
		t.Fatal(err)
	}
	for i := range sealed[4:] {
		bad := bytes.Clone(sealed[4:])
		bad[i] ^= 1
		if _, err := k.Open(nonce, bad, []byte("ad")); err == nil {
			t.Fatalf("a change of byte %d passes", i)
		}
	}
	if _, err := k.Open(nonce, sealed[4:], []byte("da")); err == nil {
		t.Fatal("other associated data passes")
	}
	mac, err := New(MAC, a, seed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mac.Seal(nil, nonce, nil, nil); err == nil {
		t.Fatal("a MAC key encrypts")
	}
	if _, err := k.Sign(nil); err == nil {
		t.Fatal("a key that wraps signs")
	}
}

func BenchmarkSignP256(b *testing.B) {
	a := arena(b)
	seed := bytes.Repeat([]byte{9}, 32)
	digest := sha256.Sum256(seed)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, err := signP256(a, seed, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("crypto-ecdsa", func(b *testing.B) {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := ecdsa.SignASN1(rand.Reader, k, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
