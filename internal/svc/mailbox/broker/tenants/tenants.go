// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package tenants holds tenants to what all of their topics may hold together.
package tenants

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
)

// Kind is one of the things that are bounded.
type Kind int

// The kinds.
const (
	Messages Kind = iota // that wait, are leased or dead
	Bytes                // of their records
	InFlight             // leased
	Keys                 // idempotency keys remembered
	Waiting              // messages that are not dead; counted, not bounded
	kinds
)

// Load is how much there is of each kind. As a limit, 0 is none.
type Load [kinds]int64

// refreshEvery is how often an account that is full has its topics counted anew, in
// ms: what ends by time alone, as keys do, is known only when a topic is looked at.
const refreshEvery = 1000

// Account is one tenant's. It is safe for concurrent use.
type Account struct {
	// Topics is how many there are; it is guarded by who keeps the topics.
	Topics int

	sum [kinds]atomic.Int64

	mu        sync.Mutex // guards what is below it
	drains    [kinds]wait.Drain
	refreshed int64 // mailbox time
}

// Wait is how long n of a kind take to go at the rate that was seen.
func (a *Account) Wait(k Kind, now, n int64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drains[k].For(now, n, 0)
}

// Stale reports whether some limit is reached and the topics were not looked at for a
// second; the caller is to do that.
func (a *Account) Stale(now int64, most *Load) bool {
	full := false
	for k, limit := range most {
		full = full || limit > 0 && a.sum[k].Load() >= limit
	}
	if !full {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now-a.refreshed < refreshEvery {
		return false
	}
	a.refreshed = now
	return true
}

// Sum is how much of a kind the tenant has.
func (a *Account) Sum(k Kind) int64 { return a.sum[k].Load() }

// Share is a topic's part of its tenant's account. The topic's lock guards it.
type Share struct {
	Of  *Account
	has Load
}

// Set makes the topic's part what it holds.
func (s *Share) Set(now int64, l Load) {
	for k := range l {
		d := l[k] - s.has[k]
		if d == 0 {
			continue
		}
		s.Of.sum[k].Add(d)
		if d < 0 {
			s.Of.mu.Lock()
			s.Of.drains[k].Gone(now, -d)
			s.Of.mu.Unlock()
		}
	}
	s.has = l
}

// Take adds n of a kind to the topic's part, ahead of Set, unless that would be more
// than most for the tenant.
func (s *Share) Take(k Kind, n, most int64) bool { return s.TakeUpTo(k, n, n, most) == n }

// TakeUpTo is Take of as much of n as there is room for, where that is at least least;
// otherwise of nothing.
func (s *Share) TakeUpTo(k Kind, least, n, most int64) int64 {
	if most <= 0 {
		return n // Set counts it
	}
	for {
		sum := s.Of.sum[k].Load()
		n = min(n, most-sum)
		if n < least || n <= 0 {
			return 0
		}
		if s.Of.sum[k].CompareAndSwap(sum, sum+n) {
			s.has[k] += n
			return n
		}
	}
}
