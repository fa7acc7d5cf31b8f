// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package admit is the wall's admission: whether a call that passed auth,
// policy and quota may run on this node now.
//
// A call that finds a place runs at once. Others wait in their tenant's queue,
// for QueueDeadline at most, and deficit round robin between the tenants
// decides who gets the next place: by weight, and by what calls cost in bytes
// and work. How many places there are follows from what the node can do: a
// limit inside max_inflight, lowered when work waits for a processor or when
// handlers take longer than they do on a quiet node, raised when calls wait and
// neither is so. Time that a call spends waiting for its client counts for
// nothing, and a call that has done so for a while gives its place back.
//
// Control calls and long-running ones never come here.
package admit
