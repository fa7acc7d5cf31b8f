// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package gossip is what nodes tell each other unasked, without sockets and
// without clocks of its own: messages and their form, which were seen before,
// what each peer may say and what waits to be said to it.
//
// Everything is bounded, and what does not fit is dropped and counted, always the
// oldest first: the queue of each lane to each peer, the ids by which a message
// is known again, what a peer may say in a second. A revocation that was dropped
// is not lost: the peer is asked to compare lists instead.
package gossip
