// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"

	"github.com/rustyonions/macronode/b3"
)

// ErrNotNode: an envelope is not signed with a node's key.
var ErrNotNode = errors.New("not signed with the node's key")

// NodeID is the id of the node whose key, DER SubjectPublicKeyInfo, is given. Who
// knows the id knows the key.
func NodeID(key []byte) string { return b3.Sum(key).String() }

// NodeSigner signs with a node's key, ECDSA P-256.
type NodeSigner interface {
	KeyID() string // "NAME#vN/ALG"
	// Public is the key's SubjectPublicKeyInfo, DER.
	Public() ([]byte, error)
	// Sign makes an ASN.1 ECDSA signature of the SHA-256 of message.
	Sign(message []byte) ([]byte, error)
}

// SignAsNode returns an envelope of payload with the node's signature.
func SignAsNode(payloadType string, payload []byte, s NodeSigner) (*Envelope, error) {
	sig, err := s.Sign(PAE(payloadType, payload))
	if err != nil {
		return nil, err
	}
	return &Envelope{PayloadType: payloadType, Payload: payload, Signatures: []Signature{{KeyID: s.KeyID(), Sig: sig}}}, nil
}

// SignedByNode checks that one of the envelope's signatures was made with the node
// key that is given, DER SubjectPublicKeyInfo. Its error wraps ErrNotNode. Whose key
// that is is the caller's to know, by NodeID.
func (e *Envelope) SignedByNode(key []byte) error {
	parsed, err := x509.ParsePKIXPublicKey(key)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok || public.Curve != elliptic.P256() {
		return ErrNotNode
	}
	sum := sha256.Sum256(PAE(e.PayloadType, e.Payload))
	for _, s := range e.Signatures {
		if ecdsa.VerifyASN1(public, sum[:], s.Sig) {
			return nil
		}
	}
	return ErrNotNode
}
