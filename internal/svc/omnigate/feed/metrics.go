// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// lagBuckets are of times from a publication to its last follower, in seconds.
var lagBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300}

// Metrics are the facet's instruments.
type Metrics struct {
	r *metrics.Registry

	published, unpublished, delivered, failed, lagged prometheus.Counter
	lag                                               prometheus.Observer
	watches                                           prometheus.Gauge
}

// NewMetrics registers the instruments, once a registry; r may be nil for tests.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	return &Metrics{
		r:           r,
		published:   r.Counter("feed_published_total", "Posts that were published."),
		unpublished: r.Counter("feed_unpublished_total", "Posts that were unpublished, by their author or to make room for newer ones."),
		delivered:   r.Counter("feed_delivered_total", "Entries that came into timelines."),
		failed:      r.Counter("feed_step_failures_total", "Steps of the way to followers that failed and were tried again."),
		lagged:      r.Counter("feed_watch_lagged_total", "Watches that did not keep up and were told to read again."),
		lag:         r.Histogram("feed_fanout_seconds", "Time from a publication to its last follower.", lagBuckets),
		watches:     r.Gauge("feed_watches", "Open watches of timelines."),
	}
}

// gaugeAge is how old what the gauges show may be: those of one scrape share it.
const gaugeAge = time.Second

// watch registers the gauges of the queue.
func (m *Metrics) watch(q *queue, now func() time.Time) {
	var mu sync.Mutex
	var at, oldest time.Time
	var jobs int
	look := func() (int, time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if t := now(); at.IsZero() || t.Sub(at) >= gaugeAge {
			jobs, oldest = q.state()
			at = t
		}
		return jobs, oldest
	}
	m.r.Queue("feed_fanout", func() int { n, _ := look(); return n })
	m.r.GaugeFunc("feed_fanout_lag_seconds", "Age of the oldest post that is on its way; 0: none is.", func() float64 {
		if _, since := look(); !since.IsZero() {
			return max(now().Sub(since).Seconds(), 0)
		}
		return 0
	})
}
