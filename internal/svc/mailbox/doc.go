// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mailbox is svc-mailbox: a tenant's durable topics on both wires. What a
// topic is and does is the broker's (package broker); here calls are read and
// judged, answers written, subscriptions kept, and what happens counted.
//
// # Promises
//
//   - A message is answered for once it is durable, and so is every other change:
//     ack, nack, extend, purge, deletion. Nothing is told that a crash could take
//     back.
//   - A batch is judged by its form as a whole, before anything of it is sent.
//     What is wrong with one message alone is told of that message.
//   - A refusal for want of room says when there may be some.
//   - Leases whose answer could not be written are given back at once, so that a
//     receiver that went away hides nothing until the visibility ends. What was
//     written into a connection and never read there is hidden until then: nobody
//     can tell it from what is being worked on.
//   - Another tenant's topics, messages and receipts cannot be told from such that
//     never were.
//
// # Sizes and times
//
// Sizes are in bytes, durations in milliseconds (..._ms), moments in Unix
// milliseconds where a caller names them (..._at_ms, before_ms, after_ms) and RFC 3339
// in answers. Receipts and cursors are opaque.
package mailbox
