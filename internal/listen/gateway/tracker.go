// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"net"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/listen/flight"
)

// freshGrace is how long a connection that has not sent a request yet may
// still do so once the gateway shuts down; at most twice as long.
const freshGrace = 250 * time.Millisecond

// tracker knows the connections and requests that are not over, so that Serve
// returns only after all that it started.
type tracker struct {
	flight.Calls // requests

	mu    sync.Mutex
	cond  sync.Cond
	conns int
	fresh map[net.Conn]struct{} // accepted, no request seen yet
}

// open forgets an earlier end.
func (t *tracker) open() {
	t.Open()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh = make(map[net.Conn]struct{})
}

func (t *tracker) add(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns++
	t.fresh[c] = struct{}{}
}

func (t *tracker) used(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.fresh, c)
}

func (t *tracker) remove(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.fresh, c)
	if t.conns--; t.conns == 0 {
		t.cond.Broadcast()
	}
}

// hasten ends connections that send no request, until stop is closed: net/http
// alone would wait for them for seconds.
func (t *tracker) hasten(stop <-chan struct{}) {
	tick := time.NewTicker(freshGrace)
	defer tick.Stop()
	var before map[net.Conn]struct{}
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		t.mu.Lock()
		now := maps.Clone(t.fresh)
		t.mu.Unlock()
		for c := range now {
			if _, ok := before[c]; ok {
				c.Close()
			}
		}
		before = now
	}
}

// wait lets no request in any more and returns once all are over, and the
// connections too.
func (t *tracker) wait() {
	t.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.conns > 0 {
		t.cond.Wait()
	}
}
