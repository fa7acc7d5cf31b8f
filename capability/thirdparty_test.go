// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

var shared = testKey(0x30)

// partied is a token with a third-party caveat, behind have.
func partied(t testing.TB, have []Caveat, ask ...Caveat) *Token {
	t.Helper()
	tok, err := mint(t, have...).AddThirdParty("https://third.example/", "shared-1", shared, ask...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// discharges makes an unbound discharge of each of tok's tickets.
func discharges(t testing.TB, tok *Token, own ...Caveat) (out []*Token) {
	t.Helper()
	for _, k := range tok.Tickets() {
		o, err := k.Open(shared)
		if err != nil {
			t.Fatal(err)
		}
		d, err := o.Discharge(own...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// bound is the discharges bound to tok.
func bound(t testing.TB, tok *Token, ds ...*Token) (out []*Token) {
	t.Helper()
	for _, d := range ds {
		b, err := tok.Bind(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func wantDischarge(t testing.TB, err error, why string) {
	t.Helper()
	if e := (*macronode.Error)(nil); !errors.As(err, &e) || e.Kind != macronode.TokenDischarge || e.Detail != why {
		t.Errorf("got %v, want discharge: %s", err, why)
	}
}

const (
	isMissing   = "a discharge is missing"
	isForged    = "a discharge does not verify"
	isUnbound   = "a discharge is not bound to the token"
	isElsewhere = "a discharge is bound to another token"
	isUseless   = "a discharge belongs to none of the token's third-party caveats, or came twice"
	isNested    = "a discharge has a third party of its own or is bound twice"
	isKeyless   = "the third-party caveat holds no key for its discharge"
)

func TestDischarge(t *testing.T) {
	key := NewKey(testKey(1))
	tok := partied(t, []Caveat{AtMostBytes(500), ExpiresAt(1_500_000)}, OnActions("object:*"), Other(1024, []byte{1}))
	ks := tok.Tickets()
	if len(ks) != 1 || ks[0].Location != "https://third.example/" || ks[0].KeyID != "shared-1" || ks[0].Tenant != testTenant {
		t.Fatalf("tickets: %d", len(ks))
	}
	k, err := ParseTicket(ks[0].Text())
	if err != nil || k.Tenant != testTenant || k.KeyID != "shared-1" || !bytes.Equal(k.Sealed, ks[0].Sealed) {
		t.Fatalf("a ticket's text reads as another: %v", err)
	}
	o, err := k.Open(shared)
	if err != nil {
		t.Fatal(err)
	}
	if ask := o.Ask(); len(ask) != 2 || ask[0].List()[0] != "object:*" || ask[1].Type() != 1024 {
		t.Fatalf("asked: %v", ask)
	}
	d, err := o.Discharge(AtMostBytes(100), ExpiresAt(1_400_000), AtRate(1, 2), OnActions("object:get"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Bound() {
		t.Error("a new discharge says that it is bound")
	}
	b := bound(t, tok, d)[0]
	if !b.Bound() {
		t.Error("a bound discharge does not say so")
	}
	v, err := tok.Verify(key, b)
	if err != nil {
		t.Fatal(err)
	}
	if v.MaxBytes != 100 || v.Expires != 1_400_000 || len(v.Rates) != 1 {
		t.Errorf("the discharge's limits: %d bytes, %d, %d rates", v.MaxBytes, v.Expires, len(v.Rates))
	}
	if n := len(v.Discharged); n != 6 || v.Discharged[n-1] != b.LeafID() || v.Discharged[n-2] != d.LeafID() {
		t.Errorf("%d ids of the discharge", n)
	}
	a := access()
	if err := v.Check(&a); err != nil {
		t.Error(err)
	}
	a.Action = "object:put"
	if err := v.Check(&a); macronode.KindOf(err) != macronode.CaveatDenied {
		t.Errorf("a discharge's caveat: %v", err)
	}
	a.Now = 1_450_000
	if err := v.Check(&a); macronode.KindOf(err) != macronode.TokenExpired {
		t.Errorf("a discharge's end, which goes before what it covers: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { a := access(); _ = v.Check(&a) }); n != 0 {
		t.Errorf("Check makes %v allocations", n)
	}
}

func TestDischargeRefused(t *testing.T) {
	key := NewKey(testKey(1))
	tok := partied(t, nil)
	d := discharges(t, tok)[0]
	good := bound(t, tok, d)[0]
	narrow, err := tok.Attenuate(ExpiresAt(9))
	if err != nil {
		t.Fatal(err)
	}
	attenuated, err := good.Attenuate(ExpiresAt(9))
	if err != nil {
		t.Fatal(err)
	}
	add := func(d *Token, cs ...Caveat) *Token {
		t.Helper()
		d, err := d.Attenuate(cs...)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	hash := func(h [32]byte) Caveat { return Other(Discharge, appendBytes(nil, h[:])) }
	forged := good.CBOR()
	forged[len(forged)-1] ^= 1
	broken, err := Decode(forged)
	if err != nil {
		t.Fatal(err)
	}
	var fromR, other [32]byte
	fromR[0] = 1
	other[0] = 2
	invented, err := Mint(DerivedKey(&fromR), testTenant, d.kid, d.nonce)
	if err != nil {
		t.Fatal(err)
	}
	bindTo := func(d *Token) *Token { return add(d, hash(binding(&tok.tag, &d.tag))) }
	elsewhere, err := Mint(DerivedKey(&fromR), macronode.TenantID{9}, d.kid, d.nonce)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		tok  *Token
		ds   []*Token
		why  string
	}{
		{"none", tok, nil, isMissing},
		{"not bound", tok, []*Token{d}, isUnbound},
		{"narrowed after it was bound", tok, []*Token{attenuated}, isUnbound},
		{"the token was narrowed after the binding", narrow, []*Token{good}, isElsewhere},
		{"bound to the narrowed token", tok, bound(t, narrow, d), isElsewhere},
		{"bound to nothing", tok, []*Token{add(d, hash(other))}, isElsewhere},
		{"bound twice", tok, []*Token{bindTo(good)}, isNested},
		{"forged", tok, []*Token{broken}, isForged},
		{"of another key", tok, []*Token{bindTo(invented)}, isForged},
		{"of another tenant", tok, []*Token{bindTo(elsewhere)}, isMissing},
		{"twice", tok, []*Token{good, good}, isUseless},
		{"for a token that needs none", mint(t), []*Token{good}, isUseless},
		{"with a third party of its own", tok, []*Token{bindTo(add(d, thirdPartyCaveat()))}, isNested},
		{"without a key", mint(t, thirdPartyCaveat()), []*Token{bindToFake(t, thirdPartyCaveat())}, isKeyless},
		{"too many", tok, slices.Repeat([]*Token{good}, MaxDischarges+1), "there are too many discharges"},
		{"too many caveats", tok, slices.Repeat([]*Token{add(d, repeat(InAmnesia(), 64)...)}, 3), "the discharges have too many caveats"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.tok.Verify(key, c.ds...)
			wantDischarge(t, err, c.why)
		})
	}
	if _, err := tok.Verify(NewKey(testKey(2)), good); macronode.KindOf(err) != macronode.TokenForged {
		t.Errorf("a forged token with a good discharge: %v", err)
	}
	if _, err := tok.Verify(key, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// bindToFake is a token that seems to discharge c.
func bindToFake(t testing.TB, c Caveat) *Token {
	t.Helper()
	p := c.party()
	d, err := Mint(DerivedKey(testKey(3)), testTenant, p.keyID, ticketNonce(p.ticket), Other(Discharge, appendBytes(nil, make([]byte, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestThirdPartyMistakes(t *testing.T) {
	tok := mint(t)
	for name, err := range map[string]error{
		"no location": second(tok.AddThirdParty("", "k", shared)),
		"no key id":   second(tok.AddThirdParty("l", "", shared)),
		"key id":      second(tok.AddThirdParty("l", "K", shared)),
		"bad caveat":  second(tok.AddThirdParty("l", "k", shared, AtMostBytes(-1))),
		"too many":    second(tok.AddThirdParty("l", "k", shared, repeat(InAmnesia(), 65)...)),
		"too long":    second(tok.AddThirdParty(strings.Repeat("l", MaxTokenBytes), "k", shared)),
		"bind": func() error {
			_, err := tok.Bind(discharges(t, partied(t, nil))[0])
			return err
		}(),
		"bind twice": func() error {
			p := partied(t, nil)
			_, err := p.Bind(bound(t, p, discharges(t, p)...)[0])
			return err
		}(),
		"bind another's": func() error {
			_, err := partied(t, nil).Bind(discharges(t, partied(t, nil))[0])
			return err
		}(),
	} {
		if macronode.KindOf(err) != macronode.TokenMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := partied(t, nil).Tickets()[0]
	if _, err := k.Open(testKey(1)); macronode.KindOf(err) != macronode.TokenForged {
		t.Errorf("another's key: %v", err)
	}
	for i := range k.Sealed {
		k.Sealed[i] ^= 0x10
		if _, err := k.Open(shared); macronode.KindOf(err) != macronode.TokenForged {
			t.Fatalf("byte %d of a ticket changed: %v", i, err)
		}
		k.Sealed[i] ^= 0x10
	}
	o, err := k.Open(shared)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Caveat{thirdPartyCaveat(), Other(Discharge, appendBytes(nil, make([]byte, 32)))} {
		if _, err := o.Discharge(c); macronode.KindOf(err) != macronode.TokenMalformed {
			t.Errorf("a discharge with %v: %v", c.Type(), err)
		}
	}
	if s := fmt.Sprintf("%v %#v %s", o, o, o); strings.Contains(s, fmt.Sprintf("%x", o.r[:4])) || !strings.Contains(s, "shared-1") {
		t.Errorf("an opened ticket prints as %s", s)
	}
	for _, text := range []string{"", "::", k.Text() + "=", k.Text() + ":", "x:" + k.Text(), strings.Replace(k.Text(), ":shared-1:", ":Shared:", 1), k.Text() + "\n",
		k.Text() + strings.Repeat("A", 2*MaxTextBytes)} {
		if _, err := ParseTicket(text); macronode.KindOf(err) != macronode.TokenMalformed {
			t.Errorf("a ticket's text of %d bytes: %v", len(text), err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Dropping, exchanging, repeating and re-binding discharges, and narrowing the
// token after the binding, are refused; in any order the right ones are taken.
func TestDischargeProperties(t *testing.T) {
	key := NewKey(testKey(1))
	rapid.Check(t, func(rt *rapid.T) {
		make1 := func(label string) *Token {
			tok := mint(t, rapid.SliceOfN(genCaveat(), 0, 2).Draw(rt, label)...)
			for range rapid.IntRange(1, 4).Draw(rt, label+" parties") {
				var err error
				if tok, err = tok.AddThirdParty("l", "shared-1", shared); err != nil {
					rt.Fatal(err)
				}
				if tok, err = tok.Attenuate(rapid.SliceOfN(genCaveat(), 0, 1).Draw(rt, label+" more")...); err != nil {
					rt.Fatal(err)
				}
			}
			return tok
		}
		tok, other := make1("one"), make1("other")
		free := discharges(t, tok, rapid.SliceOfN(genCaveat(), 0, 2).Draw(rt, "own")...)
		good := bound(t, tok, free...)
		shuffled := rapid.Permutation(good).Draw(rt, "order")
		v, err := tok.Verify(key, shuffled...)
		if err != nil {
			rt.Fatalf("the right discharges: %v", err)
		}
		plain := mint(t)
		base, err := plain.Verify(key)
		if err != nil {
			rt.Fatal(err)
		}
		for range 4 {
			a := genAccess().Draw(rt, "access")
			if v.Check(&a) == nil && base.Check(&a) != nil {
				rt.Fatal("a discharge widened")
			}
		}
		i := rapid.IntRange(0, len(good)-1).Draw(rt, "i")
		refused := func(what string, tok *Token, ds []*Token) {
			rt.Helper()
			if _, err := tok.Verify(key, ds...); macronode.KindOf(err) != macronode.TokenDischarge {
				rt.Fatalf("%s: %v", what, err)
			}
		}
		refused("dropped", tok, slices.Delete(slices.Clone(shuffled), i, i+1))
		refused("repeated", tok, append(slices.Clone(shuffled), good[i]))
		foreign := bound(t, other, discharges(t, other)...)
		refused("another token's", tok, slices.Replace(slices.Clone(good), i, i+1, foreign[0]))
		refused("one too many", tok, append(slices.Clone(good), foreign[0]))
		refused("cross", other, good)
		narrow, err := tok.Attenuate(genCaveat().Draw(rt, "narrow"))
		if err != nil {
			rt.Fatal(err)
		}
		refused("narrowed after the binding", narrow, good)
		if _, err := narrow.Verify(key, bound(t, narrow, free...)...); err != nil {
			rt.Fatalf("bound again: %v", err)
		}
		refused("not bound", tok, slices.Replace(slices.Clone(good), i, i+1, free[i]))
		raw := good[i].CBOR()
		at := rapid.IntRange(0, len(raw)*8-1).Draw(rt, "bit")
		raw[at/8] ^= 1 << (at % 8)
		if d, err := Decode(raw); err == nil {
			refused("a bit flipped", tok, slices.Replace(slices.Clone(good), i, i+1, d))
		}
	})
}

// A caveat copied to another token opens no discharge: its key is sealed under
// the tag that stood before it.
func TestThirdPartyCaveatIsNotPortable(t *testing.T) {
	key := NewKey(testKey(1))
	tok := partied(t, nil)
	for name, moved := range map[string]*Token{
		"behind another caveat": mint(t, AtMostBytes(1<<40), tok.caveats[0]),
		"twice":                 mint(t, tok.caveats[0], tok.caveats[0]),
	} {
		ds := bound(t, moved, discharges(t, tok)...)
		if name == "twice" {
			ds = append(ds, ds[0])
		}
		if _, err := moved.Verify(key, ds...); macronode.KindOf(err) != macronode.TokenDischarge {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzTicket(f *testing.F) {
	f.Add([]byte{}, partied(f, nil, OnActions("a:b")).Tickets()[0].Text())
	f.Add(appendHead(appendBytes([]byte{0x82}, make([]byte, 32)), majArray, 0), "")
	f.Add(appendBytes([]byte{0x82}, make([]byte, 32)), "x:y:z")
	f.Fuzz(func(t *testing.T, plain []byte, text string) {
		if k, err := ParseTicket(text); err == nil && k.Text() != text {
			t.Fatalf("%q is written %q", text, k.Text())
		}
		// What a holder of the shared key seals may be anything.
		sealed, err := seal(bytes.NewReader(make([]byte, sealNonce)), ticketContext, shared, plain)
		if err != nil {
			t.Fatal(err)
		}
		k := Ticket{Tenant: testTenant, KeyID: "k", Sealed: sealed}
		o, err := k.Open(shared)
		if err != nil {
			if macronode.KindOf(err) != macronode.TokenMalformed {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		if len(o.ask) > MaxCaveats {
			t.Fatal("too many caveats")
		}
		if !newOracle(t).canonical(plain) {
			t.Fatalf("not canonical: %x", plain)
		}
		if _, err := o.Discharge(); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever comes as a discharge, nothing but the right one is taken.
func FuzzDischarge(f *testing.F) {
	key := NewKey(testKey(1))
	tok, err := mint(f).addThirdParty(&counter{}, "l", "shared-1", shared, nil)
	if err != nil {
		f.Fatal(err)
	}
	good := bound(f, tok, discharges(f, tok, ExpiresAt(5))...)[0]
	f.Add(good.CBOR())
	f.Add(discharges(f, tok)[0].CBOR())
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Decode(raw)
		if err != nil {
			return
		}
		if _, err := tok.Verify(key, d); (err == nil) != bytes.Equal(raw, good.CBOR()) {
			t.Fatalf("verify: %v", err)
		}
	})
}
