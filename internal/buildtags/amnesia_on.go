// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build amnesia

package buildtags

// Amnesia: running without a disk is in this binary.
const Amnesia = true
