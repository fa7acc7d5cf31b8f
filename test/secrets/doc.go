// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package secrets shows what a node's memory holds when. Its tests plant keys
// that they know, run a node in a child process, have gdb take a core image of it
// at each stage, and look for the keys in it: raw, in other byte orders, in hex
// and in base64. They need gdb ("scripts/setup.sh" installs it) and the right to
// trace a child.
package secrets
