// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"testing"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// An ACK that was asked for comes at once, and again as soon as the frame that
// asked is consumed, however late that is.
func TestAckThatWasAskedFor(t *testing.T) {
	table := NewTable(false, false, false)
	table.Grant(8, 8)
	drain := func() map[uint64]uint64 {
		m := map[uint64]uint64{}
		for f, ok := table.Take(time.Time{}); ok; f, ok = table.Take(time.Time{}) {
			m[f.Header.Corr] = f.Count
		}
		return m
	}
	h := oap.Header{Len: oap.HeaderBytes + 1, Flags: oap.REQ | oap.START | oap.ACKREQ, App: 1, Corr: 1}
	l, _, f := table.Arrive(&h, time.Time{})
	if f != nil {
		t.Fatal(f)
	}
	if got := drain(); len(got) != 2 || got[0] != 0 || got[1] != 0 {
		t.Errorf("at once: %v", got)
	}
	table.Consume(l, 1)
	if got := drain(); got[1] != 1 {
		t.Errorf("once it is consumed: %v", got)
	}
}

// What was discarded is not credited again when its reader comes back.
func TestDiscardedIsCreditedOnce(t *testing.T) {
	table := NewTable(false, false, false)
	table.Grant(8, 8)
	h := oap.Header{Len: oap.HeaderBytes + 1, Flags: oap.REQ | oap.START, App: 1, Corr: 1}
	l, _, f := table.Arrive(&h, time.Time{})
	if f != nil {
		t.Fatal(f)
	}
	table.Fail(l, 500, nil)
	table.Consume(l, 1)
	if table.used != 1 || table.got != 1 {
		t.Errorf("%d of %d frames are credited", table.used, table.got)
	}
}
