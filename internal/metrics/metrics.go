// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package metrics is the node's registry of what can be scraped. Every metric
// is made once, when its owner is built; its name, help and label names are
// linted then, and a label whose values are a closed set is registered at 0 for
// every combination, so that a first scrape already shows it and an alert on
// its absence is possible.
//
// No label may take its values from a request body, a path or a tenant id; for
// tenants there is TopLabels, which keeps the largest few and folds the rest
// into Other.
package metrics

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Buckets of latencies in seconds. SLO thresholds (10, 15, 50, 100, 120, 150,
// 200 ms) are bucket bounds, so that objectives are read without interpolation.
var (
	// LatencyBuckets suit whole requests: 0.5 ms to 30 s.
	LatencyBuckets = []float64{.0005, .001, .0025, .005, .01, .015, .025, .05, .1, .12, .15, .2, .5, 1, 2.5, 5, 10, 30}
	// FastBuckets suit steps inside the process: 1 µs to 50 ms.
	FastBuckets = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2}
)

// maxNativeBuckets bounds what one native histogram series may hold.
const maxNativeBuckets = 160

// nativeFactor is the growth of native histogram buckets: 10% wide at most.
const nativeFactor = 1.1

// Registry holds the metrics of one node. Its methods that make metrics panic
// on a duplicate, an ill-formed or unlinted name, or an empty help text: such a
// mistake is the program's, and shows at the first start.
type Registry struct {
	reg     *prometheus.Registry
	native  bool
	formats []expfmt.Format

	mu     sync.Mutex
	closed map[string]closedSet // by metric name
	kinds  map[string]Desc

	scrape scraper
}

// Desc describes one metric for golden files and the generated reference.
type Desc struct {
	Name   string
	Type   string // "counter", "gauge", "histogram"
	Help   string
	Labels []string
}

type closedSet struct {
	labels []string
	values [][]string
}

// New returns a registry that holds the Go runtime's and the process's own
// metrics. Native histograms are made beside the classic buckets, and offered
// to scrapers that negotiate the protobuf format, only where asked for.
func New(nativeHistograms bool) *Registry {
	r := &Registry{
		reg:     prometheus.NewRegistry(),
		native:  nativeHistograms,
		formats: []expfmt.Format{expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtText},
		closed:  map[string]closedSet{},
		kinds:   map[string]Desc{},
	}
	if nativeHistograms {
		r.formats = slices.Insert(r.formats, 0, expfmt.FmtProtoDelim)
	}
	r.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r.scrape.cond = sync.NewCond(&r.scrape.mu)
	return r
}

// Counter makes a counter without labels.
func (r *Registry) Counter(name, help string) prometheus.Counter {
	r.note(dto.MetricType_COUNTER, name, help, nil, nil)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.reg.MustRegister(c)
	return c
}

// Counters makes a counter with labels. values holds, label by label, the
// closed set of values; every combination is registered at 0. A nil set is an
// open label, whose series appear when first counted.
func (r *Registry) Counters(name, help string, labels []string, values ...[]string) *prometheus.CounterVec {
	r.note(dto.MetricType_COUNTER, name, help, labels, values)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.reg.MustRegister(v)
	each(values, len(labels), func(lv []string) { v.WithLabelValues(lv...) })
	return v
}

// Gauge makes a gauge without labels.
func (r *Registry) Gauge(name, help string) prometheus.Gauge {
	r.note(dto.MetricType_GAUGE, name, help, nil, nil)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.reg.MustRegister(g)
	return g
}

// Gauges makes a gauge with labels; values are as for Counters.
func (r *Registry) Gauges(name, help string, labels []string, values ...[]string) *prometheus.GaugeVec {
	r.note(dto.MetricType_GAUGE, name, help, labels, values)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.reg.MustRegister(v)
	each(values, len(labels), func(lv []string) { v.WithLabelValues(lv...) })
	return v
}

// GaugeFunc makes a gauge that calls f at each scrape. f must be quick and
// safe from any goroutine.
func (r *Registry) GaugeFunc(name, help string, f func() float64) {
	r.note(dto.MetricType_GAUGE, name, help, nil, nil)
	r.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

// CounterFunc makes a counter whose value f returns at each scrape; it must
// never fall.
func (r *Registry) CounterFunc(name, help string, f func() float64) {
	r.note(dto.MetricType_COUNTER, name, help, nil, nil)
	r.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
}

// Histogram makes a histogram with the given classic buckets.
func (r *Registry) Histogram(name, help string, buckets []float64) prometheus.Histogram {
	r.note(dto.MetricType_HISTOGRAM, name, help, nil, nil)
	h := prometheus.NewHistogram(r.histogramOpts(name, help, buckets))
	r.reg.MustRegister(h)
	return h
}

// Histograms makes a histogram with labels; values are as for Counters.
func (r *Registry) Histograms(name, help string, buckets []float64, labels []string, values ...[]string) *prometheus.HistogramVec {
	r.note(dto.MetricType_HISTOGRAM, name, help, labels, values)
	v := prometheus.NewHistogramVec(r.histogramOpts(name, help, buckets), labels)
	r.reg.MustRegister(v)
	each(values, len(labels), func(lv []string) { v.WithLabelValues(lv...) })
	return v
}

// BuildInfo makes build_info, which is always 1.
func (r *Registry) BuildInfo(semver, gitSHA, goVersion string) {
	r.Gauges("build_info", "The running binary; always 1.", []string{"semver", "git_sha", "go"},
		[]string{semver}, []string{gitSHA}, []string{goVersion}).WithLabelValues(semver, gitSHA, goVersion).Set(1)
}

// ZKVerify makes the counters of verified proofs. Every build has them, at 0
// where it verifies none, so that one alert rule suits all.
func (r *Registry) ZKVerify() (success, fail prometheus.Counter) {
	return r.Counter("zk_verify_success_total", "Zero-knowledge proofs that verified."),
		r.Counter("zk_verify_fail_total", "Zero-knowledge proofs that did not verify.")
}

func (r *Registry) histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	if len(buckets) == 0 {
		panic("metrics: " + name + ": a histogram needs classic buckets")
	}
	o := prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	if r.native {
		o.NativeHistogramBucketFactor = nativeFactor
		o.NativeHistogramMaxBucketNumber = maxNativeBuckets
		o.NativeHistogramMinResetDuration = time.Hour
	}
	return o
}

// note lints and remembers a metric about to be registered.
func (r *Registry) note(t dto.MetricType, name, help string, labels []string, values [][]string) {
	if len(values) > len(labels) {
		panic(fmt.Sprintf("metrics: %s: %d value sets for %d labels", name, len(values), len(labels)))
	}
	if help == "" || !strings.HasSuffix(help, ".") {
		panic("metrics: " + name + ": the help text must be a sentence")
	}
	if !plainName(name) {
		panic("metrics: " + name + " is not a plain name")
	}
	one := &dto.Metric{}
	for _, l := range labels {
		if !plainName(l) {
			panic("metrics: " + name + ": label " + l + " is not a plain name")
		}
		one.Label = append(one.Label, &dto.LabelPair{Name: &l, Value: new(string)})
	}
	mf := &dto.MetricFamily{Name: &name, Help: &help, Type: &t, Metric: []*dto.Metric{one}}
	problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{mf}).Lint()
	if err != nil || len(problems) > 0 {
		panic(fmt.Sprintf("metrics: %s: %v %v", name, problems, err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.kinds[name]; ok {
		panic("metrics: " + name + " is made twice")
	}
	r.kinds[name] = Desc{Name: name, Type: strings.ToLower(t.String()), Help: help, Labels: slices.Clone(labels)}
	if len(values) > 0 {
		r.closed[name] = closedSet{slices.Clone(labels), slices.Clone(values)}
	}
}

// plainName reports whether s is lower case letters, digits and underscores.
// The library takes any UTF-8; older scrapers do not.
func plainName(s string) bool {
	for i, c := range []byte(s) {
		if (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// each calls f with every combination of values, or not at all where a set is
// missing or open.
func each(values [][]string, labels int, f func([]string)) {
	if labels == 0 || len(values) != labels || slices.ContainsFunc(values, func(v []string) bool { return v == nil }) {
		return
	}
	lv := make([]string, labels)
	var walk func(int)
	walk = func(i int) {
		if i == labels {
			f(lv)
			return
		}
		for _, v := range values[i] {
			lv[i] = v
			walk(i + 1)
		}
	}
	walk(0)
}

// Describe lists the metrics made so far by name, without the Go runtime's and
// the process's own.
func (r *Registry) Describe() []Desc {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.kinds), func(a, b Desc) int { return strings.Compare(a.Name, b.Name) })
}

// Stray gathers everything and lists the series whose label values lie outside
// their closed set, for tests.
func (r *Registry) Stray() ([]string, error) {
	mfs, err := r.reg.Gather()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var stray []string
	for _, mf := range mfs {
		set, ok := r.closed[mf.GetName()]
		if !ok {
			continue
		}
		for _, m := range mf.GetMetric() {
			for _, lp := range m.GetLabel() {
				i := slices.Index(set.labels, lp.GetName())
				if i < len(set.values) && set.values[i] != nil && !slices.Contains(set.values[i], lp.GetValue()) {
					stray = append(stray, fmt.Sprintf("%s{%s=%q}", mf.GetName(), lp.GetName(), lp.GetValue()))
				}
			}
		}
	}
	return stray, nil
}

// Expose renders every metric in the format that the Accept header value asks
// for: OpenMetrics (with exemplars), else Prometheus text; protobuf only where
// native histograms are on. The body is shared with concurrent callers and must
// not be changed.
func (r *Registry) Expose(accept string) (contentType string, body []byte, err error) {
	format := expfmt.NegotiateAccept(http.Header{"Accept": {accept}}, r.formats...)
	mfs, err := r.scrape.gather(r.reg)
	if err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	b.Grow(64 << 10)
	enc := expfmt.NewEncoder(&b, format)
	for _, mf := range mfs {
		if err := enc.Encode(mf); err != nil {
			return "", nil, err
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			return "", nil, err
		}
	}
	return string(format), b.Bytes(), nil
}

// scraper lets one gathering run at a time: /metrics needs no capability, and a
// flood of scrapes must not cost more than one processor. A caller gets a
// gathering that began after it asked, so it sees what it counted itself.
type scraper struct {
	mu      sync.Mutex
	cond    *sync.Cond
	running bool
	started uint64 // gatherings begun
	done    uint64 // number of the newest finished one
	mfs     []*dto.MetricFamily
	err     error
}

func (s *scraper) gather(g prometheus.Gatherer) ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := s.started + 1
	for s.running {
		s.cond.Wait()
		if s.done >= need {
			return s.mfs, s.err
		}
	}
	s.running = true
	s.started++
	mine := s.started
	s.mu.Unlock()
	mfs, err := g.Gather()
	s.mu.Lock()
	s.running, s.done, s.mfs, s.err = false, mine, mfs, err
	s.cond.Broadcast()
	return mfs, err
}

// Observe records v, with the trace as exemplar where there is one.
func Observe(o prometheus.Observer, v float64, traceID string) {
	if traceID != "" {
		if e, ok := o.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(v, prometheus.Labels{"trace_id": traceID})
			return
		}
	}
	o.Observe(v)
}

// GaugeSet makes a gauge with one label whose values are given all at once by
// f, called at each scrape; so that values which belong together are never seen
// half changed.
func (r *Registry) GaugeSet(name, help, label string, f func() map[string]float64) {
	r.note(dto.MetricType_GAUGE, name, help, []string{label}, nil)
	r.reg.MustRegister(&gaugeSet{desc: prometheus.NewDesc(name, help, []string{label}, nil), f: f})
}

type gaugeSet struct {
	desc *prometheus.Desc
	f    func() map[string]float64
}

func (g *gaugeSet) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

func (g *gaugeSet) Collect(ch chan<- prometheus.Metric) {
	for value, v := range g.f() {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, v, value)
	}
}

// queueDepth is shared by every bounded queue of the process.
const queueDepth = "queue_depth"

// Queue adds queue_depth{queue=name}, read by depth at each scrape. Every
// bounded queue of the process has one; a name given twice panics.
func (r *Registry) Queue(name string, depth func() int) {
	const help = "Entries waiting in a bounded queue."
	r.mu.Lock()
	_, ok := r.kinds[queueDepth]
	r.mu.Unlock()
	if !ok {
		r.note(dto.MetricType_GAUGE, queueDepth, help, []string{"queue"}, nil)
	}
	r.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: queueDepth, Help: help, ConstLabels: prometheus.Labels{"queue": name},
	}, func() float64 { return float64(depth()) }))
}
