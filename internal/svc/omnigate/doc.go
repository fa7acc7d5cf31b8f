// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package omnigate is the frame of the facets: graph, feed, search and media, the
// parts of a node that are useful and that nothing else needs. Each facet is behind
// a gate of its own, so that whatever it does concerns its own callers alone.
//
// # Promises
//
//   - A call to a facet that is off, restarting, held off by its breaker or at its
//     permits is refused at once: 503, reason "facet", and Retry-After.
//   - A handler that panics is contained: its caller gets 503, nobody else notices.
//   - A handler that does not come back within CallLimit is told to end, and left
//     behind where it does not: its caller is answered, and the permit that it holds
//     is not given to another until it returns.
//   - What a facet runs between calls is restarted by itself, after a random wait of
//     100 ms that doubles to 5 s; the other facets go on.
//   - Failures in a row open the facet's breaker, named facet-NAME, which an operator
//     may also force open: that is its kill switch.
//   - Which facets run and how many permits each has changes live. Calls under way
//     end as they began.
//
// # Permits
//
// A permit is held from the handler's start to the end of the reply's stream. Routes
// that are long-running hold it while their handler works and not while their stream
// waits: the node's own limit of long-running calls is for those.
package omnigate
