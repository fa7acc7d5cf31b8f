// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package storetest is what a store must pass: KV and Objects for every driver
// and wrapper; KVCrash, KVFaults, ObjectsCrash and ObjectsFaults for those that
// keep files, ObjectsReopen too, and KVKill and ObjectsKill for those that keep
// real ones.
//
// The crash suites lose, at a random call to the file system, what was not
// synced, and open what is left: everything acknowledged must be there, and
// nothing half-written. MACRONODE_CRASH_SEEDS says how many crashes (200; 10 with
// -short), MACRONODE_CRASH_SEED tries one again (writers are concurrent, so it may
// take a few tries). MACRONODE_KILL_ROUNDS says how many kills (10; 2 with -short).
package storetest

import (
	"os"
	"strconv"
	"testing"
)

// seeds returns the seeds of a crash suite.
func seeds(t *testing.T) []uint64 {
	t.Helper()
	if s := os.Getenv("MACRONODE_CRASH_SEED"); s != "" {
		return []uint64{uint64(number(t, s))}
	}
	n := 200
	if testing.Short() {
		n = 10
	}
	if s := os.Getenv("MACRONODE_CRASH_SEEDS"); s != "" {
		n = number(t, s)
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("a crash seed or count is a positive number, not %q", s)
	}
	return n
}
