// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package outward speaks HTTP with those who look after the audit log from outside:
// witnesses, who cosign its checkpoints (C2SP tlog-witness), and sinks, to which its
// records are forwarded. It follows no redirect, uses no proxy, and reads little of
// an answer; what it is told it believes nothing of.
package outward
