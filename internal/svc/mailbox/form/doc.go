// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package form reads and writes what callers of the mailbox send and get: a raw
// message with its arguments, batches as NDJSON or CBOR, lists of receipts, and
// messages on their way out as JSON, CBOR or server-sent events.
//
// What comes in is judged as a whole before anything is made of it: an unknown
// or repeated member, a number out of range, a text that is not UTF-8 refuse it,
// and nothing is allocated beyond the size of the body that was already read.
// What goes out is written by hand: a receiver of hundred messages is answered
// without reflection.
package form
