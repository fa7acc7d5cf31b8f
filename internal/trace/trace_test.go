// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParse(t *testing.T) {
	tests := map[string]struct {
		in string
		ok bool
	}{
		"good":            {parent, true},
		"not sampled":     {parent[:53] + "00", true},
		"unknown flags":   {parent[:53] + "ff", true},
		"later version":   {"01" + parent[2:], true},
		"later, longer":   {"cc" + parent[2:] + "-what-comes", true},
		"later, run on":   {"cc" + parent[2:] + ".x", false},
		"longer":          {parent + "-00", false},
		"version ff":      {"ff" + parent[2:], false},
		"upper case":      {strings.ToUpper(parent), false},
		"no trace":        {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		"no span":         {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		"short":           {parent[:54], false},
		"empty":           {"", false},
		"other separator": {strings.ReplaceAll(parent, "-", "_"), false},
		"no hex":          {"00-zbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
	}
	for name, tt := range tests {
		p, ok := Parse(tt.in)
		if ok != tt.ok || !ok && p != (Parent{}) {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
	p, _ := Parse(parent)
	if p.String() != parent || !p.Sampled {
		t.Errorf("%s", p)
	}
	p.Sampled = false
	if p.String() != parent[:53]+"00" {
		t.Errorf("%s", p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(parent)
	f.Add("cc" + parent[2:] + "-x")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := Parse(s)
		if !ok {
			return
		}
		if again, ok := Parse(p.String()); !ok || again != p {
			t.Errorf("%q reads as %s, which reads as %s", s, p, again)
		}
	})
}

func TestOffCostsNothing(t *testing.T) {
	for _, cfg := range []Config{{}, {Endpoint: "http://127.0.0.1:1"}, {Sample: 1}} {
		cfg.Metrics = metrics.New(false)
		p, err := New(t.Context(), cfg)
		if p != nil || err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
		if p.Tracer() != nil || p.Shutdown(t.Context()) != nil {
			t.Error("there is a tracer")
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Endpoint: "127.0.0.1:4318", Sample: 1}, {Endpoint: "ftp://x", Sample: 1}, {Endpoint: "http://", Sample: 1}, {Endpoint: "http://u:p@x", Sample: 1},
		{Endpoint: "http://x?a=b", Sample: 1}, {Endpoint: "http://x", Sample: 1.5}, {Endpoint: "http://x", Sample: -1},
	} {
		cfg.Metrics = metrics.New(false)
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

// collector answers OTLP requests and hands their bodies on.
func collector(t *testing.T, status int) (string, chan *coltrace.ExportTraceServiceRequest) {
	got := make(chan *coltrace.ExportTraceServiceRequest, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		b, err := io.ReadAll(body)
		req := new(coltrace.ExportTraceServiceRequest)
		if err != nil || proto.Unmarshal(b, req) != nil || r.URL.Path != tracesPath || r.Header.Get("X-From-Env") != "" {
			t.Errorf("%v: %s %v", err, r.URL, r.Header)
		}
		got <- req
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

func TestSpansArrive(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-From-Env=1")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	url, got := collector(t, 200)
	p, err := New(t.Context(), Config{Endpoint: url, Sample: 1, Semver: "1.2.3", NodeID: "b3:00", Metrics: metrics.New(false)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
	_, span := p.Tracer().Start(ctx, "call")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	req := <-got
	rs := req.ResourceSpans[0]
	s := rs.ScopeSpans[0].Spans[0]
	want, _ := Parse(parent)
	if s.Name != "call" || !bytes.Equal(s.TraceId, want.TraceID[:]) || !bytes.Equal(s.ParentSpanId, want.SpanID[:]) {
		t.Errorf("%v", s)
	}
	if text := rs.Resource.String(); !strings.Contains(text, "1.2.3") || !strings.Contains(text, "b3:00") {
		t.Error(text)
	}
}

// A caller's wish to be sampled does not go past the share.
func TestCallersCannotForceSampling(t *testing.T) {
	url, _ := collector(t, 200)
	p, err := New(t.Context(), Config{Endpoint: url, Sample: 1e-9, Metrics: metrics.New(false)})
	if err != nil {
		t.Fatal(err)
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
	_, span := p.Tracer().Start(ctx, "call")
	if span.SpanContext().IsSampled() {
		t.Error("sampled by request")
	}
	span.End()
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestABrokenCollectorIsCountedAndLoggedOnce(t *testing.T) {
	url, got := collector(t, 400)
	reg := metrics.New(false)
	var out bytes.Buffer
	p, err := New(t.Context(), Config{Endpoint: url, Sample: 1, Metrics: reg, Log: logs.New(&out, logs.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, span := p.Tracer().Start(t.Context(), "call")
		span.End()
		if err := p.sdk.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-got
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	_, body, err := reg.Expose("")
	if err != nil || !strings.Contains(string(body), "trace_export_failed_total 3\n") {
		t.Errorf("%v: failures are not counted", err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %s", n, out.String())
	}
}
