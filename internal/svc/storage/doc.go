// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package storage is the service svc-storage: objects named by the BLAKE3-256
// of their bytes, put, read, listed and dropped by tenants.
//
// # What it promises
//
//   - An object is acknowledged once its bytes are durable and, after that, one
//     transaction has made the reference, the tenant's usage and the idempotency
//     record durable. Nothing is visible before, so a crash at any point leaves
//     either the whole object or none of it.
//   - Bytes are verified before they leave. Damage in the first piece is answered
//     with a 502; later damage breaks the reply off.
//   - Everything is looked up by (tenant, address). What another tenant holds has
//     no effect on any answer, its cost class, or the accounting.
//   - Usage is exact: it is written in the transactions that change it and held
//     against the tenant's quota there.
//
// # How bytes come and go
//
// Each upload writes new bytes, also where the tenant holds the object: the
// reference then moves to the new bytes and the old ones are freed, so that
// putting an object again heals it. Bytes to be freed are queued in the
// transaction that lets go of them and removed in the background, once no reply
// reads them. When the service starts it looks for bytes that nothing
// refers to (a crash between the two steps of an upload) and removes them.
//
// A driver must not give a Loc out again after it was removed; a removal that a
// crash interrupted is repeated.
//
// # Layout
//
//	object/r/ tenant(16) address(32)  -> reference
//	object/u/ tenant(16)              -> bytes(8) objects(8), big-endian
//	object/l/ loc                     -> tenant(16) address(32) that refers to it
//	object/free/ loc                  -> empty: to be removed
//
// Sizes are bytes, stored times unix milliseconds in UTC. Sources: RFC 9110
// (ranges, preconditions), RFC 9659 (zstd window).
package storage
