// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package registry is the registry's documents and rules: who the nodes, services,
// regions and signers of an installation are, and who may change that.
//
// A [Descriptor] says what one of them is. Descriptors change by a [Proposal]
// alone, which so many of the registered signers approve as their set says (M of
// N). A proposal that has its approvals is committed as an [Entry] of a chain: each
// entry names the hash of the one before it, the state after it, and carries the
// signatures that it counts by. Whoever has the chain and knows its first entry can
// replay it with [State.Apply], and so verifies every change without believing the
// node that he got it from. The hash of the first entry is the registry's id.
//
// Every document is canonical JSON (RFC 8785) and is named by its BLAKE3, "b3:" and
// 64 hex digits. Of each document there is one accepted form: unknown members,
// members that say nothing and numbers that are no integers are refused.
//
// # Signatures
//
// A signer signs a [Statement]: which registry, which proposal, approve or reject,
// in the encoding of package bundle ([bundle.PAE]), with Ed25519 or, where its key
// is hybrid, with Ed25519 and ML-DSA-65, both of which must be good. A statement
// means nothing in another registry or for another proposal.
//
// # What holds in every chain
//
//   - Only signers that are registered when a proposal is committed count. A key
//     that was taken out never counts again: neither the key nor its name and
//     version can be registered a second time.
//   - A proposal that registers a key has that key's signature too, so a set whose
//     keys nobody holds cannot come to be.
//   - A change names the address of what it replaces, and applies to that alone.
//   - A node id that was revoked stays so.
//   - The node that the set of signers names as writer orders the commits, and
//     signs where the chain ends ([Head]).
//
// The package is pure: no files, no sockets, no clock. What is read from outside is
// bounded before it is decoded.
package registry
