// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package quota

import (
	"math"
	"sync/atomic"
	"time"
)

// maxUnits bounds what one step charges, so that the arithmetic below cannot
// overflow: 2^32 units at one a second are 136 years of nanoseconds.
const maxUnits = 1 << 32

// bucket is a token bucket in its theoretical-arrival-time form (GCRA, ITU-T
// I.371): one word says when the bucket will be full again, so charging is one
// compare-and-swap and a change of rate applies to the very next call.
type bucket struct{ full atomic.Int64 } // unix nanoseconds

func span(units, perSec int64) int64 {
	units = min(units, maxUnits)
	if units > math.MaxInt64/int64(time.Second) {
		return units / perSec * int64(time.Second)
	}
	return units * int64(time.Second) / perSec
}

// take charges n units where burst allows it, or reports how long to wait.
func (b *bucket) take(now time.Time, n, perSec, burst int64) (time.Duration, bool) {
	if perSec <= 0 || burst <= 0 {
		return time.Second, false
	}
	at, cost, room := now.UnixNano(), span(n, perSec), span(burst, perSec)
	for {
		old := b.full.Load()
		full := max(old, at) + cost
		if full-at > room {
			return time.Duration(full - at - room), false
		}
		if b.full.CompareAndSwap(old, full) {
			return 0, true
		}
	}
}

// left is what the bucket has at the moment, and how long it takes to fill up.
func (b *bucket) left(now time.Time, perSec, burst int64) (n int64, reset time.Duration) {
	if perSec <= 0 || burst <= 0 {
		return 0, 0
	}
	due := max(b.full.Load()-now.UnixNano(), 0)
	free := max(span(burst, perSec)-due, 0)
	// In two steps, so that neither product overflows.
	n = free/int64(time.Second)*perSec + free%int64(time.Second)*min(perSec, maxUnits)/int64(time.Second)
	return min(n, burst), time.Duration(due)
}

// owe charges n units whatever the bucket holds; later calls wait it out.
// Negative n gives units back.
func (b *bucket) owe(now time.Time, n, perSec int64) {
	if perSec <= 0 {
		return
	}
	at, cost := now.UnixNano(), span(n, perSec)
	for {
		old := b.full.Load()
		if b.full.CompareAndSwap(old, max(old, at)+cost) {
			return
		}
	}
}

// idle reports whether the bucket is full, so that forgetting it changes nothing.
func (b *bucket) idle(now time.Time) bool { return b.full.Load() <= now.UnixNano() }
