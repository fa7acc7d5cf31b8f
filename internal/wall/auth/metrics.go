// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// refusals are the kinds that authentication refuses with; each code is a
// value of auth_verify_total{result}.
var refusals = [...]macronode.Kind{
	macronode.Unauthenticated, macronode.TokenMalformed, macronode.TokenForged, macronode.TokenExpired,
	macronode.TokenNotYetValid, macronode.TokenAudience, macronode.TokenAddress, macronode.TokenClientCert,
	macronode.TokenDischarge, macronode.TokenRevoked, macronode.AuthFlood, macronode.CaveatDenied,
	macronode.TenantMismatch, macronode.TenantSuspended, macronode.Unavailable,
}

// results are the counters of auth_verify_total, resolved once.
type results struct {
	ok, anonymous prometheus.Counter
	byKind        [macronode.NumKinds]prometheus.Counter
}

func newResults(r *metrics.Registry) results {
	values := []string{"ok", "anonymous"}
	for _, k := range refusals {
		values = append(values, k.String())
	}
	v := r.Counters("auth_verify_total", "Authentications by result.", []string{"result"}, values)
	out := results{ok: v.WithLabelValues("ok"), anonymous: v.WithLabelValues("anonymous")}
	for _, k := range refusals {
		out.byKind[k] = v.WithLabelValues(k.String())
	}
	return out
}

func (r *results) refused(k macronode.Kind) {
	if c := r.byKind[k]; c != nil {
		c.Inc()
	}
}
