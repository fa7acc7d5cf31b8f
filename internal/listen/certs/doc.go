// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package certs keeps the certificate that listeners serve. It hands it
// to each handshake, takes up a new one without touching a connection, says when
// it is about to end, and keeps an OCSP response stapled to it where the chain
// names a responder.
//
// A staple is fetched by POST over HTTP from the address in the certificate
// itself, within limits of time and size, and verified before it is used: signed
// by the issuer or by a responder that the issuer allows to, for this serial
// number, in its time, not older than what is here already. It is fetched anew
// before half of its time is over; while the responder is away the last one stays
// until its own end. A verified "revoked" is stapled like a "good": it is the
// truth, and clients that ask for it shall have it. Staples are kept in memory.
package certs
