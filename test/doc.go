// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package test drives the built binaries from outside, as their users do. Its
// tests need the environment variable MACRONODE_BIN, the folder that holds
// macronode and ronctl; "make e2e" sets it.
package test
