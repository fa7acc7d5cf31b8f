// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package route holds the table of everything the node can be asked to do.
package route
