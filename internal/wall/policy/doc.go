// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package policy decides whether a principal may act: stage 5 of the wall.
//
// Rules are written in Cedar. A directory of rules, schema, entities, quotas
// and tests is built into a payload, one RFC 8785 JSON document, whose
// BLAKE3-256 the node's config pins; the signed envelope around it is a KMS
// object. Building and loading make the same checks, so a payload that does
// not parse, does not pass strict validation against its schema, or fails its
// own tests, is never in force.
//
// # What holds
//
//   - Nothing is allowed but what a rule permits; a rule that forbids wins; and
//     if any rule that applies fails to evaluate, the answer is no.
//   - A Set is immutable. Reloading prepares a second one and swaps it in whole,
//     with an empty cache, so no decision outlives the rules that made it.
//   - A cached decision is keyed by everything that the rules which could apply
//     read, found by walking those rules (rules/reads.go); it is the answer that
//     evaluation would give, for at most the cache's time to live.
//   - Where the pinned object cannot be read, or the payload has expired, the
//     answer is an error of kind PolicyUnavailable and the node is not ready.
//
// # Annotations
//
// @id("name") names a rule in reasons; without it a rule is FILE#N, N from 1.
// @obligation("key=value") travels with the decisions the permit is a reason
// for. One annotation may hold several, apart by "," or ";", and there may be
// more under @obligation_2 to @obligation_9. A forbid carries none.
//
// # Where to find things
//
// This package is the service: what is in force, and whether it still may be.
// Package payload is the document and the default policies; package rules
// checks it and decides.
package policy
