// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package graph is the facet of typed edges between names, objects and ids, a
// tenant's own.
//
// # Promises
//
//   - An edge is FROM, TYPE, TO and a text of at most MaxValueBytes; there is one at
//     most of each (FROM, TYPE, TO). Putting it again replaces the text and keeps its age.
//   - A put or a deletion is durable when it is answered. Both directions of an edge,
//     the tenant's count and the answer under an Idempotency-Key change in one
//     transaction: after a crash all are there or none is.
//   - A bulk put is judged as a whole before anything is put; then it is put in
//     transactions of putBatch edges, so that other writers are not kept waiting.
//   - Neighbours come in the order of type and vertex. A list that is read page by page
//     shows every edge that was there throughout, once.
//   - An expansion sees one moment. What ends it early (edges visited, time, bytes of
//     the answer) is said.
//   - Edges say nothing of whether a name or an object exists, here or with another
//     tenant; every key begins with the tenant.
//
// # Layout
//
//	graph/ tenant(16) o from type 00 to    -> version(1) created(8, unix ms) text
//	graph/ tenant(16) i to type 00 from    -> the same
//	graph/ tenant(16) n                    -> edges(8) bytes(8), big-endian
package graph
