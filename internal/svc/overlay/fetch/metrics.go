// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// outcome is how a search, or a part of one, went.
type outcome string

const (
	outcomeFound    outcome = "found"
	outcomeShared   outcome = "shared"   // with another that was under way
	outcomeUnknown  outcome = "unknown"  // nobody announced it
	outcomeMissing  outcome = "missing"  // nobody who announced it had it
	outcomeGone     outcome = "gone"     // a peer that announced it did not have it
	outcomeFailed   outcome = "failed"   // a peer that announced it did not deliver
	outcomeAway     outcome = "away"     // nobody who announced it delivered
	outcomeHedged   outcome = "hedged"   // a second peer was asked beside the first
	outcomeResumed  outcome = "resumed"  // a stream broke off, to be gone on with
	outcomeAnswered outcome = "answered" // this node gave an object to a peer
	outcomeRefused  outcome = "refused"  // a peer did not prove that it may ask
)

var outcomes = []outcome{
	outcomeFound, outcomeShared, outcomeUnknown, outcomeMissing, outcomeGone, outcomeFailed, outcomeAway, outcomeHedged,
	outcomeResumed, outcomeAnswered, outcomeRefused,
}

// outcomeOf is the outcome of a search that ended with err.
func outcomeOf(err error) outcome {
	if macronode.KindOf(err) == macronode.NotFound {
		return outcomeMissing
	}
	return outcomeAway
}

// Metrics are the instruments of a Fetcher and its Holder. The zero value counts
// nothing.
type Metrics struct {
	by          *prometheus.CounterVec
	lies, bytes prometheus.Counter
	first       prometheus.Histogram
}

// NewMetrics registers the instruments.
func NewMetrics(r *metrics.Registry) Metrics {
	values := make([]string, len(outcomes))
	for i, o := range outcomes {
		values[i] = string(o)
	}
	return Metrics{
		by:    r.Counters("overlay_fetch_total", "Searches for objects at other nodes, and steps of them, by how they went.", []string{"outcome"}, values),
		lies:  r.Counter("overlay_fetch_lies_total", "Times that a peer sent bytes that are not what was asked for."),
		bytes: r.Counter("overlay_fetch_bytes_total", "Verified bytes passed on from other nodes, trees included where they were asked for."),
		first: r.Histogram("overlay_fetch_first_seconds", "Time until another node's first group of an object was verified.",
			[]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2}),
	}
}

func (m *Metrics) fill() {
	if m.lies == nil {
		m.lies = prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	}
	if m.bytes == nil {
		m.bytes = prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	}
}

func (m *Metrics) count(o outcome) {
	if m.by != nil {
		m.by.WithLabelValues(string(o)).Inc()
	}
}

func (m *Metrics) found(took time.Duration) {
	m.count(outcomeFound)
	if m.first != nil {
		m.first.Observe(took.Seconds())
	}
}
