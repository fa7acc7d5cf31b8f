// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package buildtags turns the build tags zk, arti and amnesia into constants,
// so that code asks with if and only the shims of internal/node carry tags.
package buildtags
