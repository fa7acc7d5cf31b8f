// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/shadow"
)

// BenchmarkDecide is what each request pays for a decision under the policy of
// development mode, metrics and clock included: out of the cache, and made anew
// for a size that nobody asked about; alone, and with a recorder and a shadow
// policy that see it. The goal is that those add nothing to the first.
func BenchmarkDecide(b *testing.B) {
	sized := DevSources(devTenant)
	sized["sized.cedar"] = []byte("forbid (principal, action == Action::\"object:get\", resource) when { context.bytes > 4611686018427387904 };\n")
	payload := mustBuild(b, sized)
	set, err := Load(payload)
	if err != nil {
		b.Fatal(err)
	}
	for _, watched := range []bool{false, true} {
		registry := memRegistry{prometheus.NewRegistry()}
		cfg := Config{Source: &memSource{}, Verifier: testVerifier, Pin: Hash(payload), CacheTTL: time.Hour, Metrics: NewMetrics(registry)}
		name := "alone"
		if watched {
			name = "watched"
			cfg.Watch = shadow.New(shadow.Config{Record: 4096, Metrics: shadow.NewMetrics(registry)})
			cfg.Watch.SetCandidate(set.Set)
			go cfg.Watch.Serve(b.Context())
		}
		svc, err := New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		svc.Swap(set)
		for _, fresh := range []bool{false, true} {
			kind := "cached"
			if fresh {
				kind = "evaluated"
			}
			b.Run(name+"/"+kind, func(b *testing.B) {
				r := ask("object:get", macronode.ObjectResource, "a")
				b.ReportAllocs()
				for b.Loop() {
					if fresh {
						r.Bytes++
					}
					if d, err := svc.Decide(b.Context(), r); err != nil || !d.Allow {
						b.Fatal("denied")
					}
				}
			})
		}
	}
}
