// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import "sync"

// tracker knows how many calls are not over, so that Serve returns only after all
// that it started.
type tracker struct {
	mu      sync.Mutex
	cond    sync.Cond
	closing bool
	calls   int
}

// open forgets an earlier end.
func (t *tracker) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = false
}

// enter counts a call in; false: it is too late.
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

// wait lets no call in any more and returns once all are over.
func (t *tracker) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closing = true
	for t.calls > 0 {
		t.cond.Wait()
	}
}
