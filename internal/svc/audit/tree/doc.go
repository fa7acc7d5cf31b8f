// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package tree keeps an audit log: the entries in a store.Log, in the order of
// their index, and in metadata what makes them quick to find and to prove: the
// Merkle tree's tiles, the place of each entry, which entries a stream has, and the
// newest checkpoint.
//
// The log is what counts. Metadata is written behind it, a bundle of 256 entries at
// a time and never ahead of what is durable; what is missing of it after a crash is made
// again from the log's tail when it is opened. A tree is extended by one goroutine and
// read by any.
//
// Words: a record is sequenced when it has its index, durable when it survives a
// crash, and published when a signed checkpoint covers it.
package tree
