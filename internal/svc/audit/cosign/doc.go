// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package cosign has others vouch for the audit log's checkpoints. A witness (C2SP
// tlog-witness) signs a checkpoint only where it extends all that it signed before, so
// a log that shows two histories cannot have both cosigned.
//
// Checkpoints are published without waiting. Beside that, the newest is shown to every
// witness, and once Settings.Quorum of them signed it, it is kept durably and served.
// Where they refuse, or too few answer within Settings.Timeout, that is an alarm:
// a metric, an event and what Ready says; the log goes on.
package cosign
