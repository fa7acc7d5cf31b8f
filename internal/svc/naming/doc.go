// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package naming is ron-naming: a tenant's names, each of which points at an
// object. What a name is, and which of its spellings counts, is package name's.
//
// # Promises
//
//   - A change is answered once it is durable. It is recorded by audit before it is
//     made, and refused where it cannot be.
//   - Versions of a name only grow, by one with each change, also when the name was
//     deleted in between: an ETag names one state for ever. Conditions (If-Match,
//     If-None-Match) are judged in the transaction of the change, so of two changes
//     that expect the same version one happens.
//   - Names are a tenant's by their keys. Another tenant's name is answered like one
//     that never was, after the same work.
//   - A watch that goes on from a cursor misses no name's latest state; where it was
//     away for too long it is told so, and lists again.
//
// # Bounds
//
// A tenant has MaxNames names; a name keeps its last MaxHistory versions; the last
// 1000 deleted names are remembered with theirs, and the last 10 000 changes for
// watches. Beyond that the oldest goes, with the change that makes it too many.
//
// # Layout
//
//	name/ tenant(16) n name             -> record of the current version
//	name/ tenant(16) h name 0 ^version  -> record of each version that is kept, newest first
//	name/ tenant(16) d name             -> what is remembered of a deleted name
//	name/ tenant(16) e seq(8)           -> name: deleted names in the order of their deletion
//	name/ tenant(16) c seq(8)           -> change: version, deleted or not, name
//	name/ tenant(16) u                  -> totals: names, versions, deleted names, seq, floor
//
// Integers are big-endian. The floor is the greatest version of what was forgotten:
// a name that is not remembered begins above it.
package naming
