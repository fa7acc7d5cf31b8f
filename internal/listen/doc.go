// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package listen owns the sockets that both wires accept from: TCP and Unix,
// TLS and not, with connection limits, peer credentials and the addresses that
// trusted proxies forward.
//
// Sockets belong to a Set, which the node makes and keeps. The services that
// speak a wire take connections from a View of it and may crash and come back:
// the sockets stay bound, connections wait, and the next View goes on where the
// last one stopped.
//
// A connection leaves a Set ready for use: accepted within the limits, from an
// allowed user on a Unix socket, its TLS handshake done. What is known of the
// other end is its Conn's Peer.
package listen
