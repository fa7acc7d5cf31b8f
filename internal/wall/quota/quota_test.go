// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package quota

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

var (
	start = time.Unix(1_700_000_000, 0)
	route = &macronode.Binding{Op: "x"}
)

func tenant(edit func(q *macronode.Quota)) *macronode.Tenant {
	t := &macronode.Tenant{ID: macronode.TenantID{9}, Quota: macronode.UnlimitedQuota()}
	edit(&t.Quota)
	return t
}

func principal() *macronode.Principal { return &macronode.Principal{MaxBytes: macronode.NoLimit} }

func TestRequestRate(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) { q.RequestsPerSec, q.RequestBurst = 10, 3 })
	for i := range 3 {
		if _, err := m.Take(start, tn, principal(), route, 0); err != nil {
			t.Fatalf("call %d of the burst: %v", i, err)
		}
	}
	_, err := m.Take(start, tn, principal(), route, 0)
	e := macronode.AsError(err)
	if e == nil || e.Kind != macronode.QuotaRate || e.RetryHint() != 100*time.Millisecond {
		t.Fatalf("over the burst: %v, wait %v", err, e.RetryHint())
	}
	if e.Header.Get("Ratelimit") != `"requests";r=0;t=1` || e.Header.Get("Ratelimit-Policy") != `"requests";q=10;w=1` {
		t.Errorf("headers %v", e.Header)
	}
	// Retry-After tells the truth: at that moment, and not before, a call passes.
	if _, err := m.Take(start.Add(99*time.Millisecond), tn, principal(), route, 0); err == nil {
		t.Error("passed too early")
	}
	if _, err := m.Take(start.Add(100*time.Millisecond), tn, principal(), route, 0); err != nil {
		t.Errorf("refused after the announced wait: %v", err)
	}
	// A live change applies to the next call.
	faster := *tn
	faster.Quota.RequestsPerSec, faster.Quota.RequestBurst = macronode.NoLimit, macronode.NoLimit
	if _, err := m.Take(start, &faster, principal(), route, 0); err != nil {
		t.Errorf("after the limit was lifted: %v", err)
	}
}

func TestZeroForbids(t *testing.T) {
	for name, edit := range map[string]func(q *macronode.Quota){
		"requests": func(q *macronode.Quota) { q.RequestsPerSec, q.RequestBurst = 0, 0 },
		"bytes":    func(q *macronode.Quota) { q.BytesPerSec, q.ByteBurst = 0, 0 },
		"inflight": func(q *macronode.Quota) { q.InFlight = 0 },
	} {
		if _, err := New().Take(start, tenant(edit), principal(), route, 1); err == nil {
			t.Errorf("%s: a quota of zero let a call pass", name)
		}
	}
}

func TestBytesAreOwed(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) { q.BytesPerSec, q.ByteBurst = 1000, 500 })
	c, err := m.Take(start, tn, principal(), route, 5000) // more than the burst ever holds
	if err != nil || c.Bytes != 500 {
		t.Fatalf("%v, charged %d", err, c.Bytes)
	}
	m.Settle(start, c, 5000)
	// 5000 bytes at 1000 a second: the next 500 fit after 5 s.
	if _, err := m.Take(start.Add(4900*time.Millisecond), tn, principal(), route, 500); err == nil {
		t.Error("the debt was forgotten")
	}
	if _, err := m.Take(start.Add(5*time.Second), tn, principal(), route, 500); err != nil {
		t.Errorf("the debt is paid, yet %v", err)
	}
	// What was charged and not moved is given back.
	m = New()
	c, _ = m.Take(start, tn, principal(), route, 500)
	m.Settle(start, c, 0)
	if _, err := m.Take(start, tn, principal(), route, 500); err != nil {
		t.Errorf("unused bytes were kept: %v", err)
	}
}

// A call that is refused for its bytes has not used up a request.
func TestRefusedBytesCostNoRequest(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) {
		q.RequestsPerSec, q.RequestBurst, q.BytesPerSec, q.ByteBurst = 1, 2, 1000, 500
	})
	if _, err := m.Take(start, tn, principal(), route, 500); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := m.Take(start, tn, principal(), route, 500); macronode.KindOf(err) != macronode.QuotaRate {
			t.Fatalf("over the bytes: %v", err)
		}
	}
	if _, err := m.Take(start, tn, principal(), route, 0); err != nil {
		t.Errorf("the second request of the burst: %v", err)
	}
	if _, err := m.Take(start, tn, principal(), route, 0); err == nil {
		t.Error("a third request of a burst of two passed")
	}
}

func TestInFlight(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) { q.InFlight = 2 })
	a, _ := m.Take(start, tn, principal(), route, 0)
	m.Take(start, tn, principal(), route, 0)
	if _, err := m.Take(start, tn, principal(), route, 0); macronode.KindOf(err) != macronode.QuotaInFlight {
		t.Fatalf("third call: %v", err)
	}
	if _, err := m.Take(start, tn, principal(), &macronode.Binding{LongRunning: true}, 0); err != nil {
		t.Errorf("a long-running call counts elsewhere: %v", err)
	}
	m.Settle(start, a, 0)
	if _, err := m.Take(start, tn, principal(), route, 0); err != nil || m.InFlight(tn.ID) != 2 {
		t.Errorf("after one ended: %v, %d in flight", err, m.InFlight(tn.ID))
	}
}

func TestCapabilityRates(t *testing.T) {
	m := New()
	m.limit = 2
	tn := tenant(func(*macronode.Quota) {})
	with := func(key byte) *macronode.Principal {
		p := principal()
		p.Rates = []macronode.Rate{{Key: [32]byte{key}, PerSec: 1, Burst: 1}}
		return p
	}
	for _, key := range []byte{1, 2} {
		if _, err := m.Take(start, tn, with(key), route, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Take(start, tn, with(1), route, 0); macronode.KindOf(err) != macronode.QuotaRate {
		t.Errorf("second call in the second: %v", err)
	}
	if _, err := m.Take(start, tn, with(3), route, 0); macronode.KindOf(err) != macronode.QuotaRate {
		t.Errorf("a full table must refuse: %v", err)
	}
	if _, err := m.Take(start.Add(2*time.Second), tn, with(3), route, 0); err != nil {
		t.Errorf("idle buckets make room: %v", err)
	}
}

// TestNeverOverRate is the bucket's law: in any window of length d at most
// burst + d*rate units pass.
func TestNeverOverRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1_000_000).Draw(t, "rate")
		burst := rapid.Int64Range(1, 1000).Draw(t, "burst")
		var b bucket
		now, passed := start, int64(0)
		for _, step := range rapid.SliceOfN(rapid.IntRange(0, 1_000_000), 1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(step) * time.Microsecond / 10)
			if _, ok := b.take(now, 1, rate, burst); ok {
				passed++
			}
		}
		// span rounds a unit's time down, by less than one part in 1000 at these rates.
		if allowed := float64(burst) + now.Sub(start).Seconds()*float64(rate)*1.001 + 1; float64(passed) > allowed {
			t.Fatalf("%d passed, at most %f may", passed, allowed)
		}
	})
}

func TestConcurrentTakes(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) { q.RequestsPerSec, q.RequestBurst = 1, 100 })
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 50 {
				if _, err := m.Take(start, tn, principal(), route, 0); err == nil {
					passed.Add(1)
				}
			}
		})
	}
	if wg.Wait(); passed.Load() != 100 {
		t.Errorf("%d of 3200 passed a burst of 100", passed.Load())
	}
}

func BenchmarkTakeSettle(b *testing.B) {
	m := New()
	tn := tenant(func(q *macronode.Quota) {
		q.RequestsPerSec, q.RequestBurst, q.BytesPerSec, q.ByteBurst = 1e9, 1e9, 1e9, 1e9
	})
	p := principal()
	b.ReportAllocs()
	for b.Loop() {
		c, err := m.Take(start, tn, p, route, 10)
		if err != nil {
			b.Fatal(err)
		}
		m.Settle(start, c, 20)
	}
}

// TestStandingOnSuccess: a caller with rate quotas is told what is left, in the
// units that each counts in, and one without is told nothing.
func TestStandingOnSuccess(t *testing.T) {
	m := New()
	if c, err := m.Take(start, tenant(func(*macronode.Quota) {}), principal(), route, 0); err != nil || c.Header != nil {
		t.Errorf("without quotas: %v %v", c.Header, err)
	}
	tn := tenant(func(q *macronode.Quota) {
		q.RequestsPerSec, q.RequestBurst, q.BytesPerSec, q.ByteBurst = 10, 40, 1000, 500
	})
	c, err := m.Take(start, tn, principal(), route, 200)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Header.Get("Ratelimit-Policy"); got != `"requests";q=40;w=4, "bytes";q=1000;w=1;qu="content-bytes"` {
		t.Errorf("policy %s", got)
	}
	if got := c.Header.Get("Ratelimit"); got != `"requests";r=39;t=1, "bytes";r=300;t=1` {
		t.Errorf("limit %s", got)
	}
	for i := range 39 {
		if _, err := m.Take(start, tn, principal(), route, 0); err != nil {
			t.Fatalf("%d were left, call %d of them was refused: %v", 39, i+1, err)
		}
	}
	if _, err := m.Take(start, tn, principal(), route, 0); err == nil {
		t.Error("more than were left")
	}
	huge := tenant(func(q *macronode.Quota) { q.BytesPerSec, q.ByteBurst = 1<<40, 1<<40 })
	huge.ID = macronode.TenantID{8}
	if c, err = m.Take(start, huge, principal(), route, 0); err != nil || !strings.Contains(c.Header.Get("Ratelimit"), "r=") || strings.Contains(c.Header.Get("Ratelimit"), "-") {
		t.Errorf("%v %v", c.Header, err)
	}
}

// TestCrowdedSaysWhen: the wait is what it takes until one of the calls ends.
func TestCrowdedSaysWhen(t *testing.T) {
	m := New()
	tn := tenant(func(q *macronode.Quota) { q.InFlight = 4 })
	now := start
	for range 100 {
		c, err := m.Take(now, tn, principal(), route, 0)
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Second)
		m.Settle(now, c, 0)
	}
	for range 4 {
		if _, err := m.Take(now, tn, principal(), route, 0); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.Take(now, tn, principal(), route, 0)
	e := macronode.AsError(err)
	if wait := e.RetryHint(); wait < 450*time.Millisecond || wait > 500*time.Millisecond {
		t.Errorf("four calls of 2 s each: wait %v", wait)
	}
	if e.Header.Get("Ratelimit-Policy") != `"in_flight";q=4;qu="concurrent-requests"` || e.Header.Get("Ratelimit") != `"in_flight";r=0` {
		t.Errorf("%v", e.Header)
	}
}
