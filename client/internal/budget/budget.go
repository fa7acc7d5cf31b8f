// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package budget bounds retries by what calls and time earn.
package budget

import (
	"sync"
	"sync/atomic"
	"time"
)

// Budget is a number of retries. It is safe for concurrent use.
type Budget struct {
	ratio, perSec, burst   float64
	calls, retries, denied atomic.Uint64

	mu   sync.Mutex
	left float64
	at   time.Time // when left was true
}

// New returns a full budget: a call earns ratio of a retry, a second perSec, and
// burst is the most that it holds.
func New(ratio, perSec, burst float64) *Budget {
	return &Budget{ratio: ratio, perSec: perSec, burst: burst, left: burst, at: time.Now()}
}

// Call counts a call.
func (b *Budget) Call() {
	b.calls.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+b.ratio, b.burst)
}

// Take reports whether one more try may be made, and counts it.
func (b *Budget) Take() bool {
	b.mu.Lock()
	now := time.Now()
	b.left = min(b.left+now.Sub(b.at).Seconds()*b.perSec, b.burst)
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	b.mu.Unlock()
	if ok {
		b.retries.Add(1)
	} else {
		b.denied.Add(1)
	}
	return ok
}

// Counts is how many calls there were, retries taken, and retries denied.
func (b *Budget) Counts() (calls, retries, denied uint64) {
	return b.calls.Load(), b.retries.Load(), b.denied.Load()
}
