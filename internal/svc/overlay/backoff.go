// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"math/rand/v2"
	"time"
)

// Between two attempts lie firstWait to lastWait, doubling, a quarter more or
// less. lastWait and the time of an attempt together are less than the two
// seconds within which a session is back once its link is.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 600 * time.Millisecond
	// settled is how long a session lasts that the next begins at firstWait after.
	settled = 5 * time.Second
)

// backoff is the wait before the next attempt. The zero value waits for nothing.
type backoff struct{ wait time.Duration }

// fail makes the next wait longer.
func (b *backoff) fail() { b.wait = min(max(2*b.wait, firstWait), lastWait) }

func (b *backoff) reset() { b.wait = 0 }

// next is the wait, with jitter, so that two nodes that lost each other do not
// meet in step.
func (b *backoff) next() time.Duration {
	if b.wait == 0 {
		return 0
	}
	return b.wait*3/4 + rand.N(b.wait/2)
}
