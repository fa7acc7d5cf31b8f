// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package index is svc-index: what a name or an address stands for, and who has it.
//
// # What it promises
//
//   - An answer is built from the stores as they are: a put, a deletion or a name
//     that was acknowledged is seen by every look-up that begins afterwards. The
//     generation of an answer counts the changes that it holds at least; a call
//     that names one (after) is answered from no earlier state, or refused.
//   - What is remembered is what other nodes said, and how many files a manifest
//     has. It lies in memory, is bounded, and can be thrown away at any time: a
//     restart of the service does, and the answers stay the same. A local object is
//     always looked up first, so nothing remembered can hide it.
//   - A neighbour (names, objects, peers) has a share of the call's time and a
//     breaker. One that is away takes from the answer what it alone knows, which
//     the answer says (incomplete); where that was all, the call is refused with 503.
//   - Everything is looked up by tenant. What another tenant has cannot be told from
//     what nobody has; peers are known by announcements under the tenant's secret.
//
// Sizes are bytes, times Unix milliseconds (..._ms).
package index
