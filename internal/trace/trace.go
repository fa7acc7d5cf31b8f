// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package trace exports the wall's spans by OTLP over HTTP where the config
// names an endpoint, and costs nothing where it does not: there is no tracer
// then. It also reads and writes W3C traceparent values.
//
// Only the config bundle counts: the OTEL_* environment variables that the SDK
// would read are overridden, and proxies are not taken from the environment.
package trace

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

const (
	// tracesPath is where OTLP/HTTP takes spans, unless the endpoint names a path.
	tracesPath = "/v1/traces"
	// exportTimeout bounds one export; queued and batched what waits for it.
	exportTimeout = 10 * time.Second
	batchDelay    = time.Second
	maxQueued     = 2048
	maxBatch      = 512
	// complainEvery is the least time between two log lines of failed exports.
	complainEvery = time.Minute
)

// Config says where spans go. Log may be nil.
type Config struct {
	// Endpoint is the collector's URL ("http://127.0.0.1:4318"); empty: off.
	Endpoint string
	// Sample is the share of traces kept, 0 to 1. It holds for callers that ask
	// to be sampled too: their wish comes from outside, and tracing costs. The
	// decision depends on the trace id alone, so nodes with the same share
	// keep the same traces.
	Sample  float64
	Semver  string
	NodeID  string
	Metrics *metrics.Registry
	Log     *slog.Logger
}

// Provider owns the export. A nil *Provider is off.
type Provider struct{ sdk *sdktrace.TracerProvider }

// New returns nil where tracing is off. It does not connect.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	failed := cfg.Metrics.Counter("trace_export_failed_total", "Spans that could not be exported.")
	if cfg.Endpoint == "" || cfg.Sample == 0 {
		return nil, nil
	}
	if !(cfg.Sample > 0 && cfg.Sample <= 1) {
		return nil, fmt.Errorf("trace: the share %v does not lie between 0 and 1", cfg.Sample)
	}
	u, err := endpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithHeaders(map[string]string{}),
		otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithProxy(func(*http.Request) (*url.URL, error) { return nil, nil }),
	}
	if u.Scheme == "https" {
		options = append(options, otlptracehttp.WithTLSClientConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
	} else {
		options = append(options, otlptracehttp.WithInsecure())
	}
	exp, err := otlptrace.New(ctx, otlptracehttp.NewClient(options...))
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &Provider{sdk: sdktrace.NewTracerProvider(
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "macronode"), attribute.String("service.version", cfg.Semver),
			attribute.String("service.instance.id", cfg.NodeID))),
		sdktrace.WithSampler(sampler(cfg.Sample)),
		sdktrace.WithBatcher(&quiet{SpanExporter: exp, log: logs.Discard(cfg.Log), failed: failed},
			sdktrace.WithMaxQueueSize(maxQueued), sdktrace.WithMaxExportBatchSize(maxBatch),
			sdktrace.WithBatchTimeout(batchDelay), sdktrace.WithExportTimeout(exportTimeout)),
	)}, nil
}

// sampler decides by trace id, whatever a remote caller wishes; spans inside
// the node follow their parent.
func sampler(share float64) sdktrace.Sampler {
	ratio := sdktrace.TraceIDRatioBased(share)
	return sdktrace.ParentBased(ratio, sdktrace.WithRemoteParentSampled(ratio), sdktrace.WithRemoteParentNotSampled(sdktrace.NeverSample()))
}

// endpoint checks the collector's URL and completes its path.
func endpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, errors.New("trace: the endpoint is not an http or https URL")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("trace: the endpoint may have a host and a path alone")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	return u, nil
}

// Tracer returns what the wall traces with, nil where tracing is off.
func (p *Provider) Tracer() oteltrace.Tracer {
	if p == nil {
		return nil
	}
	return p.sdk.Tracer("github.com/rustyonions/macronode")
}

// Shutdown exports what is queued, until ctx ends, and stops.
func (p *Provider) Shutdown(ctx context.Context) error {
	if p == nil {
		return nil
	}
	return p.sdk.Shutdown(ctx)
}

// quiet keeps failures of the collector from the SDK's own reporting, which
// writes to stderr past the log, and counts them instead.
type quiet struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	failed prometheus.Counter

	mu   sync.Mutex
	told time.Time
}

func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	q.failed.Add(float64(len(spans)))
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.told.IsZero() || time.Since(q.told) >= complainEvery {
		q.told = time.Now()
		q.log.Warn("spans could not be exported", logs.KeyEvent, "trace", logs.KeyReason, err.Error(), "spans", len(spans))
	}
	return nil
}
