// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package breaker keeps calls away from a dependency that is not there, so that
// they fail at once in place of waiting, and lets them back as soon as it is.
//
// A breaker stands before one dependency. It is closed while the dependency
// answers. It opens after so many failures in a row, or where nothing has come
// back for a while though calls wait. Open, it refuses, and says when it will
// try again; then it is half open: a few calls, and the breaker's own probe, find
// out. One failure opens it again, for twice as long; enough answers close it.
//
// What counts is whether the dependency is there, not whether the answer pleases:
// "not found", "disk full" and damaged bytes are answers. So are a caller's own
// deadline and departure no failures, or else callers could open it at will.
//
// An operator may force a breaker open or closed, for a time or until it is set
// back to automatic. A forced state does not outlive the process.
package breaker
