// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const openMetrics = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"

func filled(native bool) *Registry {
	r := New(native)
	r.BuildInfo("1.2.3", "abc", "go1.26.8")
	r.Counter("things_total", "Things seen.").Inc()
	r.Counters("rejected_total", "Refusals by reason.", []string{"reason"}, []string{"unauth", "policy"})
	r.Gauges("ready_state", "One for the present state, zero for the other.", []string{"state"}, []string{"true", "false"})
	r.GaugeSet("phase_state", "One for the present phase.", "phase", func() map[string]float64 { return map[string]float64{"a": 1, "b": 0} })
	r.Queue("audit", func() int { return 5 })
	r.ZKVerify()
	r.Queue("bus", func() int { return 0 })
	r.GaugeFunc("queue_length", "What waits.", func() float64 { return 7 })
	r.CounterFunc("ticks_total", "Ticks.", func() float64 { return 3 })
	h := r.Histograms("request_latency_seconds", "Time from call to last byte.", LatencyBuckets, []string{"service", "route"},
		[]string{"svc-gateway"}, []string{"GET /o/{addr}"})
	Observe(h.WithLabelValues("svc-gateway", "GET /o/{addr}"), 0.004, "4bf92f3577b34da6a3ce929d0e0e4736")
	Observe(h.WithLabelValues("svc-gateway", "GET /o/{addr}"), 0.004, "")
	return r
}

func expose(t *testing.T, r *Registry, accept string) (string, string) {
	t.Helper()
	ct, body, err := r.Expose(accept)
	if err != nil {
		t.Fatal(err)
	}
	return ct, string(body)
}

func TestFirstScrapeShowsClosedSetsAtZero(t *testing.T) {
	_, body := expose(t, filled(false), "")
	for _, want := range []string{
		"rejected_total{reason=\"policy\"} 0\n", "rejected_total{reason=\"unauth\"} 0\n",
		"ready_state{state=\"true\"} 0\n", "ready_state{state=\"false\"} 0\n",
		"build_info{git_sha=\"abc\",go=\"go1.26.8\",semver=\"1.2.3\"} 1\n",
		"request_latency_seconds_bucket{route=\"GET /o/{addr}\",service=\"svc-gateway\",le=\"0.12\"} 2\n",
		"phase_state{phase=\"a\"} 1\n", "phase_state{phase=\"b\"} 0\n",
		"queue_depth{queue=\"audit\"} 5\n", "queue_depth{queue=\"bus\"} 0\n",
		"zk_verify_success_total 0\n", "zk_verify_fail_total 0\n",
		"queue_length 7\n", "ticks_total 3\n", "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("missing %q", want)
		}
	}
	if strings.Contains(body, "trace_id") {
		t.Error("the text format carries an exemplar")
	}
}

func TestNegotiation(t *testing.T) {
	tests := []struct {
		name, accept string
		native       bool
		want         string
	}{
		{"nothing", "", false, "text/plain; version=0.0.4"},
		{"curl", "*/*", false, "text/plain; version=0.0.4"},
		{"garbage", ";;;,q=", false, "text/plain; version=0.0.4"},
		{"openmetrics", openMetrics, false, "application/openmetrics-text; version=1.0.0"},
		{"openmetrics without version", "application/openmetrics-text", false, "application/openmetrics-text; version=0.0.1"},
		{"protobuf not offered", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5", false, "text/plain; version=0.0.4"},
		{"protobuf offered", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,text/plain;version=0.0.4;q=0.5", true, "application/vnd.google.protobuf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ct, body := expose(t, filled(tt.native), tt.accept)
			if !strings.HasPrefix(ct, tt.want) {
				t.Errorf("content type %q, want %q", ct, tt.want)
			}
			if strings.HasPrefix(ct, "application/openmetrics") {
				if !strings.HasSuffix(body, "# EOF\n") {
					t.Error("no EOF line")
				}
				if !strings.Contains(body, `# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.004`) {
					t.Error("no exemplar")
				}
			}
		})
	}
}

func TestNativeHistogramsKeepClassicBuckets(t *testing.T) {
	for _, native := range []bool{false, true} {
		r := filled(native)
		mfs, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, mf := range mfs {
			if mf.GetName() != "request_latency_seconds" {
				continue
			}
			h := mf.GetMetric()[0].GetHistogram()
			if len(h.GetBucket()) != len(LatencyBuckets) {
				t.Errorf("native=%v: %d classic buckets", native, len(h.GetBucket()))
			}
			if got := len(h.GetPositiveSpan()) > 0; got != native {
				t.Errorf("native=%v: native buckets %v", native, got)
			}
		}
	}
}

// TestPromtool: promtool finds nothing to say about the exposition.
func TestPromtool(t *testing.T) {
	bin, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is missing in CI")
		}
		t.Skip("promtool is not installed")
	}
	for _, native := range []bool{false, true} {
		_, body := expose(t, filled(native), "")
		cmd := exec.Command(bin, "check", "metrics")
		cmd.Stdin = strings.NewReader(body)
		out, err := cmd.CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("native=%v: %v\n%s", native, err, out)
		}
	}
}

func TestMistakesPanic(t *testing.T) {
	tests := map[string]func(r *Registry){
		"duplicate":           func(r *Registry) { r.Counter("a_total", "A."); r.Gauge("a_total", "A.") },
		"counter suffix":      func(r *Registry) { r.Counter("a", "A.") },
		"gauge suffix":        func(r *Registry) { r.Gauge("a_total", "A.") },
		"abbreviated unit":    func(r *Registry) { r.Gauge("wait_ms", "A.") },
		"camel case":          func(r *Registry) { r.Gauge("waitTime", "A.") },
		"no help":             func(r *Registry) { r.Gauge("a", "") },
		"help is no sentence": func(r *Registry) { r.Gauge("a", "A") },
		"bad label":           func(r *Registry) { r.Gauges("a", "A.", []string{"a-b"}, []string{"x"}) },
		"reserved label":      func(r *Registry) { r.Gauges("a", "A.", []string{"le"}, nil) },
		"too many sets":       func(r *Registry) { r.Gauges("a", "A.", []string{"x"}, []string{"1"}, []string{"2"}) },
		"no buckets":          func(r *Registry) { r.Histogram("a_seconds", "A.", nil) },
		"queue twice":         func(r *Registry) { r.Queue("a", nil); r.Queue("a", nil) },
		"go metric again":     func(r *Registry) { r.Gauge("go_goroutines", "A.") },
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(New(false))
		})
	}
}

func TestStrayFindsValuesOutsideTheSet(t *testing.T) {
	r := New(false)
	v := r.Counters("rejected_total", "Refusals.", []string{"reason"}, []string{"policy"})
	open := r.Counters("x_total", "X.", []string{"a", "b"}, []string{"1"}, nil)
	open.WithLabelValues("1", "anything").Inc()
	if s, err := r.Stray(); err != nil || len(s) != 0 {
		t.Fatalf("stray %v, %v", s, err)
	}
	v.WithLabelValues("made up").Inc()
	open.WithLabelValues("2", "anything").Inc()
	if s, _ := r.Stray(); len(s) != 2 {
		t.Errorf("stray %v", s)
	}
}

func TestDescribe(t *testing.T) {
	d := filled(false).Describe()
	if len(d) != 11 || d[0].Name != "build_info" || d[0].Type != "gauge" || len(d[0].Labels) != 3 {
		t.Errorf("%+v", d)
	}
}

// slow counts gatherings and lets the test hold them open.
type slow struct {
	n    atomic.Int64
	hold chan struct{}
}

func (s *slow) Gather() ([]*dto.MetricFamily, error) {
	s.n.Add(1)
	<-s.hold
	return nil, nil
}

func TestConcurrentScrapesShareAGathering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{hold: make(chan struct{})}
		var sc scraper
		sc.cond = sync.NewCond(&sc.mu)
		var wg sync.WaitGroup
		ask := func(n int) {
			for range n {
				wg.Go(func() {
					if _, err := sc.gather(s); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
		}
		ask(1)
		ask(50) // asked while the first runs: they need a later one, one for all
		if n := s.n.Load(); n != 1 {
			t.Fatalf("%d gatherings at once", n)
		}
		close(s.hold)
		wg.Wait()
		if n := s.n.Load(); n != 2 {
			t.Errorf("%d gatherings for 51 scrapes", n)
		}
	})
}

func BenchmarkExpose(b *testing.B) {
	r := filled(false)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Expose(""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	h := New(false).Histogram("x_seconds", "X.", LatencyBuckets)
	b.ReportAllocs()
	for b.Loop() {
		Observe(h, 0.01, "")
	}
}

var _ prometheus.ExemplarObserver = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x"}).(prometheus.ExemplarObserver)
