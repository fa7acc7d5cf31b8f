// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall_test

import (
	"context"
	"testing"

	"github.com/rustyonions/macronode"
)

// BenchmarkPipeline is the wall's own cost, its stages being next to free. The
// stages' costs are benchmarked in their packages, and all together in
// internal/node.
func BenchmarkPipeline(b *testing.B) {
	for _, c := range []struct {
		name    string
		prepare func(p *parts)
	}{
		{"accepted", func(*parts) {}},
		{"refused-by-auth", func(p *parts) { p.fail["auth"] = macronode.Errorf(macronode.TokenExpired, "expired") }},
		{"refused-by-policy", func(p *parts) { p.fail["policy"] = macronode.Errorf(macronode.Denied, "no") }},
		{"refused-by-quota", func(p *parts) { p.fail["quota"] = macronode.Errorf(macronode.QuotaRate, "slow down") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newParts()
			c.prepare(p)
			reply := &macronode.Reply{Body: []byte("ok")}
			p.ran = func(context.Context, *macronode.Admitted) (*macronode.Reply, error) { return reply, nil }
			w := newWall(b, p)
			call := macronode.Call{Method: "PUT", Path: "/t/x", Peer: macronode.Peer{TLS: true}}
			send := func(*macronode.Reply) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				p.order, p.events, p.settled = p.order[:0], p.events[:0], p.settled[:0]
				c := call
				w.Serve(context.Background(), &c, send)
			}
		})
	}
}
