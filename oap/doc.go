// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oap is the frame codec of OAP/1: bytes to frames and back, and the
// limits that a frame's header alone decides. It opens no socket and keeps no
// connection state; streams, windows and the order of frames belong to those
// who hold a connection.
//
// A frame is, all integers big-endian,
//
//	len u32 | ver u16 = 1 | flags u16 | code u16 | app_proto_id u16 |
//	tenant_id u128 | cap_len u16 | corr_id u64 | cap | payload
//
// where len counts the whole frame, itself included. Every frame has exactly
// one encoding, so decoding and encoding again gives the same bytes. The payload
// of a stream's first frame, either way, begins with a head in deterministic
// CBOR: RequestHead, AnswerHead. With COMP the payload is zstd.
//
// Nothing here allocates on the word of a length field: Reader's buffer grows
// with the bytes that really arrived.
package oap
