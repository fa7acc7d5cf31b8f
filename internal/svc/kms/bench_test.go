// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"testing"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

func benchStore(b *testing.B) *kms.Store {
	return openOn(b, memDisk(b), kms.Options{Metrics: kms.NewMetrics(metrics.New(false))})
}

func BenchmarkVerify(b *testing.B) {
	message := make([]byte, 256)
	for _, alg := range signing {
		b.Run(string(alg), func(b *testing.B) {
			s := benchStore(b)
			create(b, s, "k", alg, kms.PurposeApp)
			sig, err := s.Sign(ctx, "k", kms.PurposeApp, message)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := s.Verify(ctx, "k", kms.PurposeApp, message, sig); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	message := make([]byte, 256)
	for _, alg := range signing {
		b.Run(string(alg), func(b *testing.B) {
			s := benchStore(b)
			create(b, s, "k", alg, kms.PurposeApp)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sign(ctx, "k", kms.PurposeApp, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWithSecret is what every verification of a capability pays.
func BenchmarkWithSecret(b *testing.B) {
	s := benchStore(b)
	create(b, s, "mint-x", kms.MAC256, kms.PurposeMint)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.WithSecret("mint-x", 1, kms.PurposeMint, func([]byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
