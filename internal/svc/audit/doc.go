// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package audit is the service ron-audit: it gives what happened its place in
// the record. Every event becomes a tlog.Record with a sequence number and a
// link to the record before it in the same stream, and is written as one log
// line, event=audit, whatever the log level.
//
// The chain lives in memory: it begins anew, with sequence number 0, when the
// process does, and what the log line outlives is up to whoever keeps the log.
//
// Events wait in one bounded queue. Record never waits: it sheds with a count
// when the queue is full. Append waits until its record is written, or fails,
// and the caller must then not act. Above FoldAbove refusals a second for one
// reason, further ones are folded into one record for each (reason, stream,
// network) with a count, written when the second is over.
package audit
