// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package hot keeps bytes of objects in memory that were verified against
// their address, so that what is asked for often is neither read nor hashed
// again.
//
// A Cache is bounded when it is made. Its bytes lie outside the Go heap, in one
// mapping whose pages the system provides when they are first written: a cache
// that holds little takes little. Entries are whole small objects or pieces of
// large ones. Their keys begin with the tenant, so nobody can tell from the
// time of a read what another tenant has read.
//
// The mapping is cut into segments. Entries are appended to one segment until
// it is full; then the next in turn is recycled: what was read since its last
// turn moves to its front, the rest goes. A segment with readers is passed
// over, so bytes never change under a reader.
//
// Admission asks how often a key was wanted lately, which a table of small
// counters remembers for cached and uncached keys alike. The first wish is never
// enough; where room must be made, the newcomer has to be wanted clearly more
// than what would go. So one long read passes by and leaves the cache as it was.
//
// The bytes of a deleted object stay until their segment is recycled. Whoever
// asks must look up first whether the tenant still has the object.
package hot
