// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"

	"github.com/rustyonions/macronode/internal/svc/kms"
)

func golden() []kms.RawVersion {
	return []kms.RawVersion{
		kms.Raw(1, time.UnixMilli(1767225600000), [32]byte{}, bytes.Repeat([]byte{0x11}, 64)),
		kms.Raw(3, time.UnixMilli(1767225600001), [32]byte{31: 9}, bytes.Repeat([]byte{0x22}, 64)),
	}
}

// goldenRecord is golden as a hybrid of purpose bundle, format 1.
const goldenRecord = "0106010002" +
	"0000000000000001" + "0000019b76daa800" + "0000000000000000000000000000000000000000000000000000000000000000" + "0040" +
	"1111111111111111111111111111111111111111111111111111111111111111" + "1111111111111111111111111111111111111111111111111111111111111111" +
	"0000000000000003" + "0000019b76daa801" + "0000000000000000000000000000000000000000000000000000000000000009" + "0040" +
	"2222222222222222222222222222222222222222222222222222222222222222" + "2222222222222222222222222222222222222222222222222222222222222222"

func TestGoldenRecord(t *testing.T) {
	b := kms.EncodeKey(kms.Ed25519MLDSA65, kms.PurposeBundle, golden())
	if got := hex.EncodeToString(b); got != goldenRecord {
		t.Fatalf("the format on disk changed:\n%s\nwant\n%s", got, goldenRecord)
	}
	alg, p, raws, err := kms.DecodeKey(b)
	if err != nil || alg != kms.Ed25519MLDSA65 || p != kms.PurposeBundle || len(raws) != 2 {
		t.Fatal(alg, p, len(raws), err)
	}
	for n := range len(b) {
		if _, _, _, err := kms.DecodeKey(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes pass", n, len(b))
		}
	}
}

// Seeds make the keys that the libraries make of them, expanded or not.
func TestKnownKeys(t *testing.T) {
	s := newStore(t)
	seed := [32]byte{1, 2, 3}
	message := []byte("message")
	for _, alg := range []kms.Algorithm{kms.MLDSA44, kms.MLDSA65} {
		info, _, err := s.Import(ctx, kms.Spec{Name: string(alg), Alg: alg, Purpose: kms.PurposeApp}, append([]byte(nil), seed[:]...))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign(ctx, string(alg), kms.PurposeApp, message)
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		if alg == kms.MLDSA44 {
			pub, _ := mldsa44.NewKeyFromSeed(&seed)
			ok = mldsa44.Verify(pub, message, nil, sig.Halves[0].Sig) && bytes.Equal(pub.Bytes(), info.Versions[0].Public[0].Raw)
		} else {
			pub, _ := mldsa65.NewKeyFromSeed(&seed)
			ok = mldsa65.Verify(pub, message, nil, sig.Halves[0].Sig) && bytes.Equal(pub.Bytes(), info.Versions[0].Public[0].Raw)
		}
		if !ok {
			t.Errorf("%s: not the seed's key", alg)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(kms.EncodeKey(kms.Ed25519MLDSA65, kms.PurposeBundle, golden()))
	f.Add(kms.EncodeKey(kms.MAC256, kms.PurposeMint, []kms.RawVersion{kms.Raw(1, time.UnixMilli(0), [32]byte{}, make([]byte, 32))}))
	f.Add([]byte{1, 1, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		alg, p, raws, err := kms.DecodeKey(b)
		if err != nil {
			return
		}
		if !bytes.Equal(kms.EncodeKey(alg, p, raws), b) {
			t.Fatal("two forms of one record")
		}
	})
}

func FuzzSignature(f *testing.F) {
	f.Add((&kms.Signature{Version: 1, Halves: []kms.HalfSignature{{Component: 1, Sig: make([]byte, 64)}, {Component: 4, Sig: []byte{1}}}}).Bytes())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := kms.ParseSignature(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Bytes(), b) {
			t.Fatal("two forms of one signature")
		}
	})
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"KMS:key/ops-release", "KMS:obj/policy-bundle@v42", "KMS:obj/x@v0", "KMS:obj/x@v01", "kms:key/a", "KMS:obj/../x", "KMS:key/a@v18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := kms.ParseRef(text)
		if err != nil {
			return
		}
		if r.String() != text || !kms.ValidName(r.Name) {
			t.Fatalf("%q is %+v", text, r)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	s := newStore(f)
	// A fixed key: every worker of the fuzzer has the same.
	if _, _, err := s.Import(ctx, kms.Spec{Name: "w", Alg: kms.AES256GCM, Purpose: kms.PurposeApp}, make([]byte, 32)); err != nil {
		f.Fatal(err)
	}
	good, err := s.Wrap(ctx, "w", kms.PurposeApp, []byte("x"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := s.Unwrap(ctx, "w", kms.PurposeApp, b, nil); err == nil && string(plain) != "x" {
			t.Fatal("forged")
		}
	})
}

func FuzzParsePublic(f *testing.F) {
	f.Add([]byte(`{"format":1,"keys":[{"name":"a","alg":"ed25519","purpose":"app","versions":[{"version":1,"created_ms":0}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := kms.ParsePublic(b); err == nil {
			for i := range d.Keys {
				_ = d.Keys[i].Newest()
			}
		}
	})
}
