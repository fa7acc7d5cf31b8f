// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// makeVectors builds what testdata/vectors.json holds.
func makeVectors(t testing.TB) vectors {
	v := vectors{Format: "macronode capability vectors 1"}
	for _, n := range []byte{0, 1, 0x80} {
		k := NewKey(testKey(n)).k.bytes()
		v.Keys = append(v.Keys, keyVector{hex.EncodeToString(testKey(n)[:]), hex.EncodeToString(k[:])})
	}
	v.Mint = mintVectors(t)
	v.Attenuate = addVectors(t)
	v.Check = checkVectors(t)
	v.Bad = badVectors(t)
	return v
}

func jsonHex(b []byte) any { return map[string]string{"hex": hex.EncodeToString(b)} }

// describe gives a caveat the form it has in the vectors.
func describe(c Caveat) caveatVector {
	v := caveatVector{Type: uint64(c.Type()), Name: c.Type().String(), CBOR: hex.EncodeToString(c.Encoded())}
	switch h := c.Hash(); c.Type() {
	case Exp, Nbf, MaxBytes:
		v.Value = c.Number()
	case Aud:
		v.Value = c.Text()
	case Rate:
		v.Value = []int64{c.Number(), c.Burst()}
	case Amnesia:
		v.Value = true
	case PolicyDigest, ClientCert, Discharge:
		v.Value = jsonHex(h[:])
	case ThirdParty:
		v.Value = []any{"https://third.example/", "shared-1", jsonHex(make([]byte, 72)), jsonHex(make([]byte, 60))}
	default:
		if l := c.List(); l != nil {
			v.Value = l
		} else {
			v.Value = "private"
		}
	}
	return v
}

func describeAll(cs []Caveat) []caveatVector {
	out := []caveatVector{}
	for _, c := range cs {
		out = append(out, describe(c))
	}
	return out
}

func thirdPartyCaveat() Caveat {
	b := appendText(appendText(appendHead(nil, majArray, 4), "https://third.example/"), "shared-1")
	return Other(ThirdParty, appendBytes(appendBytes(b, make([]byte, 72)), make([]byte, 60)))
}

func mintVectors(t testing.TB) (out []mintVector) {
	many := make([]Caveat, MaxCaveats)
	for i := range many {
		many[i] = AtMostBytes(int64(1) << (i / 2))
	}
	hash := [32]byte(*testKey(0x40))
	for _, tc := range []struct {
		name, kid string
		key       byte
		caveats   []Caveat
	}{
		{"no caveats", "v1", 0, nil},
		{"another key", "v1", 1, nil},
		{"a kid of 23", strings.Repeat("k", 23), 1, nil},
		{"a kid of 24", strings.Repeat("k", 24), 1, nil},
		{"a kid of 64", "a.b_c-" + strings.Repeat("9", 58), 1, nil},
		{"times", "v2", 1, []Caveat{NotBefore(1_700_000_000), ExpiresAt(1_800_000_000)}},
		{"integers at the border of each length", "v1", 1, []Caveat{
			AtMostBytes(0), AtMostBytes(23), AtMostBytes(24), AtMostBytes(255), AtMostBytes(256), AtMostBytes(65535),
			AtMostBytes(65536), AtMostBytes(1<<32 - 1), AtMostBytes(1 << 32), AtMostBytes(1<<53 - 1),
		}},
		{"audience", "v1", 1, []Caveat{ForNode("b3:" + strings.Repeat("0a", 32))}},
		{"what may be done", "v1", 1, []Caveat{
			OnActions("object:get", "object:put", "name:*"), OnResources("object/*", "name/docs.example"),
			ByMethods("GET", "PUT"), ConfinedTo("svc-storage", "ron-naming"),
		}},
		{"networks", "v1", 1, []Caveat{FromNets(prefix("10.0.0.0/8"), prefix("192.0.2.7/32"), prefix("2001:db8::/32"), prefix("::/0"))}},
		{"rate", "v1", 1, []Caveat{AtRate(10, 100), AtRate(0, 0)}},
		{"the node's state", "v1", 1, []Caveat{InAmnesia(), UnderPolicy(hash), WithClientCert(hash)}},
		{"a private type", "v1", 1, []Caveat{Other(1024, appendText(nil, "private"))}},
		{"third party and discharge", "v1", 1, []Caveat{thirdPartyCaveat(), Other(Discharge, appendBytes(nil, hash[:]))}},
		{"the most caveats", "v1", 1, many},
		{"a caveat of more than one BLAKE3 chunk", "v1", 1, []Caveat{ForNode(strings.Repeat("0123456789abcdef", 80))}},
		{"not ASCII", "v1", 1, []Caveat{OnResources("name/grün", "topic/仕事")}},
	} {
		// The chain is walked by the slow way, so that all tags can be shown.
		tok, err := Mint(NewKey(testKey(tc.key)), testTenant, tc.kid, testNonce, tc.caveats...)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		m := mintVector{
			Name: tc.name, MintKey: hex.EncodeToString(testKey(tc.key)[:]), Tenant: testTenant, KID: tc.kid,
			Nonce: hex.EncodeToString(testNonce[:]), Caveats: describeAll(tc.caveats),
			CBOR: hex.EncodeToString(tok.CBOR()), Token: tok.Text(),
		}
		tag := rootTag(NewKey(testKey(tc.key)), tok.raw[:tok.rootEnd])
		for i := 0; ; i++ {
			b := tag.bytes()
			m.Tags = append(m.Tags, hex.EncodeToString(b[:]))
			m.IDs = append(m.IDs, tag.id().String())
			if i == len(tc.caveats) {
				break
			}
			tag = tag.next(tc.caveats[i].enc)
		}
		if tc.name == "third party and discharge" {
			continue // it does not verify; it is among the bad ones
		}
		out = append(out, m)
	}
	return out
}

func addVectors(t testing.TB) (out []addVector) {
	for _, tc := range []struct {
		name      string
		have, add []Caveat
	}{
		{"nothing", []Caveat{ExpiresAt(9)}, nil},
		{"the first caveat", nil, []Caveat{ExpiresAt(1_800_000_000)}},
		{"two more", []Caveat{OnActions("object:*")}, []Caveat{OnActions("object:get"), AtMostBytes(1000)}},
		{"a wider one, which changes nothing", []Caveat{AtMostBytes(10)}, []Caveat{AtMostBytes(1000)}},
		{"a type that nobody knows", nil, []Caveat{Other(4242, appendText(nil, "private"))}},
		{"from 23 to 24, where the array's head grows", repeat(InAmnesia(), 23), []Caveat{InAmnesia()}},
	} {
		tok := mint(t, tc.have...)
		got, err := tok.Attenuate(tc.add...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, addVector{tc.name, tok.Text(), describeAll(tc.add), got.Text(), got.LeafID().String()})
	}
	return out
}

func repeat(c Caveat, n int) []Caveat {
	out := make([]Caveat, n)
	for i := range out {
		out[i] = c
	}
	return out
}

func checkVectors(t testing.TB) (out []checkCase) {
	base := accessVector{
		Now: 1_000_000, Node: "b3:node", Action: "object:get", Resource: "object/b3:abc", Method: "GET", Service: "svc-storage",
		IP: "192.0.2.7", ClientCert: "01" + strings.Repeat("00", 31), Policy: "02" + strings.Repeat("00", 31), Bytes: 100,
	}
	add := func(result string, change func(*accessVector), cs ...Caveat) {
		a := base
		if change != nil {
			change(&a)
		}
		names := []string{}
		for _, c := range cs {
			names = append(names, c.String())
		}
		name := fmt.Sprintf("%d: %s: %s", len(out), strings.Join(names, "; "), result)
		out = append(out, checkCase{name, hex.EncodeToString(testKey(1)[:]), mint(t, cs...).Text(), a, result})
	}
	add("allow", nil)
	add("allow", nil, ExpiresAt(1_000_000-59))
	add("expired", nil, ExpiresAt(1_000_000-60))
	add("allow", nil, number(Exp, 1<<64-1))
	add("allow", nil, NotBefore(1_000_000+60))
	add("not_yet_valid", nil, NotBefore(1_000_000+61))
	add("allow", nil, ForNode("b3:node"))
	add("audience", nil, ForNode("b3:other"))
	add("allow", nil, OnActions("object:*"))
	add("caveat", nil, OnActions("object:put", "object:ge"))
	add("caveat", nil, Other(Actions, []byte{0x80}))
	add("allow", nil, OnResources("object"))
	add("allow", nil, OnResources("object/b3:a*"))
	add("caveat", nil, OnResources("object/b3:a"))
	add("allow", func(a *accessVector) { a.Resource = "name/a/b" }, OnResources("name/a"))
	add("caveat", func(a *accessVector) { a.Resource = "name/ab" }, OnResources("name/a"))
	add("allow", nil, FromNets(prefix("192.0.2.0/24")))
	add("address", nil, FromNets(prefix("10.0.0.0/8")))
	add("address", func(a *accessVector) { a.IP = "" }, FromNets(prefix("0.0.0.0/0"), prefix("::/0")))
	add("allow", func(a *accessVector) { a.IP = "::ffff:192.0.2.7" }, FromNets(prefix("192.0.2.0/24")))
	add("allow", nil, AtMostBytes(100))
	add("too_large", nil, AtMostBytes(99))
	add("caveat", nil, InAmnesia())
	add("allow", func(a *accessVector) { a.Amnesia = true }, InAmnesia())
	add("allow", nil, UnderPolicy([32]byte{2}))
	add("caveat", nil, UnderPolicy([32]byte{3}))
	add("allow", nil, WithClientCert([32]byte{1}))
	add("client_cert", nil, WithClientCert([32]byte{3}))
	add("client_cert", func(a *accessVector) { a.ClientCert = "" }, WithClientCert([32]byte{1}))
	add("allow", nil, ByMethods("HEAD", "GET"))
	add("caveat", nil, ByMethods("PUT"))
	add("allow", nil, ConfinedTo("svc-storage"))
	add("caveat", nil, ConfinedTo("svc-mailbox"))
	add("caveat", nil, Other(14, []byte{0}))
	add("caveat", nil, Other(1024, appendText(nil, "private")))
	add("caveat", nil, Other(Discharge, appendBytes(nil, make([]byte, 32))))
	add("expired", nil, OnActions("name:*"), ExpiresAt(1)) // the token's own end wins over what it covers
	add("caveat", nil, OnActions("object:*"), OnActions("name:*"))
	return out
}
