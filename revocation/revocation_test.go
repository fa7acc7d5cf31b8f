// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/bundle"
)

type signer struct{ k *ecdsa.PrivateKey }

func newSigner(t testing.TB) signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{k}
}

func (s signer) KeyID() string           { return "node#v1/ecdsa-p256" }
func (s signer) Public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&s.k.PublicKey) }
func (s signer) Sign(m []byte) ([]byte, error) {
	sum := sha256.Sum256(m)
	return ecdsa.SignASN1(rand.Reader, s.k, sum[:])
}

func (s signer) id(t testing.TB) string {
	der, err := s.Public()
	if err != nil {
		t.Fatal(err)
	}
	return NodeID(der)
}

const tenant = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

func entries(n int) (out []Entry) {
	for i := range n {
		out = append(out, Entry{ID: fmt.Sprintf("%032x", i), RevokedMS: int64(i), By: "cap:x"})
	}
	return append(out, Entry{KID: "v1", Tenant: tenant, By: "cap:y"})
}

// signed is a page's envelope, as text.
func signed(t testing.TB, s Signer, p Page) []byte {
	t.Helper()
	e, err := Sign(&p, s)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestListVerifies(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	one := signed(t, s, Page{IssuedMS: 5, Cursor: "a", Entries: entries(2)})
	two := signed(t, s, Page{IssuedMS: 6, After: "a", Entries: entries(0)})
	list, err := Read(bytes.NewReader(append(bytes.Clone(one), two...)), s.id(t))
	if err != nil || len(list) != 2 || len(list[0].Entries) != 3 || list[1].Entries[0].KID != "v1" || list[0].IssuedMS != 5 {
		t.Fatalf("%d pages, %v", len(list), err)
	}
	join := func(pages ...[]byte) []byte { return bytes.Join(pages, nil) }
	scoped := signed(t, s, Page{After: "a", Scope: tenant, Entries: entries(0)})
	for name, c := range map[string]struct {
		text []byte
		node string
	}{
		"nothing":           {nil, s.id(t)},
		"no JSON":           {[]byte("{"), s.id(t)},
		"the end missing":   {one, s.id(t)},
		"the start missing": {two, s.id(t)},
		"twice":             {join(one, two, two), s.id(t)},
		"more than all":     {join(signed(t, s, Page{}), signed(t, s, Page{})), s.id(t)},
		"out of order":      {join(two, one), s.id(t)},
		"two scopes":        {join(one, scoped), s.id(t)},
		"another node":      {join(one, two), other.id(t)},
		"two nodes":         {join(one, signed(t, other, Page{After: "a"})), s.id(t)},
		"no envelope":       {[]byte(`{"payloadType":"x"}`), s.id(t)},
	} {
		if _, err := Read(bytes.NewReader(c.text), c.node); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPageIsHeldToItsForm(t *testing.T) {
	s := newSigner(t)
	for name, p := range map[string]Page{
		"too many":         {Entries: entries(MaxEntries)},
		"neither":          {Entries: []Entry{{}}},
		"both":             {Entries: []Entry{{ID: strings.Repeat("0", 32), KID: "v1", Tenant: tenant}}},
		"an id in capital": {Entries: []Entry{{ID: strings.Repeat("A", 32)}}},
		"a short id":       {Entries: []Entry{{ID: "00"}}},
		"a kid of nobody":  {Entries: []Entry{{KID: "v1"}}},
		"a tenant":         {Entries: []Entry{{ID: strings.Repeat("0", 32), Tenant: "x"}}},
		"a scope":          {Scope: "x"},
		"outside":          {Scope: tenant, Entries: []Entry{{ID: strings.Repeat("0", 32)}}},
		"a cursor":         {Cursor: strings.Repeat("x", 300)},
		"a time":           {Entries: []Entry{{ID: strings.Repeat("0", 32), RevokedMS: -1}}},
	} {
		if _, err := Sign(&p, s); err == nil {
			t.Errorf("%s is signed", name)
		}
	}
}

// resigned is an envelope of any payload with a good signature.
func resigned(t testing.TB, s signer, typ string, payload []byte) *bundle.Envelope {
	sig, err := s.Sign(bundle.PAE(typ, payload))
	if err != nil {
		t.Fatal(err)
	}
	return &bundle.Envelope{PayloadType: typ, Payload: payload, Signatures: []bundle.Signature{{KeyID: "x", Sig: sig}}}
}

func TestVerifyRefuses(t *testing.T) {
	s := newSigner(t)
	good, err := Sign(&Page{Entries: entries(1)}, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(good, s.id(t)); err != nil {
		t.Fatal(err)
	}
	// A key that is no P-256 key, under its own right id.
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	foreign := []byte(strings.Replace(string(good.Payload), s.id(t), NodeID(der), 1))
	changed := *good
	changed.Payload = bytes.Replace(good.Payload, []byte("cap:x"), []byte("cap:z"), 1)
	flipped := *good
	flipped.Signatures = []bundle.Signature{{KeyID: "x", Sig: append(bytes.Clone(good.Signatures[0].Sig[:8]), 9)}}
	for name, c := range map[string]struct {
		e  *bundle.Envelope
		id string
	}{
		"another type":      {resigned(t, s, bundle.PolicyType, good.Payload), s.id(t)},
		"changed":           {&changed, s.id(t)},
		"another signature": {&flipped, s.id(t)},
		"another id":        {good, NodeID(der)},
		"another key":       {resigned(t, s, Type, foreign), NodeID(der)},
		"not canonical":     {resigned(t, s, Type, append([]byte(" "), good.Payload...)), s.id(t)},
		"unknown members":   {resigned(t, s, Type, bytes.Replace(good.Payload, []byte(`{"format"`), []byte(`{"a":1,"format"`), 1)), s.id(t)},
		"another format":    {resigned(t, s, Type, bytes.Replace(good.Payload, []byte(`"format":1`), []byte(`"format":2`), 1)), s.id(t)},
		"no page":           {resigned(t, s, Type, []byte(`[]`)), s.id(t)},
	} {
		if _, err := Verify(c.e, c.id); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	s := newSigner(f)
	f.Add(signed(f, s, Page{Entries: entries(1)}))
	f.Add([]byte(`{"payloadType":"` + Type + `","payload":"e30=","signatures":[{"keyid":"a","sig":"AA=="}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := Read(bytes.NewReader(text), s.id(t)); err != nil && !errors.Is(err, ErrNotVerified) || err == nil && len(list) == 0 {
			t.Fatal(err)
		}
	})
}
