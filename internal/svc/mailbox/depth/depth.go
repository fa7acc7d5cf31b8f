// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package depth holds tenants to their queue_depth without counting their messages
// at each send.
package depth

import (
	"sync"
	"time"

	"github.com/rustyonions/macronode"
)

// Bounds of how old a count of a tenant's messages may be.
const (
	CountAtLeast = 10 * time.Millisecond // between two counts
	CountAtMost  = time.Second           // a redrive may have added to it
)

// Bounds of the waits that a full tenant is told.
const (
	MinWait = 50 * time.Millisecond
	MaxWait = time.Minute
)

// Keeper knows, for each tenant, a count of its messages and what was sent since,
// which is never less than there are but for what a redrive brought back; only where
// that reaches the quota are they counted anew. The zero value is ready; it is safe
// for concurrent use.
type Keeper struct {
	mu sync.Mutex
	of map[macronode.TenantID]*tenant // guarded by mu
}

type tenant struct {
	counted int64
	since   int64 // sent after it was counted
	running int64 // being sent: counted or not
	at      time.Time
	rate    float64 // messages that leave, a second, as last seen; 0: none do
}

// Take lets n more messages of a tenant in, of which most are allowed, or refuses;
// Done follows each that it let in. waiting counts the tenant's messages.
func (p *Keeper) Take(now time.Time, id macronode.TenantID, n, most int64, waiting func(macronode.TenantID) int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.of[id]
	if d == nil {
		if p.of == nil {
			p.of = make(map[macronode.TenantID]*tenant)
		}
		d = &tenant{}
		p.of[id] = d
	}
	old := now.Sub(d.at)
	if d.at.IsZero() || old >= CountAtMost || old >= CountAtLeast && d.counted+d.since+n > most {
		d.count(waiting(id), now)
	}
	if over := d.counted + d.since + n - most; over > 0 {
		return &macronode.Error{Kind: macronode.QuotaDepth, RetryAfter: d.wait(over), Detail: "the tenant's topics hold as many messages as its quota allows"}
	}
	d.since += n
	d.running += n
	return nil
}

// count takes in a fresh count, and how many messages left since the last one.
func (d *tenant) count(n int64, now time.Time) {
	if passed := now.Sub(d.at); !d.at.IsZero() && passed > 0 {
		left := float64(max(d.counted+d.since-d.running-n, 0)) / passed.Seconds()
		d.rate = (d.rate + left) / 2
	}
	d.counted, d.since, d.at = n, d.running, now
}

// wait is how long n messages take to leave at the rate that was seen.
func (d *tenant) wait(n int64) time.Duration {
	if d.rate <= 0 {
		return MaxWait
	}
	return time.Duration(min(max(float64(n)/d.rate, MinWait.Seconds()), MaxWait.Seconds()) * float64(time.Second))
}

// Done notes that a send of n messages has ended, of which the topic refused some.
func (p *Keeper) Done(id macronode.TenantID, n, refused int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.of[id]
	d.running -= n
	d.since -= refused
}
