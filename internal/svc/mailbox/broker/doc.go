// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package broker is the mailbox without its wires: sending, receiving and
// acknowledging, which package core does and says how it is safe, and what
// operators do: lists, dead letters, redrives.
package broker
