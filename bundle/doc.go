// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package bundle verifies signed, versioned documents: the node's config bundle
// and the policy bundle.
//
// A bundle travels as a DSSE envelope (Dead Simple Signing Envelope, v1.0 of
// github.com/secure-systems-lab/dsse) with Ed25519 and ML-DSA-65 signatures.
// Who may sign is never said by the document: [Trust] holds the anchors, public
// keys and how many of them must agree, for each purpose apart. What a document
// says is named by [Hash], BLAKE3-256 over its RFC 8785 canonical JSON, so white
// space, comments and signing again do not change the name.
//
// The package is pure: no files, no sockets, no clock. Every decoder here reads
// bytes from outside and checks sizes before it allocates.
package bundle
