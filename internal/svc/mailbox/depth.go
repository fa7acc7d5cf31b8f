// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"sync"
	"time"

	"github.com/rustyonions/macronode"
)

// Bounds of how old a count of a tenant's messages may be.
const (
	countAtLeast = 10 * time.Millisecond // between two counts
	countAtMost  = time.Second           // a redrive may have added to it
)

// Bounds of the waits that a full tenant is told.
const (
	minDepthWait = 50 * time.Millisecond
	maxDepthWait = time.Minute
)

// pending holds tenants to their queue_depth. It knows a count of the tenant's
// messages and what was sent since, which is never less than there are but for
// what a redrive brought back; only where that reaches the quota is counted anew.
type pending struct {
	mu sync.Mutex
	of map[macronode.TenantID]*depth // guarded by mu
}

type depth struct {
	counted int64
	since   int64 // sent after it was counted
	running int64 // being sent: counted or not
	at      time.Time
	rate    float64 // messages that leave, a second, as last seen; 0: none do
}

// take lets n more messages of the tenant in, or refuses.
func (p *pending) take(b Broker, now time.Time, tenant macronode.TenantID, n, most int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.of[tenant]
	if d == nil {
		if p.of == nil {
			p.of = make(map[macronode.TenantID]*depth)
		}
		d = &depth{}
		p.of[tenant] = d
	}
	old := now.Sub(d.at)
	if d.at.IsZero() || old >= countAtMost || old >= countAtLeast && d.counted+d.since+n > most {
		d.count(b.Waiting(tenant), now)
	}
	if over := d.counted + d.since + n - most; over > 0 {
		return &macronode.Error{Kind: macronode.QuotaDepth, RetryAfter: d.wait(over), Detail: "the tenant's topics hold as many messages as its quota allows"}
	}
	d.since += n
	d.running += n
	return nil
}

// count takes in a fresh count, and how many messages left since the last one.
func (d *depth) count(n int64, now time.Time) {
	if passed := now.Sub(d.at); !d.at.IsZero() && passed > 0 {
		left := float64(max(d.counted+d.since-d.running-n, 0)) / passed.Seconds()
		d.rate = (d.rate + left) / 2
	}
	d.counted, d.since, d.at = n, d.running, now
}

// wait is how long n messages take to leave at the rate that was seen.
func (d *depth) wait(n int64) time.Duration {
	if d.rate <= 0 {
		return maxDepthWait
	}
	return time.Duration(min(max(float64(n)/d.rate, minDepthWait.Seconds()), maxDepthWait.Seconds()) * float64(time.Second))
}

// done notes that a send of n messages has ended, of which the topic refused some.
func (p *pending) done(tenant macronode.TenantID, n, refused int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.of[tenant]
	d.running -= n
	d.since -= refused
}
