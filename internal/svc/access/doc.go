// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package access keeps tenants and capabilities: who there is, what each may
// use, which capabilities are dead, and which minting keys are good. It is the
// service ron-auth; the wall's auth stage asks it on every call.
//
// # What it promises
//
//   - What was answered is durable: a tenant that was made, suspended or
//     deleted and a capability that was revoked stay so across kill -9 and power
//     loss. It holds on this node from before the answer on.
//   - Look-ups never wait for the disk. They read memory, which is changed in
//     step with the durable transaction, after it.
//   - Minting never widens: a tenant mints for itself alone, and the caveats of
//     the capability that mints stand first in what it mints.
//   - A minting key that is revoked mints nothing any more: where it is the newest
//     one, another is made first.
//   - A tenant's revocations bind its own capabilities; those of the tenant
//     system bind everyone's.
//   - Tenants system and anonymous always exist, and can be neither suspended
//     nor deleted.
//   - From the moment a deletion is accepted all capabilities of the tenant are
//     dead. Its data is then purged, across restarts until it is done; last of
//     all goes the record. Its label can then be used again, its id never.
//   - Nothing is done whose audit record cannot be kept.
//
// # Units
//
// Times are unix milliseconds in what is stored and answered, unix seconds in
// caveats.
//
// # Layout
//
//	access/tenant/  id(16)               -> JSON record
//	access/label/   label                -> id(16)
//	access/gone/    id(16)               -> unix ms, big-endian: the id was deleted
//	access/revoked/ tenant(16) id(16)    -> JSON revocation; tenant zero: whosever it is
//	access/revoked/ tenant(16) ff(16) kid -> the same, of all that a minting key made
package access
