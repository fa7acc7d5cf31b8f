// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package bus carries kernel events from those who notice something to those
// who want to know. It keeps the newest Kept events and no more: a publisher
// never waits, and a subscriber that falls behind loses the oldest, is told how
// many, and is counted in bus_lagged_total.
//
// Events reach every subscriber in one order, that of their sequence numbers.
package bus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

// Kept is how many events are remembered.
const Kept = 1024

// Bus is the kernel's event bus. A nil *Bus takes events and drops them.
type Bus struct {
	log    *slog.Logger
	now    func() time.Time
	lagged *prometheus.CounterVec

	// publishing keeps log lines in the order of sequence numbers.
	publishing sync.Mutex

	mu   sync.Mutex
	ring [Kept]Event // event seq lies at seq%Kept
	head uint64      // seq of the newest; 0: none yet
	news chan struct{}
	subs map[*Subscription]struct{}
}

// New returns an empty bus. services is the closed set of subscriber names that
// bus_lagged_total counts by. log and now may be nil.
func New(reg *metrics.Registry, log *slog.Logger, now func() time.Time, services []string) *Bus {
	if now == nil {
		now = time.Now
	}
	b := &Bus{
		log: logs.Discard(log), now: now, news: make(chan struct{}), subs: map[*Subscription]struct{}{},
		lagged: reg.Counters("bus_lagged_total", "Kernel events that a slow subscriber lost.", []string{"service"}, services),
	}
	reg.Queue("bus", b.depth)
	return b
}

// Publish gives e its sequence number, remembers it, wakes who waits, and logs it.
func (b *Bus) Publish(e Event) {
	if b == nil {
		return
	}
	b.publishing.Lock()
	defer b.publishing.Unlock()
	if e.Time.IsZero() {
		e.Time = b.now()
	}
	b.mu.Lock()
	b.head++
	e.Seq = b.head
	b.ring[e.Seq%Kept] = e
	for s := range b.subs {
		if b.head-s.seen > s.size {
			s.seen++
			s.lost++
			b.lagged.WithLabelValues(s.service).Inc()
		}
	}
	close(b.news)
	b.news = make(chan struct{})
	b.mu.Unlock()
	b.log.LogAttrs(context.Background(), e.level(), e.String(), e.logAttrs()...)
}

// oldest is the lowest sequence number still kept. b.mu is held.
func (b *Bus) oldest() uint64 {
	if b.head < Kept {
		return 1
	}
	return b.head - Kept + 1
}

// After returns at most limit events that follow sequence number after, oldest
// first, the number to ask after next, and how many between were lost. A number
// from the future, as kept by a client over a restart, counts as 0.
func (b *Bus) After(after uint64, limit int) (events []Event, next, lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if after > b.head {
		after = 0
	}
	first := after + 1
	if o := b.oldest(); first < o && b.head > 0 {
		lost = o - first
		first = o
	}
	n := min(uint64(max(limit, 0)), b.head+1-first)
	events = make([]Event, 0, n)
	for seq := first; seq < first+n; seq++ {
		events = append(events, b.ring[seq%Kept])
	}
	return events, first + n - 1, lost
}

// Each is After for readers that know no Event: f gets each event in order.
func (b *Bus) Each(after uint64, limit int, f func(seq uint64, at time.Time, name, service string, attrs map[string]any)) (next, lost uint64) {
	events, next, lost := b.After(after, limit)
	for i := range events {
		e := &events[i]
		f(e.Seq, e.Time, e.Name, e.Service, e.Attrs())
	}
	return next, lost
}

// Wait returns nil once there is an event that follows after, or ctx's error.
func (b *Bus) Wait(ctx context.Context, after uint64) error {
	for {
		b.mu.Lock()
		// A number from the future is one that After would count as 0.
		ready := b.head > 0 && after != b.head
		news := b.news
		b.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// depth is how far the slowest subscriber is behind.
func (b *Bus) depth() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var most uint64
	for s := range b.subs {
		most = max(most, b.head-s.seen)
	}
	return int(most)
}

// Subscription is one reader's place in the stream of events. Its methods are
// for one goroutine at a time.
type Subscription struct {
	bus     *Bus
	service string
	size    uint64

	// under bus.mu
	seen uint64 // seq of the last event delivered or lost
	lost uint64 // not reported yet
}

// Subscribe starts reading with the next event. size is how far the subscriber
// may fall behind before it loses events, at most Kept; 0 means Kept.
func (b *Bus) Subscribe(service string, size int) *Subscription {
	if size <= 0 || size > Kept {
		size = Kept
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Subscription{bus: b, service: service, size: uint64(size), seen: b.head}
	b.subs[s] = struct{}{}
	return s
}

// Next waits for the next event. lost is how many were dropped just before it.
func (s *Subscription) Next(ctx context.Context) (e Event, lost uint64, err error) {
	for {
		s.bus.mu.Lock()
		if s.seen < s.bus.head {
			s.seen++
			e, lost, s.lost = s.bus.ring[s.seen%Kept], s.lost, 0
			s.bus.mu.Unlock()
			return e, lost, nil
		}
		news := s.bus.news
		s.bus.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return Event{}, 0, ctx.Err()
		}
	}
}

// Close ends the subscription; nothing is counted as lost afterwards.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}
