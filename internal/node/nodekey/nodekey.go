// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package nodekey is the node's key as other nodes know it.
package nodekey

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"

	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Key is the node key of this start, which peers know the node by: a rotated key is
// another node, from the next start on.
type Key struct {
	// Certificate is what the node shows to peers.
	Certificate *tls.Certificate
	signer      crypto.Signer
	public      []byte // SubjectPublicKeyInfo, DER
	id          string
}

// Open is the newest version of the node's key.
func Open(keys *kms.Store) (*Key, error) {
	key, err := keys.Key(kms.NodeKey)
	if err != nil {
		return nil, err
	}
	ref := kms.Ref{Kind: kms.RefKey, Name: kms.NodeKey, Version: key.Newest().Version}
	signer, err := keys.CryptoSigner(ref, kms.PurposeNode)
	if err != nil {
		return nil, err
	}
	text, err := keys.SelfSigned(ref, kms.PurposeNode, kms.CertSpec{CommonName: "node"})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &Key{signer: signer, public: leaf.RawSubjectPublicKeyInfo, id: ref.String(),
		Certificate: &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: signer, Leaf: leaf}}, nil
}

// KeyID implements revocation.Signer.
func (k *Key) KeyID() string { return k.id }

// Public implements revocation.Signer.
func (k *Key) Public() ([]byte, error) { return k.public, nil }

// Sign implements revocation.Signer.
func (k *Key) Sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
}
