// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package rules turns the payload of a policy bundle into a Set, which decides
// requests: strict validation, the bundle's own tests, evaluation of the rules
// that can apply, a cache, explanations and lint. It reads no clock, file or
// network.
package rules
