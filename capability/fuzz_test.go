// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"testing"

	"github.com/rustyonions/macronode"
)

// What Decode accepts has one form: encoding it again, piece by piece and by an
// independent library, gives the same bytes.
func FuzzDecode(f *testing.F) {
	o := newOracle(f)
	seed := func(caveats ...Caveat) {
		tok, err := Mint(NewKey(testKey(1)), testTenant, "v1", testNonce, caveats...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(tok.CBOR())
	}
	seed()
	seed(ExpiresAt(1), OnActions("a:*", "b:c"), AtRate(1, 2), WithClientCert([32]byte{}), FromNets(prefix("10.0.0.0/8")))
	seed(Other(1024, []byte{0xa2, 0x01, 0x20, 0x61, 'a', 0x82, 0xf4, 0xf6}), InAmnesia(), ForNode("b3:x"))
	seed(Other(ThirdParty, []byte{0x84, 0x61, 'l', 0x61, 'k', 0x41, 1, 0x41, 2}))
	f.Add([]byte{0x86, 1, 0x50})
	key := NewKey(testKey(1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tok, err := Decode(raw)
		if err != nil {
			if macronode.KindOf(err) != macronode.TokenMalformed {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if !bytes.Equal(tok.CBOR(), raw) || !o.canonical(raw) {
			t.Fatalf("not canonical: %x", raw)
		}
		// Once more from the parts.
		b := []byte{0x86, 1}
		tenant, nonce, tag := tok.Tenant(), tok.Nonce(), tok.tag.bytes()
		b = appendBytes(appendText(appendBytes(b, tenant[:]), tok.KeyID()), nonce[:])
		b = appendHead(b, majArray, uint64(len(tok.caveats)))
		for _, c := range tok.Caveats() {
			if c.Err() != nil {
				t.Fatalf("caveat %v: %v", c, c.Err())
			}
			_ = c.String()
			b = append(b, c.Encoded()...)
		}
		if b = appendBytes(b, tag[:]); !bytes.Equal(b, raw) {
			t.Fatalf("encoded again: %x, was %x", b, raw)
		}
		again, err := Parse(tok.Text())
		if err != nil || again.Text() != tok.Text() {
			t.Fatalf("text: %v", err)
		}
		if v, err := tok.Verify(key); err == nil {
			a := access()
			_ = v.Check(&a)
		}
		if len(tok.caveats) < MaxCaveats && len(raw) < MaxTokenBytes-100 {
			if _, err := tok.Attenuate(ExpiresAt(1)); err != nil {
				t.Fatalf("attenuate: %v", err)
			}
		}
	})
}

// What Parse accepts is what Text writes.
func FuzzParse(f *testing.F) {
	tok, err := Mint(NewKey(testKey(1)), testTenant, "v1", testNonce, AtMostBytes(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tok.Text())
	f.Add("ron1_hgFQ")
	f.Fuzz(func(t *testing.T, text string) {
		if tok, err := Parse(text); err == nil && tok.Text() != text {
			t.Fatalf("%q is written %q", text, tok.Text())
		}
	})
}

func BenchmarkCold(b *testing.B) {
	key := NewKey(testKey(1))
	tok := mint(b, benchCaveats()...)
	text := []byte(tok.Text())
	a := access()
	b.ReportAllocs()
	for b.Loop() {
		tok, err := ParseBytes(text)
		if err != nil {
			b.Fatal(err)
		}
		v, err := tok.Verify(key)
		if err != nil {
			b.Fatal(err)
		}
		if err := v.Check(&a); err != nil {
			b.Fatal(err)
		}
	}
}

func benchCaveats() []Caveat {
	return []Caveat{
		OnActions("object:get", "object:put"), OnResources("object/*"), ExpiresAt(2_000_000), AtMostBytes(1 << 20),
		FromNets(prefix("192.0.2.0/24")),
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(mint(b, benchCaveats()...).Text())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBytes(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key := NewKey(testKey(1))
	tok := mint(b, benchCaveats()...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tok.Verify(key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	v := verified(b, mint(b, benchCaveats()...))
	a := access()
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Check(&a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAttenuate(b *testing.B) {
	tok := mint(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tok.Attenuate(ExpiresAt(2_000_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHashOneBlock(b *testing.B) {
	w := toWords(testKey(1))
	b.ReportAllocs()
	for b.Loop() {
		w = w.next("0123456789")
	}
}
