// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

//go:build !arti

package buildtags

// Arti: onion-service ingress is not in this binary.
const Arti = false
