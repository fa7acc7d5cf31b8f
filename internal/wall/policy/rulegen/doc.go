// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package rulegen makes random rules, entities and requests for tests that
// compare ways to evaluate them: every operator that Cedar has and the schema
// admits, over a world so small that rules and requests often meet.
package rulegen
