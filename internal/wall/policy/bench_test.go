// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
)

// BenchmarkDecide is what each request pays for a cached decision under the
// policy of development mode, metrics and clock included.
func BenchmarkDecide(b *testing.B) {
	payload := mustBuild(b, DevSources(devTenant))
	svc, err := New(Config{
		Source: &memSource{}, Verifier: testVerifier, Pin: Hash(payload), CacheTTL: time.Hour,
		Metrics: NewMetrics(memRegistry{prometheus.NewRegistry()}),
	})
	if err != nil {
		b.Fatal(err)
	}
	set, err := Load(payload)
	if err != nil {
		b.Fatal(err)
	}
	svc.Swap(set)
	r := ask("object:get", macronode.ObjectResource, "a")
	b.ReportAllocs()
	for b.Loop() {
		if d, err := svc.Decide(b.Context(), r); err != nil || !d.Allow {
			b.Fatal("denied")
		}
	}
}
