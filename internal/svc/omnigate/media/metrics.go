// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/sniff"
)

// Reasons for which an image is not worked on.
const (
	whyForm        = "form"
	whyLarge       = "large"
	whyUnsupported = "unsupported"
	whySlow        = "slow"
	whyBusy        = "busy"
)

// Outcomes of thumbnails.
const (
	thumbMade   = "made"
	thumbCached = "cached"
	thumbFailed = "failed"
)

// Metrics are the facet's instruments.
type Metrics struct {
	sent, refusals, thumbs *prometheus.CounterVec
	seconds                prometheus.Histogram
}

// NewMetrics registers the instruments, once a registry; nil is a registry of its own.
func NewMetrics(r *metrics.Registry) *Metrics {
	if r == nil {
		r = metrics.New(false)
	}
	return &Metrics{
		sent:     r.Counters("media_served_total", "Answers with an object's bytes: to be shown in place, or for saving.", []string{"as"}, []string{"inline", "attachment"}),
		refusals: r.Counters("media_refused_total", "Images that were not worked on: not one clean image, too large, of a kind that is not decoded, too slow, or no memory was left.", []string{"why"}, []string{whyForm, whyLarge, whyUnsupported, whySlow, whyBusy}),
		thumbs:   r.Counters("media_thumbs_total", "Thumbnails, by how they came about.", []string{"outcome"}, []string{thumbMade, thumbCached, thumbFailed}),
		seconds:  r.Histogram("media_thumb_seconds", "Time to make a thumbnail.", metrics.LatencyBuckets),
	}
}

// Watch registers what is read at each scrape.
func (f *Facet) Watch(r *metrics.Registry) {
	r.GaugeFunc("media_cache_bytes", "Thumbnails held in memory.", func() float64 { return float64(f.CacheBytes()) })
}

func (m *Metrics) served(v sniff.Verdict) {
	if v.Inline {
		m.sent.WithLabelValues("inline").Inc()
	} else {
		m.sent.WithLabelValues("attachment").Inc()
	}
}

func (m *Metrics) refused(why string)   { m.refusals.WithLabelValues(why).Inc() }
func (m *Metrics) thumb(outcome string) { m.thumbs.WithLabelValues(outcome).Inc() }

func (m *Metrics) made(took time.Duration) {
	m.thumb(thumbMade)
	m.seconds.Observe(took.Seconds())
}
