// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

var nets = []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "192.0.2.7/32", "::/0", "2001:db8::/32"}

func genCaveat() *rapid.Generator[Caveat] {
	words := func(list ...string) *rapid.Generator[[]string] {
		return rapid.SliceOfN(rapid.SampledFrom(list), 1, 3)
	}
	return rapid.Custom(func(t *rapid.T) Caveat {
		switch rapid.IntRange(0, 13).Draw(t, "type") {
		case 0:
			return ExpiresAt(rapid.Int64Range(999_900, 1_000_100).Draw(t, "exp"))
		case 1:
			return NotBefore(rapid.Int64Range(999_900, 1_000_100).Draw(t, "nbf"))
		case 2:
			return ForNode(rapid.SampledFrom([]string{"b3:node", "b3:other"}).Draw(t, "aud"))
		case 3:
			return OnActions(words("object:get", "object:*", "*", "name:set").Draw(t, "actions")...)
		case 4:
			return OnResources(words("object/b3:abc", "object/b3:*", "object", "*", "name/x").Draw(t, "resources")...)
		case 5:
			var ps []netip.Prefix
			for _, s := range words(nets...).Draw(t, "nets") {
				ps = append(ps, netip.MustParsePrefix(s))
			}
			return FromNets(ps...)
		case 6:
			return AtMostBytes(rapid.Int64Range(0, 200).Draw(t, "max"))
		case 7:
			return AtRate(rapid.Int64Range(0, 9).Draw(t, "rate"), rapid.Int64Range(0, 9).Draw(t, "burst"))
		case 8:
			return InAmnesia()
		case 9:
			return UnderPolicy([32]byte{rapid.ByteRange(0, 3).Draw(t, "policy")})
		case 10:
			return WithClientCert([32]byte{rapid.ByteRange(0, 3).Draw(t, "cert")})
		case 11:
			return ByMethods(words("GET", "PUT", "HEAD").Draw(t, "methods")...)
		case 12:
			return ConfinedTo(words("svc-storage", "svc-mailbox").Draw(t, "confine")...)
		default:
			return Other(Type(rapid.Uint64Range(1024, math.MaxUint64).Draw(t, "private")), []byte{0x81, 0x00})
		}
	})
}

func genAccess() *rapid.Generator[Access] {
	return rapid.Custom(func(t *rapid.T) Access {
		a := access()
		a.Now = rapid.Int64Range(999_900, 1_000_100).Draw(t, "now")
		a.Action = macronode.Action(rapid.SampledFrom([]string{"object:get", "object:put", "name:set"}).Draw(t, "action"))
		a.Resource.ID = rapid.SampledFrom([]string{"", "b3:abc", "b3:abcd"}).Draw(t, "id")
		a.Method = rapid.SampledFrom([]string{"GET", "PUT"}).Draw(t, "method")
		a.Service = rapid.SampledFrom([]string{"svc-storage", "svc-index"}).Draw(t, "service")
		a.Addr = rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1")}).Draw(t, "addr")
		a.Amnesia = rapid.Bool().Draw(t, "amnesia")
		a.ClientCert[0] = rapid.ByteRange(0, 2).Draw(t, "cert")
		a.Policy[0] = rapid.ByteRange(0, 2).Draw(t, "policy")
		a.Bytes = rapid.Int64Range(0, 200).Draw(t, "bytes")
		return a
	})
}

// Whatever is allowed to a narrowed token is allowed to the one it came from,
// and its limits are no wider.
func TestAttenuationNeverWidens(t *testing.T) {
	key := NewKey(testKey(1))
	rapid.Check(t, func(t *rapid.T) {
		caveats := rapid.SliceOfN(genCaveat(), 0, 3)
		parent, err := Mint(key, testTenant, "v1", testNonce, caveats.Draw(t, "minted")...)
		if err != nil {
			t.Fatal(err)
		}
		child, err := parent.Attenuate(caveats.Draw(t, "added")...)
		if err != nil {
			t.Fatal(err)
		}
		vp, err := parent.Verify(key)
		if err != nil {
			t.Fatal(err)
		}
		vc, err := child.Verify(key)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range vp.IDs {
			if vc.IDs[i] != id {
				t.Fatalf("id %d changed", i)
			}
		}
		if vp.MaxBytes != macronode.NoLimit && (vc.MaxBytes == macronode.NoLimit || vc.MaxBytes > vp.MaxBytes) {
			t.Fatalf("max_bytes widened from %d to %d", vp.MaxBytes, vc.MaxBytes)
		}
		if vp.Expires != 0 && (vc.Expires == 0 || vc.Expires > vp.Expires) {
			t.Fatalf("expiry widened from %d to %d", vp.Expires, vc.Expires)
		}
		if len(vc.Rates) < len(vp.Rates) {
			t.Fatal("a rate was lost")
		}
		for i := range vp.Rates {
			if vc.Rates[i] != vp.Rates[i] {
				t.Fatal("a rate's bucket changed")
			}
		}
		for range 8 {
			a := genAccess().Draw(t, "access")
			if vc.Check(&a) == nil && vp.Check(&a) != nil {
				t.Fatalf("the child may do what the parent may not: %+v", a)
			}
		}
	})
}

// Attenuating in one step, in many, through the text, or minting at once give
// the same token.
func TestAttenuationIsAssociative(t *testing.T) {
	key := NewKey(testKey(1))
	rapid.Check(t, func(t *rapid.T) {
		caveats := rapid.SliceOfN(genCaveat(), 0, 6).Draw(t, "caveats")
		want, err := Mint(key, testTenant, "v1", testNonce, caveats...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Mint(key, testTenant, "v1", testNonce)
		for _, c := range caveats {
			if err != nil {
				break
			}
			if got, err = got.Attenuate(c); err == nil {
				got, err = Parse(got.Text())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Text() != want.Text() {
			t.Fatal("the tokens differ")
		}
		v, err := got.Verify(key)
		if err != nil || v.LeafID() != got.LeafID() {
			t.Fatalf("leaf id differs: %v", err)
		}
	})
}

// Mint agrees with an independent encoder and plain BLAKE3.
func TestMintMatchesOracle(t *testing.T) {
	o := newOracle(t)
	rapid.Check(t, func(rt *rapid.T) {
		kid := rapid.StringMatching(`[a-z0-9._-]{1,64}`).Draw(rt, "kid")
		n := rapid.Uint64().Draw(rt, "n")
		texts := rapid.SliceOfN(rapid.StringN(1, 40, 300), 1, 4).Draw(rt, "texts")
		tok, err := Mint(NewKey(testKey(1)), testTenant, kid, testNonce,
			number(MaxBytes, n), ConfinedTo(texts...), InAmnesia(), WithClientCert([32]byte{5}), ForNode(texts[0]))
		if err != nil {
			rt.Fatal(err)
		}
		cert := [32]byte{5}
		raw, tags := o.token(t, testKey(1)[:], testTenant, kid, testNonce, []any{
			[]any{7, n}, []any{13, texts}, []any{9, true}, []any{11, cert[:]}, []any{3, texts[0]},
		})
		if !bytes.Equal(tok.CBOR(), raw) {
			rt.Fatalf("got %x\nwant %x", tok.CBOR(), raw)
		}
		v, err := tok.Verify(NewKey(testKey(1)))
		if err != nil {
			rt.Fatal(err)
		}
		for i, tag := range tags {
			if v.IDs[i] != oracleID(tag) {
				rt.Fatalf("id %d differs", i)
			}
		}
	})
}
