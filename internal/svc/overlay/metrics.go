// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
)

// Values of the label result of overlay_sessions_total.
const (
	sessionKept     = "kept"     // it became the session
	sessionReplaced = "replaced" // another took its place
	sessionSurplus  = "surplus"  // another stayed
	sessionFailed   = "failed"   // it could not be made
	sessionLost     = "lost"     // it ended
)

// Metrics count what the overlay does.
type Metrics struct {
	r           *metrics.Registry
	transitions *prometheus.CounterVec
	sessions    *prometheus.CounterVec
	messages    *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	adopted     prometheus.Counter
}

// NewMetrics registers the metrics; once a registry.
func NewMetrics(r *metrics.Registry) *Metrics {
	return &Metrics{
		r:           r,
		transitions: r.Counters("overlay_transitions_total", "Changes of a peer's state, by the state it came into.", []string{"state"}, stateNames[:]),
		sessions: r.Counters("overlay_sessions_total", "Connections with peers, by what became of them.", []string{"result"},
			[]string{sessionKept, sessionReplaced, sessionSurplus, sessionFailed, sessionLost}),
		messages: r.Counters("overlay_gossip_total", "Gossip by lane and by what became of it.", []string{"lane", "result"}, gossip.LaneNames(), gossip.Results()),
		bytes:    r.Counters("overlay_gossip_bytes_total", "Bytes of gossip and of lists that are compared, by direction.", []string{"dir"}, []string{"in", "out"}),
		adopted:  r.Counter("overlay_revocations_total", "Revocations that were learned from peers and hold here since."),
	}
}

// watch registers what is looked up at each scrape.
func (m *Metrics) watch(s *Service) {
	m.r.GaugeSet("overlay_peers", "Peers by the state that they are in.", "state", func() map[string]float64 {
		out := make(map[string]float64, numStates)
		for _, name := range stateNames {
			out[name] = 0
		}
		for _, p := range *s.peers.Load() {
			out[p.now().String()]++
		}
		return out
	})
	for _, l := range []gossip.Lane{gossip.Revocations, gossip.Registry, gossip.Announcements} {
		m.r.Queue("overlay_"+l.String(), func() int { return s.exchange.Depth(l) })
	}
}

func (m *Metrics) gossip(l gossip.Lane, result string, n int) {
	m.messages.WithLabelValues(l.String(), result).Add(float64(n))
}
