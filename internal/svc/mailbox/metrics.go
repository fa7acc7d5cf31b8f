// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// topTopics is how many topics keep a label value of their own.
const topTopics = 20

// ackBuckets are of times from a send to its ack, in seconds: from a receiver that
// waits to a backlog of a day.
var ackBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 60, 300, 1800, 3600, 21600, 86400}

// requeueWhy are the reasons for which a message comes again.
var requeueWhy = []string{"nack", "lapsed"}

// Metrics are the service's instruments.
type Metrics struct {
	label func(macronode.TenantID) string
	top   *metrics.TopLabels

	sent, delivered, died, requeued *prometheus.CounterVec
	duplicates, damaged, unsent     prometheus.Counter
	sendSeconds, ackSeconds         prometheus.Observer
	subscriptions                   prometheus.Gauge
}

// NewMetrics registers the instruments, once a registry; r may be nil for tests.
// label names a tenant; nil: by its id. Topics are labelled TENANT/TOPIC, the most
// active of them.
func NewMetrics(r *metrics.Registry, label func(macronode.TenantID) string) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	if label == nil {
		label = macronode.TenantID.String
	}
	m := &Metrics{
		label:     label,
		top:       metrics.NewTopLabels(topTopics, "topic", nil),
		sent:      r.Counters("mailbox_enqueue_total", "Messages that were sent and are durable, duplicates not counted; of the most active topics, the others as _other.", []string{"topic"}),
		delivered: r.Counters("mailbox_dequeue_total", "Messages that were delivered, each delivery counted; of the most active topics, the others as _other.", []string{"topic"}),
		died:      r.Counters("mailbox_dlq_total", "Messages that became dead letters, by reason.", []string{"reason"}, deadReasons[:]),
		requeued:  r.Counters("mailbox_requeue_total", "Messages that came back after a delivery: given back, or not acknowledged in time.", []string{"why"}, requeueWhy),

		duplicates:    r.Counter("mailbox_duplicates_total", "Sends that repeated an earlier one with the same idempotency key."),
		damaged:       r.Counter("mailbox_damaged_total", "Messages whose stored bytes were found damaged at delivery."),
		unsent:        r.Counter("mailbox_unsent_total", "Deliveries whose answer could not be sent, given back at once."),
		sendSeconds:   r.Histogram("mailbox_send_seconds", "Time from a send to its durability.", metrics.LatencyBuckets),
		ackSeconds:    r.Histogram("mailbox_ack_seconds", "Time from a message's send to its acknowledgement.", ackBuckets),
		subscriptions: r.Gauge("mailbox_subscriptions", "Open streams of subscriptions."),
	}
	m.top.Attach(m.sent, m.delivered)
	return m
}

// gaugeAge is how old what gauges show may be: the gauges of one scrape share it.
const gaugeAge = time.Second

// gauges are what topics hold, by label value.
type gauges struct {
	mu                            sync.Mutex
	at                            time.Time
	depth, inFlight, dead, oldest map[string]float64
}

// Watch registers the gauges of what topics hold, read at each scrape.
func (s *Service) Watch(r *metrics.Registry) {
	g := &gauges{}
	of := func(pick func() map[string]float64) func() map[string]float64 {
		return func() map[string]float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			if now := s.now(); g.at.IsZero() || now.Sub(g.at) >= gaugeAge {
				g.read(s)
				g.at = now
			}
			return pick() // nobody changes it: the next reading makes others
		}
	}
	r.GaugeSet("mailbox_depth", "Messages that wait for a delivery: ready, delayed or backing off; by topic, of all but the most active as _other.", "topic",
		of(func() map[string]float64 { return g.depth }))
	r.GaugeSet("mailbox_in_flight", "Messages that were delivered and not yet acknowledged.", "topic", of(func() map[string]float64 { return g.inFlight }))
	r.GaugeSet("mailbox_dead", "Dead letters.", "topic", of(func() map[string]float64 { return g.dead }))
	r.GaugeSet("mailbox_oldest_unacked_seconds", "Age of the oldest message that nobody acknowledged; of _other the greatest.", "topic", of(func() map[string]float64 { return g.oldest }))
}

func (g *gauges) read(s *Service) {
	none := func() map[string]float64 { return map[string]float64{metrics.Other: 0} }
	g.depth, g.inFlight, g.dead, g.oldest = none(), none(), none(), none()
	b := s.current.Load()
	if b == nil {
		return
	}
	(*b).Each(func(t *broker.TopicStatus) {
		name := s.m.top.Value(s.m.name(t.Ref), 0)
		g.depth[name] += float64(t.Counts.Ready + t.Counts.Delayed)
		g.inFlight[name] += float64(t.Counts.Leased)
		g.dead[name] += float64(t.Counts.Dead)
		g.oldest[name] = max(g.oldest[name], t.OldestUnacked.Seconds())
	})
}

func (m *Metrics) name(ref queue.TopicRef) string { return m.label(ref.Tenant) + "/" + ref.Name }

// events are the broker's, counted.
func (m *Metrics) events() broker.Events {
	by := func(v *prometheus.CounterVec) func(queue.TopicRef, int64) {
		return func(ref queue.TopicRef, n int64) {
			v.WithLabelValues(m.top.Value(m.name(ref), n)).Add(float64(n))
		}
	}
	return broker.Events{
		Sent:       by(m.sent),
		Delivered:  by(m.delivered),
		Duplicates: func(_ queue.TopicRef, n int64) { m.duplicates.Add(float64(n)) },
		Acked:      func(_ queue.TopicRef, since time.Duration) { m.ackSeconds.Observe(max(since, 0).Seconds()) },
		Requeued:   func(_ queue.TopicRef, why string, n int64) { m.requeued.WithLabelValues(why).Add(float64(n)) },
		Died:       func(_ queue.TopicRef, reason string, n int64) { m.died.WithLabelValues(reason).Add(float64(n)) },
		Damaged:    func(_ queue.TopicRef, n int64) { m.damaged.Add(float64(n)) },
	}
}
