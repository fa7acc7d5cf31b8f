// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package pebblekv keeps metadata in Pebble, an embedded LSM tree.
//
// Writers. Closures run one at a time over an indexed batch, so transactions are
// serializable by construction. The writer's turn ends when the batch is in the
// log's buffer and visible; the fsync that makes it durable is waited for after
// that, so all that commit while one fsync runs share the next.
//
// Readers. Pebble shows a batch before it is durable. So that nobody answers a
// client from what power loss may take back, this package keeps the keys of
// commits whose fsync is under way: a View, or an Update that fails or writes
// nothing, that has read one of them (a scan: anything at all meanwhile) waits
// for that fsync before it returns. Reads of other keys wait for nothing. So what
// a closure has read is durable when View or Update returns. An Update that
// writes waits for its own fsync, which covers all before it.
//
// Full disk. Update is refused with ErrFull while less than the reserve is free.
// Should others fill the disk all the same, the first write that finds it full
// frees a ballast file and is done again: the log, which Pebble cannot write
// again after an error, survives, Update is refused, and Reclaim has the
// ballast's room. The ballast comes back when there is room for it.
//
// Failure. After an error of log or manifest Pebble is of no further use, and
// what was being committed is unknown until the next start. Then every call
// answers that error, and Config.Fatal is told. Pebble's own reaction, ending
// the process or the panic of a goroutine, does not happen. While flushes fail,
// updates fail rather than wait without end; Check says so.
package pebblekv
