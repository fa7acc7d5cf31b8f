// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/h2guard"
	"github.com/rustyonions/macronode/internal/metrics"
)

// What a connection or a stream was ended for, beside h2guard.Floods.
const (
	guardSlowHeader   = "slow_header"
	guardSlowBody     = "slow_body"
	guardSlowReader   = "slow_reader"
	guardHeaderBytes  = "header_bytes"
	guardHeaderFields = "header_fields"
	guardMalformed    = "malformed" // no request that could be read
	guardH2Streams    = "h2_streams"
	guardH2Protocol   = "h2_protocol"
)

// maxHeaderFields bounds the fields of a request's header.
const maxHeaderFields = 128

// Metrics count what the guards of connections ended.
type Metrics struct {
	trips *prometheus.CounterVec
}

// NewMetrics registers the metrics; once a registry.
func NewMetrics(r *metrics.Registry) *Metrics {
	guards := []string{guardSlowHeader, guardSlowBody, guardSlowReader, guardHeaderBytes, guardHeaderFields, guardMalformed, guardH2Streams, guardH2Protocol}
	for _, f := range h2guard.Floods {
		guards = append(guards, string(f))
	}
	return &Metrics{trips: r.Counters("guard_trips_total", "Requests and connections of HTTP that were ended for how they behaved, by guard.",
		[]string{"guard"}, guards)}
}

// trip counts and, at the debug level, tells that a guard ended something.
func (s *Service) trip(guard string, c *listen.Conn) {
	s.conf.Metrics.trips.WithLabelValues(guard).Inc()
	s.conf.Log.Debug("a connection guard ended a request or connection", "event", "guard", "guard", guard, "client", listen.RedactAddr(c.Peer().Addr))
}

// h2error counts what net/http's HTTP/2 found wrong with a client, which it
// names like "stream_STREAM_CLOSED_closed".
func (s *Service) h2error(what string) {
	guard := guardH2Protocol
	switch {
	case strings.HasSuffix(what, "_closed"): // the rest of a body whose request was refused
		return
	case strings.HasSuffix(what, "_too_many_early_resets"):
		guard = string(h2guard.Resets)
	case strings.Contains(what, "_over_max_streams"):
		guard = guardH2Streams
	}
	s.conf.Metrics.trips.WithLabelValues(guard).Inc()
}

// checkHeader holds a header against the limits of both versions of HTTP.
func (x *exchange) checkHeader(r *http.Request) *macronode.Error {
	fields, size := 0, len(r.RequestURI)+len(r.Host)
	for name, values := range r.Header {
		fields += len(values)
		for _, v := range values {
			size += len(name) + len(v) + 4 // ": " and the end of the line
		}
	}
	switch {
	case fields > maxHeaderFields:
		x.s.trip(guardHeaderFields, x.conn)
		return macronode.Errorf(macronode.HeaderTooLarge, "the header has more than %d fields", maxHeaderFields)
	case size > maxHeaderBytes:
		x.s.trip(guardHeaderBytes, x.conn)
		return macronode.Errorf(macronode.HeaderTooLarge, "the header is larger than %d bytes", maxHeaderBytes)
	}
	return nil
}

// slow counts what ended because no byte moved.
func (x *exchange) slow(guard string, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.s.trip(guard, x.conn)
	}
}
