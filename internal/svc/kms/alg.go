// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms

import (
	"slices"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/svc/kms/primitive"
)

// Algorithm is what a key computes. A hybrid is two keys in one: its signature
// is good only where both halves are.
type Algorithm string

// The algorithms.
const (
	Ed25519        Algorithm = "ed25519"
	P256           Algorithm = "ecdsa-p256" // signs the SHA-256 of a message, ASN.1
	MLDSA44        Algorithm = "ml-dsa-44"  // FIPS 204, pure, empty context
	MLDSA65        Algorithm = "ml-dsa-65"
	Ed25519MLDSA44 Algorithm = "ed25519+ml-dsa-44"
	Ed25519MLDSA65 Algorithm = "ed25519+ml-dsa-65"
	MAC256         Algorithm = "mac-256"     // 32 bytes: capability minting, BLAKE3 MAC
	AES256GCM      Algorithm = "aes-256-gcm" // 32 bytes: wraps
)

// Purpose is the one use that a key has.
type Purpose string

// The purposes.
const (
	PurposeBundle Purpose = "bundle" // signs config and policy bundles
	PurposeAudit  Purpose = "audit"  // signs checkpoints of the audit log
	PurposeMint   Purpose = "mint"   // mints a tenant's capabilities
	PurposeNode   Purpose = "node"   // is the node's identity
	PurposeTLS    Purpose = "tls"    // is the server's certificate's
	PurposeApp    Purpose = "app"    // what callers make of it
	// PurposeRegistry approves changes of the registry.
	PurposeRegistry Purpose = "registry"
)

// Internal reports whether keys of p work for the node alone: the KMS API never
// uses one for a caller.
func (p Purpose) Internal() bool {
	return p != PurposeApp && p != PurposeTLS
}

// algInfo is everything that differs between algorithms.
type algInfo struct {
	id         uint8 // on disk; never reused
	components []primitive.Kind
	purposes   []Purpose
}

var algorithms = map[Algorithm]algInfo{
	Ed25519:        {1, []primitive.Kind{primitive.Ed25519}, []Purpose{PurposeBundle, PurposeAudit, PurposeTLS, PurposeApp, PurposeRegistry}},
	P256:           {2, []primitive.Kind{primitive.P256}, []Purpose{PurposeNode, PurposeTLS, PurposeApp}},
	MLDSA44:        {3, []primitive.Kind{primitive.MLDSA44}, []Purpose{PurposeApp}},
	MLDSA65:        {4, []primitive.Kind{primitive.MLDSA65}, []Purpose{PurposeBundle, PurposeApp}},
	Ed25519MLDSA44: {5, []primitive.Kind{primitive.Ed25519, primitive.MLDSA44}, []Purpose{PurposeAudit, PurposeApp}},
	Ed25519MLDSA65: {6, []primitive.Kind{primitive.Ed25519, primitive.MLDSA65}, []Purpose{PurposeBundle, PurposeApp, PurposeRegistry}},
	MAC256:         {7, []primitive.Kind{primitive.MAC}, []Purpose{PurposeMint, PurposeApp}},
	AES256GCM:      {8, []primitive.Kind{primitive.AES}, []Purpose{PurposeApp}},
}

// purposeIDs are the purposes on disk; never reused.
var purposeIDs = map[Purpose]uint8{
	PurposeBundle: 1, PurposeAudit: 2, PurposeMint: 3, PurposeNode: 4, PurposeTLS: 5, PurposeApp: 6, PurposeRegistry: 7,
}

// Algorithms lists them in a fixed order.
func Algorithms() []Algorithm {
	return []Algorithm{Ed25519, P256, MLDSA44, MLDSA65, Ed25519MLDSA44, Ed25519MLDSA65, MAC256, AES256GCM}
}

// Purposes lists them in a fixed order.
func Purposes() []Purpose {
	return []Purpose{PurposeBundle, PurposeAudit, PurposeMint, PurposeNode, PurposeTLS, PurposeApp, PurposeRegistry}
}

// Suits reports whether keys of algorithm a may have purpose p.
func (a Algorithm) Suits(p Purpose) bool { return slices.Contains(algorithms[a].purposes, p) }

// Signs reports whether a has public keys and signatures.
func (a Algorithm) Signs() bool {
	info, ok := algorithms[a]
	return ok && info.components[0].Public()
}

// MACs reports whether keys of a make MACs, which only the KMS can verify.
func (a Algorithm) MACs() bool { return a == MAC256 }

// Wraps reports whether a encrypts.
func (a Algorithm) Wraps() bool { return a == AES256GCM }

// ValidName reports whether s may name a key or an object.
func ValidName(s string) bool { return bundle.ValidName(s) }

// Ref is a KMS reference: "KMS:key/NAME[@vN]", "KMS:obj/NAME[@vN]".
type Ref = bundle.Ref

// The kinds of reference.
const (
	RefKey    = bundle.RefKey
	RefObject = bundle.RefObject
)

// ParseRef reads a reference in its one accepted form.
func ParseRef(s string) (Ref, error) { return bundle.ParseRef(s) }

func algByID(id uint8) (Algorithm, bool) {
	for a, info := range algorithms {
		if info.id == id {
			return a, true
		}
	}
	return "", false
}

func purposeByID(id uint8) (Purpose, bool) {
	for p, n := range purposeIDs {
		if n == id {
			return p, true
		}
	}
	return "", false
}
