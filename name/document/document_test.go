// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// nodeKey signs as a node does.
type nodeKey struct{ *ecdsa.PrivateKey }

func newKey(t testing.TB) nodeKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return nodeKey{k}
}

func (k nodeKey) KeyID() string           { return "node#v1/ecdsa-p256" }
func (k nodeKey) Public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&k.PublicKey) }
func (k nodeKey) Sign(m []byte) ([]byte, error) {
	sum := sha256.Sum256(m)
	return ecdsa.SignASN1(rand.Reader, k.PrivateKey, sum[:])
}

func (k nodeKey) id(t testing.TB) string {
	pub, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	return bundle.NodeID(pub)
}

var tenant = macronode.TenantID{3: 7}.String()

func entry(n string) Entry {
	return Entry{Name: n, Addr: b3.Sum([]byte(n)), Version: 3, TTL: 60, Meta: map[string]string{"k": "<v>"}, CreatedMS: 1, UpdatedMS: 2}
}

func page(after, cursor string, names ...string) *Page {
	p := &Page{IssuedMS: 5, Tenant: tenant, Revision: 9, After: after, Cursor: cursor}
	for _, n := range names {
		p.Names = append(p.Names, entry(n))
	}
	return p
}

func signed(t testing.TB, k nodeKey, p *Page) []byte {
	t.Helper()
	e, err := Sign(p, k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRead(t *testing.T) {
	k := newKey(t)
	one, two, three := signed(t, k, page("", "c1", "a", "b")), signed(t, k, page("c1", "c2", "c", "straße")), signed(t, k, page("c2", ""))
	list, err := Read(bytes.NewReader(slices.Concat(one, two, three)), k.id(t))
	if err != nil || len(list) != 3 || list[1].Names[1].Name != "straße" || list[0].Names[0].Meta["k"] != "<v>" || list[0].Names[0].Addr != b3.Sum([]byte("a")) {
		t.Fatalf("%d pages, %v", len(list), err)
	}
	other := page("c1", "c2", "c")
	other.Tenant = macronode.TenantID{3: 8}.String()
	later := page("c1", "c2", "c")
	later.Revision = 10
	last := page("c2", "")
	last.Revision = 10
	for what, text := range map[string][]byte{
		"an end of another moment": slices.Concat(one, two, signed(t, k, last)), "nothing": nil, "no end": slices.Concat(one, two), "no beginning": slices.Concat(two, three), "a page left out": slices.Concat(one, three),
		"a page twice": slices.Concat(one, two, two, three), "another order": slices.Concat(two, one, three), "more after the end": slices.Concat(one, two, three, three),
		"another tenant's page": slices.Concat(one, signed(t, k, other), three), "a page of another moment": slices.Concat(one, signed(t, k, later), three),
		"a page of another node": slices.Concat(one, signed(t, newKey(t), page("c1", "c2", "c")), three), "names that begin again": slices.Concat(one, signed(t, k, page("c1", "c2", "b")), three),
		"no JSON": []byte("{"), "no envelope": []byte("{}"),
	} {
		if _, err := Read(bytes.NewReader(text), k.id(t)); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Read(bytes.NewReader(slices.Concat(one, two, three)), newKey(t).id(t)); !errors.Is(err, ErrNotVerified) {
		t.Errorf("by another node's id: %v", err)
	}
}

// TestForged: nothing of a page can be changed, whatever key it is signed with.
func TestForged(t *testing.T) {
	k := newKey(t)
	good, err := Sign(page("", "", "a", "b"), k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(good, k.id(t)); err != nil {
		t.Fatal(err)
	}
	resigned := func(payload []byte, by nodeKey) *bundle.Envelope {
		e, err := bundle.SignAsNode(Type, payload, by)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for what, e := range map[string]*bundle.Envelope{
		"another type":       {PayloadType: "application/json", Payload: good.Payload, Signatures: good.Signatures},
		"another payload":    {PayloadType: Type, Payload: bytes.Replace(good.Payload, []byte(`"version":3`), []byte(`"version":4`), 1), Signatures: good.Signatures},
		"another signer":     resigned(good.Payload, newKey(t)),
		"no signature":       {PayloadType: Type, Payload: good.Payload},
		"not canonical":      resigned(append([]byte(" "), good.Payload...), k),
		"a member too many":  resigned(bytes.Replace(good.Payload, []byte(`{"format"`), []byte(`{"extra":1,"format"`), 1), k),
		"no normal form":     resigned(bytes.Replace(good.Payload, []byte(`"name":"a"`), []byte(`"name":"A"`), 1), k),
		"not in order":       resigned(bytes.Replace(good.Payload, []byte(`"name":"a"`), []byte(`"name":"c"`), 1), k),
		"a version of 0":     resigned(bytes.Replace(good.Payload, []byte(`"version":3`), []byte(`"version":0`), 1), k),
		"no tenant":          resigned(bytes.Replace(good.Payload, []byte(tenant), []byte("acme"), 1), k),
		"a format to come":   resigned(bytes.Replace(good.Payload, []byte(`"format":1`), []byte(`"format":2`), 1), k),
		"a revision too big": resigned(bytes.Replace(good.Payload, []byte(`"revision":9`), []byte(`"revision":9007199254740993`), 1), k),
	} {
		if bytes.Equal(e.Payload, good.Payload) && what != "another type" && what != "another signer" && what != "no signature" {
			t.Fatalf("%s: nothing was changed", what)
		}
		if _, err := Verify(e, k.id(t)); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	k := newKey(t)
	for what, p := range map[string]*Page{
		"order": page("", "", "b", "a"), "a name twice": page("", "", "a", "a"), "no name": page("", "", "A b"), "no tenant": {Names: nil},
	} {
		if _, err := Sign(p, k); err == nil {
			t.Errorf("%s is signed", what)
		}
	}
	many := page("", "")
	many.Names = make([]Entry, MaxEntries+1)
	if _, err := Sign(many, k); err == nil {
		t.Error("too many names are signed")
	}
}

func FuzzRead(f *testing.F) {
	k := newKey(f)
	f.Add(signed(f, k, page("", "", "a")))
	f.Add([]byte(`{"payloadType":"x","payload":"","signatures":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Read(bytes.NewReader(text), k.id(t))
		if err != nil {
			return
		}
		for _, p := range list {
			if b, err := json.Marshal(p); err != nil || p.NodeID != k.id(t) || len(b) == 0 {
				t.Fatal("a page of nobody verifies")
			}
		}
	})
}
