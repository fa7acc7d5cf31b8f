// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package logtest is what a store.Log must pass: Log for every driver; LogCrash,
// LogFaults, LogForget and LogDamage for those that keep files, LogKill for those
// that keep real ones. The variables of storetest say how often.
package logtest
