// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package ops is the service ron-metrics: what operators and their tools ask of
// a node. The four probes /healthz, /readyz, /version and /metrics need no
// capability and are never shed; everything below /v1/admin crosses the wall
// like any other route, and what changes something there is on record before it
// is done. The documents /openapi.json and /schemas describe the node to
// programs.
//
// The service owns none of what it shows: node passes in small interfaces.
package ops
