// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package form evaluates the conditions of rules without building Cedar's view
// of the request: straight from the key of a decision, without an allocation.
// It knows the usual operators; for all else its answer is that Cedar must be
// asked.
package form
