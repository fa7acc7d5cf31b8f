// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package kms keeps the node's keys and named objects, and uses keys for those
// who may. A [Store] is used within the process (TLS, minting, bundles, the audit
// log's checkpoints); package kmsapi offers a part of it to callers.
//
// # Keys
//
// A key is a name with an algorithm, one purpose, and versions 1, 2, … The newest
// signs and wraps; all of them verify and unwrap, until the key is deleted. The
// purpose fixes what a key is for: one of purpose bundle, audit, mint, node or
// tls works for the node alone, and no caller can have anything signed, checked,
// wrapped or unwrapped with it, whatever policy says. Callers use keys of purpose
// app. (A server's TLS key must sign nothing but handshakes: who could have it
// sign would be the server.)
//
// Names are the node's, not a tenant's.
//
// # Hybrids
//
// A hybrid's signature is one by each half over the message itself, and is good
// only where both are ([Signature] has the bytes). Who breaks one algorithm has
// still to break the other.
//
// # Where secrets are
//
// At rest in a [Vault] (package keystore), sealed. In memory in locked pages that
// are wiped on Close and when a version is dropped: seeds, scalars, symmetric
// keys, Ed25519 keys and expanded ML-DSA keys. Package primitive computes with
// them there, and erases the states of what it uses. docs/security.md lists what
// libraries keep on the Go heap all the same; test/secrets looks.
//
// # What is recorded
//
// Create, rotate, import, delete and put are appended to audit before they
// happen, and do not happen where that fails. Sign, verify, wrap, unwrap are
// recorded after. Not recorded are TLS handshakes, minting (the mint records it)
// and checkpoints (they are the audit log's own); kms_ops_total counts them.
package kms
