// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

func mint(t testing.TB, caveats ...Caveat) *Token {
	t.Helper()
	tok, err := Mint(NewKey(testKey(1)), testTenant, "v1", testNonce, caveats...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func verified(t testing.TB, tok *Token) *Verified {
	t.Helper()
	v, err := tok.Verify(NewKey(testKey(1)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// access is one that the caveats below are written for.
func access() Access {
	return Access{
		Now: 1_000_000, Node: "b3:node", Action: "object:get",
		Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:abc"},
		Method:   "GET", Service: "svc-storage", Addr: netip.MustParseAddr("192.0.2.7"),
		ClientCert: [32]byte{1}, Policy: [32]byte{2}, Bytes: 100,
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestCheck(t *testing.T) {
	const ok = macronode.NumKinds // no refusal
	third := Other(ThirdParty, []byte{0x84, 0x60, 0x60, 0x40, 0x40})
	if third.Err() != nil {
		t.Fatal(third.Err())
	}
	amnesia := func(a *Access) { a.Amnesia = true }
	for _, tc := range []struct {
		caveat Caveat
		change func(*Access)
		want   macronode.Kind
	}{
		{ExpiresAt(1_000_001), nil, ok},
		{ExpiresAt(1_000_000 - 59), nil, ok},
		{ExpiresAt(1_000_000 - 60), nil, macronode.TokenExpired},
		{ExpiresAt(0), nil, macronode.TokenExpired},
		{number(Exp, math.MaxUint64), nil, ok},
		{NotBefore(1_000_000 + 60), nil, ok},
		{NotBefore(1_000_000 + 61), nil, macronode.TokenNotYetValid},
		{NotBefore(0), nil, ok},
		{number(Nbf, math.MaxUint64), nil, macronode.TokenNotYetValid},
		{ForNode("b3:node"), nil, ok},
		{ForNode("b3:nod"), nil, macronode.TokenAudience},
		{ForNode("b3:node"), func(a *Access) { a.Node = "" }, macronode.TokenAudience},
		{OnActions("object:get"), nil, ok},
		{OnActions("object:put", "object:*"), nil, ok},
		{OnActions("object"), nil, macronode.CaveatDenied},
		{OnActions("name:*"), nil, macronode.CaveatDenied},
		{OnResources("object/b3:abc"), nil, ok},
		{OnResources("object/"), nil, ok},
		{OnResources("object"), nil, ok},
		{OnResources("obj*"), nil, ok},
		{OnResources("obj"), nil, macronode.CaveatDenied},
		{OnResources("object/b3:ab"), nil, macronode.CaveatDenied},
		{OnResources("object/b3:ab*"), nil, ok},
		{OnResources("name/x"), nil, macronode.CaveatDenied},
		{FromNets(prefix("10.0.0.0/8"), prefix("192.0.2.0/24")), nil, ok},
		{FromNets(prefix("192.0.2.0/24")), func(a *Access) { a.Addr = netip.MustParseAddr("::ffff:192.0.2.9") }, ok},
		{FromNets(prefix("10.0.0.0/8")), nil, macronode.TokenAddress},
		{FromNets(prefix("0.0.0.0/0"), prefix("::/0")), func(a *Access) { a.Addr = netip.Addr{} }, macronode.TokenAddress},
		{FromNets(prefix("2001:db8::/32"), prefix("0.0.0.0/0")), func(a *Access) { a.Addr = netip.MustParseAddr("2001:db9::1") }, macronode.TokenAddress},
		{FromNets(prefix("fe80::/10")), func(a *Access) { a.Addr = netip.MustParseAddr("fe80::1%eth0") }, ok},
		{AtMostBytes(100), nil, ok},
		{AtMostBytes(99), nil, macronode.TooLarge},
		{AtRate(0, 0), nil, ok},
		{InAmnesia(), amnesia, ok},
		{InAmnesia(), nil, macronode.CaveatDenied},
		{UnderPolicy([32]byte{2}), nil, ok},
		{UnderPolicy([32]byte{3}), nil, macronode.CaveatDenied},
		{UnderPolicy([32]byte{}), func(a *Access) { a.Policy = [32]byte{} }, macronode.CaveatDenied},
		{WithClientCert([32]byte{1}), nil, ok},
		{WithClientCert([32]byte{9}), nil, macronode.TokenClientCert},
		{WithClientCert([32]byte{}), func(a *Access) { a.ClientCert = [32]byte{} }, macronode.TokenClientCert},
		{ByMethods("PUT", "GET"), nil, ok},
		{ByMethods("HEAD"), nil, macronode.CaveatDenied},
		{ConfinedTo("svc-storage"), nil, ok},
		{ConfinedTo("svc-mailbox"), nil, macronode.CaveatDenied},
		{Other(14, []byte{0}), nil, macronode.CaveatDenied},
		{Other(1024, []byte{0xa0}), nil, macronode.CaveatDenied},
		{Other(0, []byte{0xf6}), nil, macronode.CaveatDenied},
		{Other(Discharge, append([]byte{0x58, 32}, make([]byte, 32)...)), nil, macronode.CaveatDenied},
	} {
		t.Run(fmt.Sprint(tc.caveat, tc.want), func(t *testing.T) {
			a := access()
			if tc.change != nil {
				tc.change(&a)
			}
			err := verified(t, mint(t, tc.caveat)).Check(&a)
			if tc.want == ok {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil || macronode.KindOf(err) != tc.want {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := mint(t, third).Verify(NewKey(testKey(1))); macronode.KindOf(err) != macronode.TokenDischarge {
		t.Errorf("a third-party caveat: %v", err)
	}
	if _, err := mint(t, third).Verify(NewKey(testKey(2))); macronode.KindOf(err) != macronode.TokenForged {
		t.Errorf("a forged token with a third-party caveat: %v", err)
	}
}

func TestBadTokenWinsOverDenied(t *testing.T) {
	a := access()
	v := verified(t, mint(t, OnActions("name:*"), Other(999, []byte{0}), ExpiresAt(1)))
	if err := v.Check(&a); macronode.KindOf(err) != macronode.TokenExpired {
		t.Errorf("got %v", err)
	}
}

func TestConstructorsRefuse(t *testing.T) {
	for _, c := range []Caveat{
		{}, ExpiresAt(-1), NotBefore(-1), ForNode(""), ForNode("\xff"), OnActions(), OnActions(""), OnActions("a*b"),
		OnResources("object/*/x"), OnResources("\xff"), FromNets(), FromNets(netip.Prefix{}),
		FromNets(netip.MustParsePrefix("10.0.0.1/8")), FromNets(netip.MustParsePrefix("::ffff:10.0.0.0/104")),
		AtMostBytes(-1), AtRate(-1, 1), AtRate(1, -1), ByMethods("get"), ByMethods(), ConfinedTo(), ConfinedTo(""),
		ForNode(strings.Repeat("x", MaxTokenBytes)),
		Other(Exp, []byte{0x60}), Other(Amnesia, []byte{0xf4}), Other(99, nil), Other(99, []byte{0, 0}),
		Other(99, []byte{0x18, 1}), Other(99, []byte{0xf9, 0, 0}), Other(99, []byte{0xc0, 0}),
		Other(99, []byte(strings.Repeat("\x81", maxDepth)+"\x00")),
	} {
		if c.Err() == nil {
			t.Errorf("%v was accepted", c)
		}
		if _, err := Mint(NewKey(testKey(1)), testTenant, "v1", testNonce, c); err == nil {
			t.Errorf("%v was minted", c)
		}
		if _, err := mint(t).Attenuate(c); err == nil {
			t.Errorf("%v was added", c)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	key := NewKey(testKey(1))
	for _, kid := range []string{"", "V1", "v 1", strings.Repeat("a", 65), "é"} {
		if _, err := Mint(key, testTenant, kid, testNonce); err == nil {
			t.Errorf("kid %q was accepted", kid)
		}
	}
	if _, err := Mint(key, macronode.TenantID{}, "v1", testNonce); err == nil {
		t.Error("no tenant was accepted")
	}
	if _, err := Mint(key, testTenant, strings.Repeat("a", 64), testNonce); err != nil {
		t.Errorf("a long kid: %v", err)
	}
}

func TestLimits(t *testing.T) {
	tok := mint(t)
	var err error
	for i := range MaxCaveats {
		if tok, err = tok.Attenuate(AtMostBytes(int64(i))); err != nil {
			t.Fatalf("caveat %d: %v", i, err)
		}
	}
	if _, err = tok.Attenuate(AtMostBytes(1)); err == nil {
		t.Error("caveat 65 was accepted")
	}
	verified(t, tok)

	// The largest token: its text is as long as a text may be.
	base := len(mint(t).CBOR())
	big := mint(t, ForNode(strings.Repeat("x", MaxTokenBytes-base-5)))
	if len(big.CBOR()) != MaxTokenBytes || len(big.Text()) != MaxTextBytes {
		t.Fatalf("%d bytes, text of %d", len(big.CBOR()), len(big.Text()))
	}
	again, err := Parse(big.Text())
	if err != nil {
		t.Fatal(err)
	}
	verified(t, again)
	if _, err := big.Attenuate(InAmnesia()); err == nil {
		t.Error("a token over 4096 bytes was made")
	}
	if _, err := Decode(append(big.CBOR(), 0)); err == nil {
		t.Error("a token over 4096 bytes was read")
	}
}

func TestVerifiedExtracts(t *testing.T) {
	v := verified(t, mint(t, AtMostBytes(9), ExpiresAt(500), AtRate(3, 4), AtMostBytes(7), ExpiresAt(400), AtRate(3, 4), ExpiresAt(600)))
	if v.MaxBytes != 7 || v.Expires != 400 || len(v.Rates) != 2 || v.Rates[0].PerSec != 3 || v.Rates[0].Burst != 4 {
		t.Errorf("got %+v", v)
	}
	if v.Rates[0].Key == v.Rates[1].Key {
		t.Error("two rate caveats share a bucket")
	}
	if none := verified(t, mint(t)); none.MaxBytes != macronode.NoLimit || none.Expires != 0 || none.Rates != nil {
		t.Errorf("got %+v", none)
	}
	if zero := verified(t, mint(t, ExpiresAt(0), number(MaxBytes, math.MaxUint64))); zero.Expires == 0 || zero.MaxBytes != math.MaxInt64 {
		t.Errorf("got %+v", zero)
	}
}

// Bits flipped anywhere make a token that is malformed or forged.
func TestEveryBitCounts(t *testing.T) {
	raw := mint(t, OnActions("object:*"), ExpiresAt(5)).CBOR()
	key := NewKey(testKey(1))
	for i := range len(raw) * 8 {
		bent := append([]byte(nil), raw...)
		bent[i/8] ^= 1 << (i % 8)
		tok, err := Decode(bent)
		if err != nil {
			if macronode.KindOf(err) != macronode.TokenMalformed {
				t.Fatalf("bit %d: %v", i, err)
			}
			continue
		}
		if _, err := tok.Verify(key); macronode.KindOf(err) != macronode.TokenForged {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
}

// A caveat cannot be dropped, moved or replaced, even by one who knows all the
// caveats and every token that followed.
func TestCannotUnwind(t *testing.T) {
	key := NewKey(testKey(1))
	tok := mint(t, OnActions("object:get"), AtMostBytes(10), ExpiresAt(5))
	cs := tok.Caveats()
	root := []byte(tok.raw[:tok.rootEnd])
	for _, keep := range [][]Caveat{{cs[0]}, {cs[0], cs[1]}, {cs[1], cs[0], cs[2]}, {cs[0], cs[2]}, nil} {
		forged, err := assemble(root, tok.tag, keep, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := forged.Verify(key); macronode.KindOf(err) != macronode.TokenForged {
			t.Errorf("%v: %v", keep, err)
		}
	}
}

func TestTextHasOneForm(t *testing.T) {
	text := mint(t, AtMostBytes(1)).Text()
	if _, err := Parse(text); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "ron1_", text[5:], "RON1_" + text[5:], text + "=", text + "==", text + "\n", text[:20] + "\r\n" + text[20:],
		" " + text, text + " ", text + "A", strings.Replace(text, "_", "/", 2), "ron1_" + strings.Repeat("A", 6000), "ron2_" + text[5:],
	} {
		if _, err := Parse(bad); macronode.KindOf(err) != macronode.TokenMalformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	tok := mint(t)
	key := NewKey(testKey(1))
	for _, s := range []string{
		fmt.Sprint(tok), fmt.Sprintf("%v %+v %#v %s", tok, tok, tok, tok), tok.Describe(),
		fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s", key, key, key, key),
	} {
		if strings.Contains(s, tok.Text()[30:]) || strings.Contains(s, fmt.Sprint(key.k[0])) || strings.Contains(s, fmt.Sprintf("%#x", key.k[0])) ||
			strings.Contains(s, fmt.Sprint(tok.tag[0])) {
			t.Errorf("shown: %s", s)
		}
	}
}

func TestCoversIsMatchResource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := macronode.Resource{
			Kind: macronode.ResourceKind(rapid.IntRange(0, int(macronode.FacetResource)).Draw(t, "kind")),
			ID:   rapid.StringMatching(`[a-c/]{0,6}`).Draw(t, "id"),
		}
		pattern := rapid.OneOf(
			rapid.StringMatching(`(object|obj|name|node|topic)?/?[a-c/]{0,6}\*?`),
			rapid.Custom(func(t *rapid.T) string {
				s := r.String()
				return s[:rapid.IntRange(0, len(s)).Draw(t, "cut")] + rapid.SampledFrom([]string{"", "*", "/", "/*"}).Draw(t, "end")
			})).Draw(t, "pattern")
		if got, want := covers(pattern, r), macronode.MatchResource(pattern, r.String()); got != want {
			t.Fatalf("covers(%q, %q) = %v, want %v", pattern, r, got, want)
		}
	})
}
