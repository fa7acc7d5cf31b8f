// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"

	"github.com/rustyonions/macronode"
)

// NodeSigner signs what the node says for itself, with the newest version of its
// own key, whose hash is its id. No caller's bytes are signed with it.
type NodeSigner struct{ *Signer }

// NodeSigner returns a signer with the node's key; NotFound where there is none.
func (s *Store) NodeSigner() (*NodeSigner, error) {
	signers, err := s.Signers(Ref{Kind: RefKey, Name: NodeKey}, PurposeNode)
	if err != nil {
		return nil, err
	}
	return &NodeSigner{signers[0]}, nil
}

// Public is the key's SubjectPublicKeyInfo, DER.
func (n *NodeSigner) Public() ([]byte, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), n.Signer.Public())
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return x509.MarshalPKIXPublicKey(key)
}
