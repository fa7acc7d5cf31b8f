// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// rawToken writes a token of any parts, right or wrong.
type rawToken struct {
	head, version, tenant, kid, nonce, caveats, tag, tail []byte
}

func goodParts() rawToken {
	return rawToken{
		head: []byte{0x86}, version: []byte{1}, tenant: appendBytes(nil, testTenant[:]), kid: appendText(nil, "v1"),
		nonce: appendBytes(nil, testNonce[:]), caveats: []byte{0x80}, tag: appendBytes(nil, make([]byte, 32)),
	}
}

func (p rawToken) text() string {
	var b []byte
	for _, part := range [][]byte{p.head, p.version, p.tenant, p.kid, p.nonce, p.caveats, p.tag, p.tail} {
		b = append(b, part...)
	}
	return TextPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// oneCaveat is a token with the one caveat given in hex.
func oneCaveat(t testing.TB, enc string) string {
	p := goodParts()
	p.caveats = append([]byte{0x81}, unhex(t, enc)...)
	return p.text()
}

func withParts(change func(*rawToken)) string {
	p := goodParts()
	change(&p)
	return p.text()
}

func badVectors(t testing.TB) (out []badVector) {
	key := hex.EncodeToString(testKey(1)[:])
	decode := func(name, token string) {
		_, err := Parse(token)
		if err == nil {
			t.Fatalf("%s: it is accepted", name)
		}
		e := macronode.AsError(err)
		out = append(out, badVector{name, "", token, "decode", e.Kind.String(), e.Detail})
	}
	verify := func(name, reason, token string) {
		tok, err := Parse(token)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err = tok.Verify(NewKey(testKey(1))); err == nil {
			t.Fatalf("%s: it is accepted", name)
		}
		out = append(out, badVector{name, key, token, "verify", macronode.KindOf(err).String(), reason})
	}
	badTexts(t, decode)
	badParts(decode)
	badCaveats(t, decode)
	badChains(t, verify)
	return out
}

func badTexts(t testing.TB, decode func(name, token string)) {
	good := mint(t, AtMostBytes(1)).Text()
	decode("empty", "")
	decode("prefix alone", TextPrefix)
	decode("no prefix", good[len(TextPrefix):])
	decode("prefix in upper case", "RON1_"+good[len(TextPrefix):])
	decode("padding", good+"=")
	decode("a line break at the end", good+"\n")
	decode("a line break inside", good[:20]+"\r\n"+good[20:])
	decode("a space", good+" ")
	decode("the other base64 alphabet", TextPrefix+"//"+good[len(TextPrefix)+2:])
	// 74 bytes leave two for the last three characters: two bits are beyond them.
	text := goodParts().text()
	twins := 0
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		bent := text[:len(text)-1] + string(c)
		a, err := base64.RawURLEncoding.DecodeString(bent[len(TextPrefix):])
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := base64.RawURLEncoding.DecodeString(text[len(TextPrefix):]); string(a) == string(b) && bent != text {
			twins++
			decode("bits beyond the last byte", bent)
		}
	}
	if twins != 3 {
		t.Fatalf("%d other texts of the same bytes", twins)
	}
	decode("text too long", TextPrefix+strings.Repeat("A", MaxTextBytes))
}

func badParts(decode func(name, token string)) {
	for _, tc := range []struct {
		name   string
		change func(*rawToken)
	}{
		{"five members", func(p *rawToken) { p.head, p.tag = []byte{0x85}, nil }},
		{"seven members", func(p *rawToken) { p.head, p.tail = []byte{0x87}, []byte{0} }},
		{"an array of open length", func(p *rawToken) { p.head, p.tail = []byte{0x9f}, []byte{0xff} }},
		{"array head not the shortest", func(p *rawToken) { p.head = []byte{0x98, 6} }},
		{"not an array", func(p *rawToken) { p.head = []byte{0xa3} }},
		{"a tag around it", func(p *rawToken) { p.head = []byte{0xd9, 0xd9, 0xf7, 0x86} }},
		{"version 2", func(p *rawToken) { p.version = []byte{2} }},
		{"version not the shortest", func(p *rawToken) { p.version = []byte{0x18, 1} }},
		{"version as a float", func(p *rawToken) { p.version = []byte{0xf9, 0x3c, 0} }},
		{"a tenant of 15 bytes", func(p *rawToken) { p.tenant = appendBytes(nil, make([]byte, 15)) }},
		{"a tenant as text", func(p *rawToken) { p.tenant = appendText(nil, strings.Repeat("t", 16)) }},
		{"an empty kid", func(p *rawToken) { p.kid = []byte{0x60} }},
		{"a kid of 65", func(p *rawToken) { p.kid = appendText(nil, strings.Repeat("k", 65)) }},
		{"a kid in upper case", func(p *rawToken) { p.kid = appendText(nil, "V1") }},
		{"a kid as bytes", func(p *rawToken) { p.kid = appendBytes(nil, []byte("v1")) }},
		{"a nonce of 17 bytes", func(p *rawToken) { p.nonce = appendBytes(nil, make([]byte, 17)) }},
		{"caveats as a map", func(p *rawToken) { p.caveats = []byte{0xa0} }},
		{"65 caveats", func(p *rawToken) { p.caveats = append([]byte{0x98, 65}, strings.Repeat("\x82\x09\xf5", 65)...) }},
		{"2^64-1 caveats announced", func(p *rawToken) { p.caveats = []byte{0x9b, 255, 255, 255, 255, 255, 255, 255, 255} }},
		{"caveats of open length", func(p *rawToken) { p.caveats = []byte{0x9f, 0xff} }},
		{"one caveat announced, none there", func(p *rawToken) { p.caveats = []byte{0x81} }},
		{"a tag of 31 bytes", func(p *rawToken) { p.tag = appendBytes(nil, make([]byte, 31)) }},
		{"a tag cut off", func(p *rawToken) { p.tag = p.tag[:20] }},
		{"a tag of 2^63 bytes announced", func(p *rawToken) { p.tag = []byte{0x5b, 0x80, 0, 0, 0, 0, 0, 0, 0} }},
		{"bytes after the end", func(p *rawToken) { p.tail = []byte{0} }},
		{"4097 bytes", func(p *rawToken) {
			fill := 4097 - (len(p.text())-len(TextPrefix))*6/8 - 5 // a head of two, a type, a text head of three, less the old array's
			p.caveats = appendText([]byte{0x81, 0x82, 3}, strings.Repeat("x", fill))
		}},
	} {
		decode(tc.name, withParts(tc.change))
	}
}

func badCaveats(t testing.TB, decode func(name, token string)) {
	for _, tc := range []struct{ name, enc string }{
		{"a caveat of one member", "8101"},
		{"a caveat of three members", "83010101"},
		{"a caveat as a map", "a10101"},
		{"a negative caveat type", "822001"},
		{"a caveat type not the shortest", "82180101"},
		{"exp as text", "82016131"},
		{"exp negative", "820120"},
		{"exp not the shortest", "82011900ff"},
		{"exp as a float", "8201fb41d954fc40000000"},
		{"exp as a big number", "8201c24101"},
		{"aud as bytes", "82034161"},
		{"aud not UTF-8", "820361ff"},
		{"aud of open length", "82037f6161ff"},
		{"actions as text", "82046161"},
		{"actions with a number", "82048101"},
		{"actions longer than the token", "82049a7fffffff6161"},
		{"a network with host bits", "8206816a" + hex.EncodeToString([]byte("10.0.0.1/8"))},
		{"a network without length", "82068168" + hex.EncodeToString([]byte("10.0.0.0"))},
		{"a network with a zone", "8206816c" + hex.EncodeToString([]byte("fe80::%e1/10"))},
		{"2^32-1 networks announced", "82069affffffff"},
		{"max_bytes true", "8207f5"},
		{"rate of one", "82088101"},
		{"rate of three", "820883010101"},
		{"rate negative", "8208822001"},
		{"amnesia false", "8209f4"},
		{"amnesia 1", "820901"},
		{"a policy digest of 31 bytes", "820a581f" + strings.Repeat("00", 31)},
		{"a client certificate as text", "820b7820" + strings.Repeat("61", 32)},
		{"a third-party caveat of three", "8218408360604140"},
		{"a discharge binding of 16 bytes", "82184150" + strings.Repeat("00", 16)},
		{"unknown type, tagged value", "82190400c100"},
		{"unknown type, half float", "82190400f90000"},
		{"unknown type, undefined", "82190400f7"},
		{"unknown type, simple value 32", "82190400f820"},
		{"unknown type, map keys out of order", "82190400a202000100"},
		{"unknown type, map key twice", "82190400a201000100"},
		{"unknown type, map keys sorted by length of value", "82190400a2616100186400"},
		{"unknown type, length not the shortest", "821904005801ff"},
		{"unknown type, text not UTF-8", "8219040062c328"},
		{"unknown type, a surrogate in UTF-8", "8219040063eda080"},
		{"unknown type, nested too deep", "82190400" + strings.Repeat("81", 9) + "00"},
		{"unknown type, a break", "82190400ff"},
	} {
		decode(tc.name, oneCaveat(t, tc.enc))
	}
}

func badChains(t testing.TB, verify func(name, reason, token string)) {
	tok := mint(t, OnActions("object:get"), AtMostBytes(10), ExpiresAt(1_800_000_000))
	cs := tok.Caveats()
	chain := func(cs ...Caveat) string {
		forged, err := assemble([]byte(tok.raw[:tok.rootEnd]), tok.tag, cs, nil)
		if err != nil {
			t.Fatal(err)
		}
		return forged.Text()
	}
	verify("the last caveat dropped", "the tag covers it", chain(cs[0], cs[1]))
	verify("the first caveat dropped", "the tag covers it", chain(cs[1], cs[2]))
	verify("caveats exchanged", "the tag covers their order", chain(cs[1], cs[0], cs[2]))
	verify("a caveat widened", "the tag covers its value", chain(cs[0], AtMostBytes(11), cs[2]))
	verify("a caveat added, the tag kept", "each caveat has its own tag", chain(append(cs, InAmnesia())...))
	verify("all caveats dropped", "the tag covers them", chain())
	verify("a tag of zeros", "it is no tag", goodParts().text())

	mintOther := func(key byte, tenant macronode.TenantID, kid string) string {
		other, err := Mint(NewKey(testKey(key)), tenant, kid, testNonce)
		if err != nil {
			t.Fatal(err)
		}
		return other.Text()
	}
	verify("another minting key", "mint_key is not the key", mintOther(2, testTenant, "v1"))
	swap := func(change func(*rawToken)) string {
		p := goodParts()
		tag := mint(t).tag.bytes()
		p.tag = appendBytes(nil, tag[:])
		change(&p)
		return p.text()
	}
	verify("the tenant exchanged", "the tag covers it", swap(func(p *rawToken) { p.tenant[5] ^= 1 }))
	verify("the kid exchanged", "the tag covers it", swap(func(p *rawToken) { p.kid = appendText(nil, "v2") }))
	verify("the nonce exchanged", "the tag covers it", swap(func(p *rawToken) { p.nonce[5] ^= 1 }))
	verify("the tag's first bit", "every bit counts", swap(func(p *rawToken) { p.tag[2] ^= 0x80 }))
	verify("the tag's last bit", "every bit counts", swap(func(p *rawToken) { p.tag[33] ^= 1 }))
	verify("a third-party caveat without a discharge", "the chain is good, the discharge is missing", mint(t, thirdPartyCaveat()).Text())
	verify("a third-party caveat under another key", "forged comes before discharge", swap(func(p *rawToken) {
		p.caveats = append([]byte{0x81}, thirdPartyCaveat().enc...)
	}))
}
