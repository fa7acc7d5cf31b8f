// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package core is where messages go in and out: durable topics over one log.
//
// A topic's state is in memory (package queue), payloads are in the log alone.
// Each command goes the same way:
//
//  1. What can be done without the topic is: hashes, records, reading old records.
//  2. Under the topic's lock it is decided against the state, its records are
//     staged (they get their place in the log and are not durable), and the state
//     applies them. There is no I/O under a lock.
//  3. Without the lock, payloads are read, and Sync is awaited.
//  4. It is answered.
//
// Whoever answers from state, be it that a message is a duplicate or that a lease
// was lost, waits for Sync too. So an answer rests on durable records alone.
//
// An error of the log's write or sync is final. The state in memory may be ahead
// of the disk by then; nothing was answered from what is ahead. The broker fails
// with it, all calls are refused, Serve returns the error, and a new one is made
// from disk.
//
// Recovery is the latest snapshot and the log from where that was begun. Topics
// are written to it one after the other while the rest goes on; each says up to
// which place in the log it holds everything, and a record before that place is
// not applied again. A snapshot takes its name only when all records that it
// may rest on are durable.
//
// Locks are taken in this order: Core.catalogue, topics by number, the rest.
package core
