// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
)

// TestSlowCrowd: one address opens all the connections it may, and many more, and
// lets each crawl in another way. What is too much is cut at once, the rest when its
// time is over, another address is served all the while, and nothing is left.
func TestSlowCrowd(t *testing.T) {
	const perIP, toCut = 15, 30
	conf, pool := serverTLS(t)
	r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		if c.Body != nil {
			c.Binding = &macronode.Binding{Streaming: true}
			if _, err := io.Copy(io.Discard, c.Body); err != nil {
				return err
			}
		}
		return hello(ctx, c, send)
	}, options{tls: conf, rules: func(l *listen.Rules) { l.MaxConns, l.MaxConnsPerIP = 60, perIP },
		limits: func(l *Limits) { l.ReadHeaderTimeout, l.StallTimeout = 2*time.Second, 2*time.Second }})
	before := settled(t, r)
	stop, served := r.bystander(t, pool)
	<-served
	crawl := []func(h *h2conn){
		func(h *h2conn) { h.w.WriteString("\x00\x00\x08\x06") },             // half a frame's head
		func(h *h2conn) { h.send(fHeaders, 0, 1, get) },                     // a header without its end
		func(h *h2conn) { h.send(fHeaders, endHeaders, 1, "\x83"+get[1:]) }, // a body that does not come: its stream ends
		func(h *h2conn) {
			h.send(fHeaders, endHeaders, 1, "\x83"+get[1:])
			h.w.WriteString("\x00\x40\x00\x00\x00\x00\x00\x00\x01abc")
		}, // one that stops
	}
	var conns []*h2conn
	cut := 0
	for i := 0; cut < toCut && i < 1000; i++ {
		h := r.h2from(t, pool, net.IPv4(127, 0, 0, 2))
		if h == nil {
			cut++
			continue
		}
		crawl[i%len(crawl)](h)
		h.w.Flush()
		conns = append(conns, h)
	}
	if cut < toCut || len(conns) < perIP {
		t.Errorf("%d connections were cut, %d let in", cut, len(conns))
	}
	<-served
	for i, h := range conns {
		if i%len(crawl) == 2 {
			continue // its stream ends, the connection is idle then
		}
		h.ended()
	}
	for _, h := range conns {
		h.c.Close()
	}
	<-served
	stop()
	if r.trips("h2_slow_frame") == 0 || r.trips(guardSlowBody) == 0 {
		t.Errorf("%v slow frames, %v slow bodies", r.trips("h2_slow_frame"), r.trips(guardSlowBody))
	}
	if after := settled(t, r); after.goroutines > before.goroutines+2 || after.heap > before.heap+8<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
