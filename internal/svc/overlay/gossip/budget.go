// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

import "time"

// What one peer may say: so many messages and bytes a second, and as much at once
// as two seconds bring.
const (
	messagesPerSec = 1000
	bytesPerSec    = 2 << 20
	burstSeconds   = 2
)

// bucket is filled by time.
type bucket struct {
	rate, left float64
	at         time.Time
}

func newBucket(rate float64, now time.Time) bucket { return bucket{rate, burstSeconds * rate, now} }

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.left = min(b.left+d*b.rate, burstSeconds*b.rate)
		b.at = now
	}
}

// budget is what a peer has left.
type budget struct{ messages, bytes bucket }

func newBudget(now time.Time) budget {
	return budget{newBucket(messagesPerSec, now), newBucket(bytesPerSec, now)}
}

// take charges a batch, or charges nothing and reports that there is not enough.
func (b *budget) take(now time.Time, messages, bytes int) bool {
	b.messages.fill(now)
	b.bytes.fill(now)
	if b.messages.left < float64(messages) || b.bytes.left < float64(bytes) {
		return false
	}
	b.messages.left -= float64(messages)
	b.bytes.left -= float64(bytes)
	return true
}
