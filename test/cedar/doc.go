// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package cedar holds the node's policy decisions against Cedar's own
// evaluator, in WebAssembly from npm, on random rules, entities and requests.
package cedar
