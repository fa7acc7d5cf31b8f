// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package flight is what both wires need of what is under way: Calls, which end
// before the service that serves them does, and Stall, the end of an operation that
// takes too long.
package flight

import "sync"

// Calls are the calls that are not over. The zero value is ready for use.
type Calls struct {
	mu      sync.Mutex
	closing bool
	calls   int
	idle    chan struct{} // closed when calls is 0; nil: nobody waits
}

// Open lets calls in again after Wait.
func (c *Calls) Open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = false
}

// Enter counts a call in; false: it is too late.
func (c *Calls) Enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.calls++
	return true
}

// Leave counts a call out that Enter let in.
func (c *Calls) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls--; c.calls == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// Wait lets no call in any more and returns once all are over.
func (c *Calls) Wait() {
	c.mu.Lock()
	c.closing = true
	if c.calls > 0 && c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// Len is how many calls are not over.
func (c *Calls) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}
