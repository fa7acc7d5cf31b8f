// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// Wires are the label values of a Set's wire.
var wires = []string{"http", "oap"}

// Metrics count connections and handshakes of every Set of a node.
type Metrics struct {
	handshakes *prometheus.CounterVec
	open       *prometheus.GaugeVec
	refused    *prometheus.CounterVec
}

// NewMetrics registers the metrics; once a registry.
func NewMetrics(r *metrics.Registry) *Metrics {
	return &Metrics{
		handshakes: r.Counters("tls_handshakes_total", "TLS handshakes by protocol version, key exchange and result.",
			[]string{"version", "kex", "result"}, tlsVersions, tlsKex, tlsResults),
		open: r.Gauges("open_connections", "Connections that are open, by wire.", []string{"wire"}, wires),
		refused: r.Counters("refused_connections_total", "Connections closed before they were used, by wire and reason.",
			[]string{"wire", "reason"}, wires, []string{refusedConns, refusedConnsPerIP, refusedUID, refusedTLS}),
	}
}
