// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !zk

package buildtags

// ZK: zero-knowledge obligations is not in this binary.
const ZK = false
