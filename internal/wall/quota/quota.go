// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package quota is the wall's third stage: what a tenant and a capability may
// use over time, and how much at once.
//
// Limits are read from the tenant's snapshot at every call, so a change applies
// to the next one. Body bytes are charged in advance as far as their length is
// known and fits the burst; the rest is owed when the call ends, and later
// calls wait for it.
package quota

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// maxRateBuckets bounds the buckets of rate caveats. A full table refuses:
// forgetting a bucket in use would hand its holder a fresh burst.
const maxRateBuckets = 65536

// Meter counts what is used. It is safe for concurrent use.
type Meter struct {
	mu      sync.RWMutex
	tenants map[macronode.TenantID]*usage // guarded by mu

	rmu   sync.Mutex
	rates map[[32]byte]*bucket // guarded by rmu
	swept time.Time            // guarded by rmu: last search for idle buckets
	limit int                  // of rates
}

// minRetry is the least that a refusal tells a client to wait.
const minRetry = 10 * time.Millisecond

type usage struct {
	requests, bytes bucket
	inflight        atomic.Int64
	stay            atomic.Int64 // how long calls are in flight, on average, in nanoseconds
}

var _ wall.Meter = (*Meter)(nil)

// New returns a meter that has counted nothing.
func New() *Meter {
	return &Meter{tenants: make(map[macronode.TenantID]*usage), rates: make(map[[32]byte]*bucket), limit: maxRateBuckets}
}

func (m *Meter) usage(id macronode.TenantID) *usage {
	m.mu.RLock()
	u := m.tenants[id]
	m.mu.RUnlock()
	if u != nil {
		return u
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if u = m.tenants[id]; u == nil {
		u = &usage{}
		m.tenants[id] = u
	}
	return u
}

// Purge drops what was counted for a deleted tenant.
func (m *Meter) Purge(_ context.Context, id macronode.TenantID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tenants, id)
	return nil
}

// InFlight is the number of the tenant's calls that run now, long-running ones
// left out.
func (m *Meter) InFlight(id macronode.TenantID) int64 { return m.usage(id).inflight.Load() }

// Take implements wall.Meter.
func (m *Meter) Take(now time.Time, t *macronode.Tenant, p *macronode.Principal, b *macronode.Binding, bytes int64) (wall.Charge, error) {
	u, q := m.usage(t.ID), &t.Quota
	c := wall.Charge{Tenant: t, Taken: now}
	if err := m.takeRates(now, p); err != nil {
		return c, err
	}
	if q.RequestsPerSec != macronode.NoLimit {
		if wait, ok := u.requests.take(now, max(b.Cost, 1), q.RequestsPerSec, q.RequestBurst); !ok {
			return c, refusal("requests", q.RequestsPerSec, q.RequestBurst, wait)
		}
	}
	if q.BytesPerSec != macronode.NoLimit {
		c.Bytes = max(min(bytes, q.ByteBurst), 0)
		if wait, ok := u.bytes.take(now, c.Bytes, q.BytesPerSec, q.ByteBurst); !ok {
			if q.RequestsPerSec != macronode.NoLimit {
				u.requests.owe(now, -max(b.Cost, 1), q.RequestsPerSec)
			}
			return c, refusal("bytes", q.BytesPerSec, q.ByteBurst, wait)
		}
	}
	if !b.LongRunning {
		if n := u.inflight.Add(1); q.InFlight != macronode.NoLimit && n > q.InFlight {
			u.inflight.Add(-1)
			return c, u.crowded(q.InFlight)
		}
		c.Slot = u
	}
	c.Header = u.standing(now, q)
	return c, nil
}

// Settle implements wall.Meter.
func (m *Meter) Settle(now time.Time, c wall.Charge, moved int64) {
	if u, ok := c.Slot.(*usage); ok {
		u.inflight.Add(-1)
		// Calls that end at once may overwrite each other's part in the mean.
		old := u.stay.Load()
		u.stay.Store(old + (int64(now.Sub(c.Taken))-old)/8)
	}
	if q := &c.Tenant.Quota; q.BytesPerSec != macronode.NoLimit && moved != c.Bytes {
		m.usage(c.Tenant.ID).bytes.owe(now, moved-c.Bytes, q.BytesPerSec)
	}
}

func refusal(what string, perSec, burst int64, wait time.Duration) error {
	e := macronode.Errorf(macronode.QuotaRate, "the tenant may use %d %s a second", perSec, what)
	return exhausted(e, what, perSec, burst, wait)
}

// exhausted completes the refusal of a bucket that is empty.
func exhausted(e *macronode.Error, what string, perSec, burst int64, wait time.Duration) error {
	var f fields
	f.rate(what, perSec, burst, 0, wait)
	e.RetryAfter, e.Header = wait, f.header()
	return e
}

// crowded refuses a call of a tenant that has as many inside as it may. One of
// them ends, on average, after the time that they stay divided by their number.
func (u *usage) crowded(most int64) error {
	e := macronode.Errorf(macronode.QuotaInFlight, "the tenant may have %d calls in flight", most)
	if stay := u.stay.Load(); most > 0 && stay > 0 {
		e.RetryAfter = max(time.Duration(stay/most), minRetry)
	}
	var f fields
	f.count("in_flight", most, 0)
	e.Header = f.header()
	return e
}

func (m *Meter) takeRates(now time.Time, p *macronode.Principal) error {
	for i := range p.Rates {
		r := &p.Rates[i]
		b, ok := m.rate(now, r.Key)
		if !ok {
			return macronode.Errorf(macronode.QuotaRate, "too many rate-limited capabilities are in use")
		}
		if wait, ok := b.take(now, 1, r.PerSec, r.Burst); !ok {
			e := macronode.Errorf(macronode.QuotaRate, "the capability allows %d requests a second", r.PerSec)
			return exhausted(e, "capability", r.PerSec, r.Burst, wait)
		}
	}
	return nil
}

func (m *Meter) rate(now time.Time, key [32]byte) (*bucket, bool) {
	m.rmu.Lock()
	defer m.rmu.Unlock()
	if b := m.rates[key]; b != nil {
		return b, true
	}
	if len(m.rates) >= m.limit {
		// The search is long, so a flood of new keys gets one a second.
		if now.Sub(m.swept) < time.Second {
			return nil, false
		}
		m.swept = now
		for k, b := range m.rates {
			if b.idle(now) {
				delete(m.rates, k)
			}
		}
		if len(m.rates) >= m.limit {
			return nil, false
		}
	}
	b := &bucket{}
	m.rates[key] = b
	return b, true
}
