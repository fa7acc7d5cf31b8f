// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

var shared = &[32]byte{0x33}

// withParty is a token that needs n discharges, and these, not bound yet.
func withParty(t testing.TB, n int, own ...capability.Caveat) (tok *capability.Token, ds []*capability.Token) {
	t.Helper()
	tok = mint(t, keyOne, alice, "v1")
	var err error
	for range n {
		if tok, err = tok.AddThirdParty("https://third.example/", "shared-1", shared); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range tok.Tickets() {
		o, err := k.Open(shared)
		if err != nil {
			t.Fatal(err)
		}
		d, err := o.Discharge(own...)
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	return tok, ds
}

func bind(t testing.TB, tok *capability.Token, ds ...*capability.Token) (out []*capability.Token) {
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

// calls is a call with discharges on each wire.
func calls(tok *capability.Token, ds ...*capability.Token) map[string]*macronode.Call {
	h, o := call(tok), call(tok)
	o.Wire, o.Token = macronode.WireOAP, tok.CBOR()
	for _, d := range ds {
		h.Discharges = append(h.Discharges, d.Text())
		o.Token = append(o.Token, d.CBOR()...)
	}
	return map[string]*macronode.Call{"http": h, "oap": o}
}

func TestDischarges(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok, free := withParty(t, 2, capability.ExpiresAt(1_000_500), capability.OnActions("object:get"))
	good := bind(t, tok, free...)
	try := func(name string, want macronode.Kind, ds ...*capability.Token) {
		t.Helper()
		for wire, c := range calls(tok, ds...) {
			for range 2 { // cold, and warm where it was cached
				_, _, err := w.try(a, c)
				if want == 0 && err != nil || want != 0 && (err == nil || macronode.KindOf(err) != want) {
					t.Errorf("%s, %s: %v, want %v", name, wire, err, want)
				}
			}
		}
	}
	try("both", 0, good...)
	try("the other way round", 0, good[1], good[0])
	// The token is known by now; its discharges still count.
	try("none", macronode.TokenDischarge)
	try("one", macronode.TokenDischarge, good[0])
	try("one twice", macronode.TokenDischarge, good[0], good[0])
	try("three", macronode.TokenDischarge, good[0], good[1], good[1])
	try("not bound", macronode.TokenDischarge, good[0], free[1])
	try("too many", macronode.TokenDischarge, slices.Repeat(good, 9)...)
	put := *binding
	put.Action = "object:put"
	_, _, err := a.Authenticate(context.Background(), calls(tok, good...)["http"], &put, resource)
	wantKind(t, err, macronode.CaveatDenied)
	w.now = w.now.Add(600e9)
	try("expired", macronode.TokenExpired, good...)
	w.revoke(good[1].LeafID())
	try("a revoked discharge", macronode.TokenRevoked, good...)
}

// What a discharge looks like is not read before the token has verified.
func TestBadDischarges(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok, free := withParty(t, 1)
	forged, err := mint(t, keyTwo, alice, "v1").AddThirdParty("l", "shared-1", shared)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		tok  *capability.Token
		text string
		want macronode.Kind
	}{
		{"garbage", tok, "ron1_AAAA", macronode.TokenMalformed},
		{"padded", tok, bind(t, tok, free[0])[0].Text() + "=", macronode.TokenMalformed},
		{"huge", tok, strings.Repeat("A", 1<<20), macronode.TokenMalformed},
		{"garbage with a forged token", forged, "ron1_AAAA", macronode.TokenForged},
		{"garbage with a token that needs none", mint(t, keyOne, alice, "v1"), "ron1_AAAA", macronode.TokenDischarge},
	} {
		x := call(c.tok)
		x.Discharges = []string{c.text}
		_, _, err := w.try(a, x)
		if macronode.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	for name, tail := range map[string][]byte{
		"half a token": tok.CBOR()[:20], "a number": {1}, "an open array": {0x9f}, "deep": bytes.Repeat([]byte{0x81}, 40),
		"much": bytes.Repeat(tok.CBOR(), 60), "a long one": append([]byte{0x59, 0xff, 0xff}, make([]byte, 65535)...),
	} {
		x := call(tok)
		x.Wire, x.Token = macronode.WireOAP, append(tok.CBOR(), tail...)
		_, _, err := w.try(a, x)
		if k := macronode.KindOf(err); err == nil || k != macronode.TokenMalformed && !(name == "much" && k == macronode.TokenDischarge) {
			t.Errorf("%s behind the token: %v", name, err)
		}
	}
	if a.cache.len() != 0 || a.known.Len() != 0 {
		t.Error("what was refused is remembered")
	}
}

// A tenant gets its first key without a change of the keys' generation. What
// verified with the stand-in before that, a key that everyone knows, must not be
// remembered.
func TestDecoyIsNotRemembered(t *testing.T) {
	w := newWorld()
	a := w.start()
	forged := mint(t, capability.DerivedKey(&[32]byte{}), alice, "v2")
	_, _, err := w.try(a, call(forged))
	wantKind(t, err, macronode.TokenForged)
	w.keys["v2"] = keyTwo
	_, _, err = w.try(a, call(forged))
	wantKind(t, err, macronode.TokenForged)
	narrow, err := forged.Attenuate(capability.AtMostBytes(1))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.try(a, call(narrow))
	wantKind(t, err, macronode.TokenForged)
}

// A known chain is known under its keys and its tenant alone: what is narrowed
// from it is refused from the moment on in which its id is revoked, its tenant is
// suspended or gone, or its key leaves.
func TestNarrowedFromKnown(t *testing.T) {
	base := mint(t, keyOne, alice, "v1", capability.OnActions("object:*"))
	fresh := int64(0)
	for name, c := range map[string]struct {
		change func(*world)
		want   macronode.Kind
	}{
		"nothing": {func(*world) {}, 0},
		"revoked": {func(w *world) { w.revoke(base.LeafID()) }, macronode.TokenRevoked},
		"key revoked": {func(w *world) {
			w.deadKeys = map[string]bool{"v1": true}
			w.revGen.Add(1)
		}, macronode.TokenRevoked},
		"suspended": {func(w *world) { w.tenants[alice] = &macronode.Tenant{ID: alice, Suspended: true} }, macronode.TenantSuspended},
		"gone":      {func(w *world) { delete(w.tenants, alice) }, macronode.TokenForged},
		"rotated": {func(w *world) {
			w.keys = map[string]*capability.Key{"v2": keyTwo}
			w.keyGen.Add(1)
		}, macronode.TokenForged},
	} {
		w := newWorld()
		a := w.start()
		narrow := func() error {
			fresh++
			tok, err := base.Attenuate(capability.AtMostBytes(1<<40 + fresh))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = w.try(a, call(tok))
			return err
		}
		if err := narrow(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.try(a, call(base)); err != nil {
			t.Fatal(err)
		}
		c.change(w)
		if _, _, err := w.try(a, call(base)); c.want == 0 && err != nil || c.want != 0 && macronode.KindOf(err) != c.want {
			t.Errorf("%s, itself and warm: %v, want %v", name, err, c.want)
		}
		for range 2 {
			if err := narrow(); c.want == 0 && err != nil || c.want != 0 && macronode.KindOf(err) != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
}

func TestWarmWithDischargesMakesNothing(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok, free := withParty(t, 2)
	c := calls(tok, bind(t, tok, free...)...)["http"]
	if _, _, err := w.try(a, c); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = w.try(a, c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzOAPSequence(f *testing.F) {
	w := newWorld()
	a := w.start()
	tok, free := withParty(f, 1)
	good := calls(tok, bind(f, tok, free...)...)["oap"].Token
	f.Add(good)
	f.Add(tok.CBOR())
	f.Fuzz(func(t *testing.T, seq []byte) {
		c := call(nil)
		c.Wire, c.Token = macronode.WireOAP, seq
		w.now = w.now.Add(1e9) // or the address is flooding soon
		if _, _, err := w.try(a, c); len(seq) > 0 && (err == nil) != bytes.Equal(seq, good) && bytes.HasPrefix(seq, tok.CBOR()) {
			t.Fatal(err)
		}
	})
}
