// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package flow is the state of an OAP/1 connection: its streams, their windows
// and the connection's, the acknowledgements that are due, and which frame is
// written next. It does no I/O, starts no goroutine, takes no lock and reads no
// clock, so that a test can walk through everything that it can do. Package mux
// runs it.
package flow
