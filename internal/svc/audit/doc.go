// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package audit is the service ron-audit: it gives what happened its place in
// the record, and shows and proves what is there. Every event becomes a tlog.Record
// with a sequence number and a link to the record before it in the same stream; package
// tree keeps it durably, under a Merkle tree whose checkpoints are signed at least
// every Settings.CheckpointInterval while records come. Each record is also
// a log line, event=audit, whatever the log level, once it is durable.
//
// Events wait in one bounded queue. Record never waits: it sheds with a count
// when the queue is full, and that count becomes a record. Append waits until its
// record is durable, or fails, and the caller must then not act. Above
// Settings.CollapseAbove refusals a second for one reason, further ones are folded into
// one record for each (reason, stream, network) with a count, written when the
// second is over.
//
// A log that is damaged keeps the service down, and so the node not ready, with the
// place named; nothing is repaired by itself.
package audit
