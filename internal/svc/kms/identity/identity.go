// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package identity signs what a node says for itself.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Signer signs with the newest version of the node's own key, whose hash is the
// node's id. No caller's bytes are signed with it.
type Signer struct{ *kms.Signer }

// Of returns a signer with the node's key; NotFound where there is none.
func Of(keys *kms.Store) (*Signer, error) {
	signers, err := keys.Signers(kms.Ref{Kind: kms.RefKey, Name: kms.NodeKey}, kms.PurposeNode)
	if err != nil {
		return nil, err
	}
	return &Signer{signers[0]}, nil
}

// Public is the key's SubjectPublicKeyInfo, DER.
func (n *Signer) Public() ([]byte, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), n.Signer.Public())
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return x509.MarshalPKIXPublicKey(key)
}
