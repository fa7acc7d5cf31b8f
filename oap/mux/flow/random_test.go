// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRandomHistories goes where the walk through all histories cannot: larger
// windows, more streams.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.IntRange(1, 6).Draw(t, "stream window")
		quarter := rapid.IntRange(1, 3).Draw(t, "quarter")
		w := sizes{stream: stream, conn: 4 * quarter, quarter: quarter, streams: rapid.IntRange(1, 5).Draw(t, "streams")}
		setAside := rapid.Bool().Draw(t, "set aside")
		calls := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) script {
			return script{
				request: rapid.IntRange(1, 9).Draw(t, "request"), answer: rapid.IntRange(1, 9).Draw(t, "answer"),
				cancel: rapid.Bool().Draw(t, "cancel"), fail: rapid.Bool().Draw(t, "fail"), early: rapid.Bool().Draw(t, "early"),
			}
		}), 1, 8).Draw(t, "calls")
		world := newWorld(w, setAside, calls)
		for {
			steps := world.steps()
			if len(steps) == 0 {
				break
			}
			if err := steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")](world); err != nil {
				t.Fatal(err)
			}
		}
		if err := world.done(); err != nil {
			t.Fatal(err)
		}
	})
}
