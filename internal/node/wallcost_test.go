// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/wall"
)

// BenchmarkWallAlone is what crossing the wall costs with a running node's stages
// and a handler that does nothing: warm, with a capability and a decision that
// were seen before, and cold, with neither. The capability has five caveats.
func BenchmarkWallAlone(b *testing.B) {
	n := beginDev(b)
	reply := &macronode.Reply{Body: []byte("ok")}
	table, err := route.New([]macronode.Route{{
		Binding: macronode.Binding{Op: "object.get", Service: "svc-storage", Method: "GET", Pattern: "/o/{addr}", Action: "object:get",
			Resource: macronode.ObjectResource, ResourceArg: "addr", Class: macronode.CoreRead},
		Handler: func(context.Context, *macronode.Admitted) (*macronode.Reply, error) { return reply, nil },
	}})
	if err != nil {
		b.Fatal(err)
	}
	stages := n.wall.Stages
	stages.Metrics = metrics.New(false)
	w, err := wall.New(table, wall.Limits{RequestTimeout: time.Minute}, stages)
	if err != nil {
		b.Fatal(err)
	}
	whole, err := capability.Parse(n.token(b, datadir.TenantCapName))
	if err != nil {
		b.Fatal(err)
	}
	narrow := func(expires int64) []byte {
		tok, err := whole.Attenuate(capability.ExpiresAt(expires), capability.OnActions("object:*"), capability.OnResources("object"),
			capability.FromNets(netip.MustParsePrefix("127.0.0.0/8")), capability.AtMostBytes(1<<30))
		if err != nil {
			b.Fatal(err)
		}
		return []byte(tok.Text())
	}
	later := time.Now().Add(time.Hour).Unix()
	call := macronode.Call{Method: "GET", Path: "/o/b3:" + string(make([]byte, 64)), Token: narrow(later),
		Peer: macronode.Peer{Loopback: true, Addr: netip.MustParseAddr("127.0.0.1")}}
	send := func(*macronode.Reply) error { return nil }
	serve := func(b *testing.B, c macronode.Call) {
		if err := w.Serve(b.Context(), &c, send); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("warm", func(b *testing.B) {
		serve(b, call)
		b.ReportAllocs()
		for b.Loop() {
			serve(b, call)
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for i := int64(1); b.Loop(); i++ {
			b.StopTimer()
			c := call
			c.Token = narrow(later + i)
			c.Path = "/o/b3:" + macronode.TenantID{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}.String()
			b.StartTimer()
			serve(b, c)
		}
	})
}
