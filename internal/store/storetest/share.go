// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Must fails a test that has an error.
func Must(t testing.TB, err error) {
	t.Helper()
	must(t, err)
}

// Seeds returns the seeds of a crash suite.
func Seeds(t *testing.T) []uint64 { t.Helper(); return seeds(t) }

// Rounds returns the number of kills.
func Rounds(t *testing.T) int { t.Helper(); return rounds(t) }

// KillDir tells a test binary that it is the process to be killed, and where it is
// to write.
const KillDir = killDir

// Killed runs this test in another process, takes its lines with line, and kills it
// after some of them.
func Killed(t *testing.T, dir string, after int, line func(string)) {
	t.Helper()
	killed(t, dir, after, line)
}

// Child writes lines for Killed, whole ones, from many goroutines.
type Child struct{ child child }

// Say writes a line.
func (c *Child) Say(format string, args ...any) { c.child.say(format, args...) }

// Fault is what a call to the file system fails with.
type Fault struct {
	Name    string
	Err     error
	Lasting bool // every call of the same kind after it, too
}

// Faults are the faults of the suites.
func Faults() (list []Fault) {
	for _, f := range faults {
		list = append(list, Fault{f.name, f.err, f.lasting})
	}
	return list
}

// SpaceNeeded reports whether a full disk may refuse an operation.
func SpaceNeeded(k errorfs.OpKind) bool { return spaceNeeded(k) }
