// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package overlay holds sessions with other nodes and gossips over them. It is
// the half of the service svc-overlay that is not a listener.
//
// Peers are named, by address and node id, in the signed config or in another
// source that node passes in; nobody is found, and nothing is asked on behalf of
// another.
//
// # A peer's states
//
//	idle       named, and not tried yet
//	handshake  a connection is being made, or greeted
//	active     there is a session
//	back_off   there is none, and the next attempt is a moment away
//	closed     an operator's breaker, or a penalty, keeps it shut
//
// # Two connections
//
// Both sides dial. Of two connections between one pair the one that the node with
// the smaller id dialled stays; both sides come to the same answer by themselves.
// A new connection by who dialled the present one replaces that: who has a session
// does not dial, so the old one is dead and this side has not noticed.
//
// # What is promised
//
//   - A peer is the node whose key it proved, and may do overlay:peer alone,
//     through the wall like any caller.
//   - A session whose other end does not answer for a second and a half is given
//     up, and attempts never lie further apart than that.
//   - Memory does not depend on what peers do: see package gossip.
//   - A revocation that any connected node holds reaches all of them: told at once,
//     and where the telling was lost, found by comparing summaries.
package overlay
