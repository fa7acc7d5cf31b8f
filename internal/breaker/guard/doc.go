// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package guard puts breakers before the node's stores: each type here is the
// store that it wraps, behind one.
package guard
