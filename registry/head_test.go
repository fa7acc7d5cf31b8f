// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

type nodeKey struct {
	private *ecdsa.PrivateKey
	public  []byte
	id      string
}

func newNodeKey(t testing.TB) *nodeKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &nodeKey{k, der, b3.Sum(der).String()}
}

func (k *nodeKey) KeyID() string           { return "node#v1/ecdsa-p256" }
func (k *nodeKey) Public() ([]byte, error) { return k.public, nil }
func (k *nodeKey) Sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.private, sum[:])
}

func TestHead(t *testing.T) {
	w := chainOf(t)
	key := newNodeKey(t)
	want := HeadOf(w.state, w.tree)
	text, err := SignHead(want, key)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHead(text)
	if err != nil || !h.Same(&want) || h.NodeID != key.id {
		t.Fatalf("%+v, %v", h, err)
	}
	e, err := bundle.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*bundle.Envelope){
		"size": func(e *bundle.Envelope) {
			e.Payload = bytes.Replace(e.Payload, []byte(`"size":5`), []byte(`"size":6`), 1)
		},
		"type":          func(e *bundle.Envelope) { e.PayloadType = StatementType },
		"signature":     func(e *bundle.Envelope) { e.Signatures[0].Sig[9] ^= 1 },
		"node":          func(e *bundle.Envelope) { e.Payload = bytes.Replace(e.Payload, []byte(key.id), []byte(writerID), 1) },
		"not canonical": func(e *bundle.Envelope) { e.Payload = append([]byte(" "), e.Payload...) },
	} {
		c := *e
		c.Signatures = []bundle.Signature{{KeyID: e.Signatures[0].KeyID, Sig: bytes.Clone(e.Signatures[0].Sig)}}
		spoil(&c)
		bad, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHead(bad); !errors.Is(err, ErrHead) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseHead(bytes.Repeat([]byte(" "), MaxHeadBytes+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}
