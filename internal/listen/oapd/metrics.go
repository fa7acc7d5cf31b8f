// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// Values of the labels of oap_frames_total and oap_rejects_total beside those of
// the codec and of sessions.
const (
	reasonTLS  = "tls_required"
	reasonSlow = "slow_body" // a request that did not go on in time
)

// Metrics count what happens on every connection.
type Metrics struct {
	frames, rejects, bytes *prometheus.CounterVec
	streams                prometheus.Gauge
}

// NewMetrics registers the metrics; once a registry.
func NewMetrics(r *metrics.Registry) *Metrics {
	return &Metrics{
		frames: r.Counters("oap_frames_total", "OAP/1 frames by direction and kind.", []string{"dir", "kind"},
			[]string{"in", "out"}, mux.Kinds),
		rejects: r.Counters("oap_rejects_total", "OAP/1 frames and streams refused, by reason.", []string{"reason"},
			append([]string{reasonTLS, reasonSlow, oap.ReasonHead, oap.ReasonHeadSize}, mux.Reasons...)),
		bytes: r.Counters("oap_body_bytes_total", "Bytes of bodies over OAP/1: in, of requests; out, of answers.", []string{"dir"},
			[]string{"in", "out"}),
		streams: r.Gauge("oap_streams", "OAP/1 streams whose call runs."),
	}
}

// reject counts a refusal of the codec's.
func (m *Metrics) reject(err error) {
	if e, ok := err.(*oap.Error); ok {
		m.rejects.WithLabelValues(e.Reason).Inc()
	}
}

// observer counts what sessions see, each counter looked up once.
type observer struct {
	frames  [2][]prometheus.Counter // in, out; by kind
	rejects *prometheus.CounterVec
}

func (m *Metrics) observer() *observer {
	o := &observer{rejects: m.rejects}
	for i, dir := range []string{"in", "out"} {
		for _, kind := range mux.Kinds {
			o.frames[i] = append(o.frames[i], m.frames.WithLabelValues(dir, kind))
		}
	}
	return o
}

// Frame implements mux.Observer.
func (o *observer) Frame(out bool, k mux.Kind) {
	dir := 0
	if out {
		dir = 1
	}
	o.frames[dir][k].Inc()
}

// Reject implements mux.Observer.
func (o *observer) Reject(reason string) { o.rejects.WithLabelValues(reason).Inc() }
