// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package budget

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBudget: what is earned by calls and by time, and never above the burst.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(0.25, 1, 3)
		drain := func() (n int) {
			for b.Take() {
				n++
			}
			return n
		}
		if n := drain(); n != 3 {
			t.Errorf("%d retries at first, want 3", n)
		}
		for range 8 {
			b.Call()
		}
		if n := drain(); n != 2 {
			t.Errorf("%d retries after 8 calls, want 2", n)
		}
		<-time.After(time.Second)
		if n := drain(); n != 1 {
			t.Errorf("%d retries after a second, want 1", n)
		}
		<-time.After(time.Hour)
		for range 100 {
			b.Call()
		}
		if n := drain(); n != 3 {
			t.Errorf("%d retries were saved up, want 3", n)
		}
		if calls, retries, denied := b.Counts(); calls != 108 || retries != 9 || denied != 4 {
			t.Errorf("counted %d calls, %d retries, %d denied", calls, retries, denied)
		}
	})
}
