// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package registry keeps the registry of an installation and serves it: the service
// svc-registry. The documents and the rules by which they change are those of the
// public package registry, which replays every entry here too; this package keeps
// the chain, the proposals that are open, and the order of things.
//
// # What it promises
//
//   - Nothing is committed but what the rules allow: enough of the signers that are
//     registered at that moment have signed. No route, setting, start or repair goes
//     around that; at a start the whole chain is replayed and a chain that does not
//     verify is not served.
//   - What was answered is durable: an approval, a rejection, a commit. A commit is
//     one transaction with everything that it brings about: the entry, the end of
//     the proposal and of those that it supersedes, approvals that count no more, the
//     signed head, and the answer kept for the Idempotency-Key.
//   - Commits are ordered: a transaction that finds another head than the one that it
//     was made for changes nothing.
//   - An approval by a signer that was taken out is dropped in the transaction that
//     takes the signer out, and does not come back with its key.
//   - Only the registry's writer commits. Other nodes follow: they take what the
//     writer's signed head covers and the rules allow, and nothing else.
//   - Nothing is done whose audit record cannot be kept.
//
// # Layout
//
//	registry/genesis              -> the first entry
//	registry/entry/    seq(8)     -> an entry, canonical JSON; none below the base
//	registry/anchor/   seq(8)     -> an entry that changed the signers
//	registry/leaf/     seq(8)     -> its leaf in the tree, kept for good
//	registry/base/     n(4)       -> pieces of the base, where entries were dropped
//	registry/head                 -> size(8) hash(32)
//	registry/signed               -> the signed head
//	registry/proposal/ addr(32)   -> JSON record
//	registry/open/     addr(32)   -> "": the proposal is open
//	registry/closed/   ms(8) addr(32) -> "": it was closed then
//
// Integers are big-endian; times are unix milliseconds.
package registry
