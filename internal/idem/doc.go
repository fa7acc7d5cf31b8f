// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package idem makes retries safe: it keeps the first answer to a call that
// carried an Idempotency-Key and gives it again to the same call.
//
// A key is scoped to (tenant, op). For as long as its record lives (24 hours
// unless a service says otherwise)
//
//   - the same key with the same request gets the first answer, byte for byte,
//     and the header Idempotency-Replayed: true;
//   - the same key with another request is refused with IdempotencyMismatch;
//   - while the first call still runs, others are refused with IdempotencyRunning.
//
// Only what a handler decided is kept: successes, and refusals that the same
// request would meet again (see [Final]). Refusals of the wall, quota refusals
// and 5xx answers leave the key free.
//
// The record is written in the transaction of the change, so after a crash
// either both are there or neither is. What runs now is known in memory only: a
// crash frees the keys of calls that changed nothing.
//
// A kept reply rests in the metadata store as it was sent, for as long as its
// record lives. A route whose answer is a secret must know that.
//
// # Use
//
// A handler of small bodies is wrapped ([Keeper.Wrap]). One that learns its
// request's hash only at the end of a stream does
//
//	claim, err := keeper.Open(ctx, a)      // by key; nil claim: no key was given
//	defer claim.Release()
//	... read the stream ...
//	reply, err := claim.Match(fingerprint) // a reply here is the replay
//	... in the transaction: claim.Keep(tx, reply)
//
// All methods of a nil *Claim work and do nothing.
//
// # Layout
//
//	idem/r/ tenant(16) sha256(op, key)(32)            -> record
//	idem/t/ expiry(8, unix ms, big-endian) id(48)     -> empty
package idem
