// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"net"
	"sync"
	"time"
)

// freshGrace is how long a connection that has not sent a request yet may
// still do so once the gateway shuts down; at most twice as long.
const freshGrace = 250 * time.Millisecond

// tracker knows the connections and requests that are not over, so that Serve
// returns only after all that it started.
type tracker struct {
	mu      sync.Mutex
	cond    sync.Cond
	closing bool
	calls   int
	conns   int
	fresh   map[net.Conn]struct{} // accepted, no request seen yet
}

// open forgets an earlier end.
func (t *tracker) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = false
	t.fresh = make(map[net.Conn]struct{})
}

// enter counts a request in; false: it is too late.
func (t *tracker) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.calls++
	return true
}

func (t *tracker) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls--; t.calls == 0 {
		t.cond.Broadcast()
	}
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

// wait lets no request in any more and returns once all are over.
func (t *tracker) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	for t.calls > 0 || t.conns > 0 {
		t.cond.Wait()
	}
}
