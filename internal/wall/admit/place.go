// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/wall"
)

// verdict is what became of a call that waits.
type verdict uint8

const (
	undecided verdict = iota
	granted
	refused
)

// Place is what an admitted call holds. Its methods are for the call's own
// goroutine, one at a time.
type Place struct {
	c       *Controller
	t       *tenant
	profile *profile
	queue   int // of class queueOf
	charged int64
	period  uint64 // busy period it was charged in; 0: in none

	start   time.Duration // when it began to wait, then when it began to run
	held    bool          // it holds a place; under Controller.mu
	yielded bool          // it gave it away for good; under Controller.mu
	light   bool          // the node had little to do then
	since   time.Duration // when the wait for the client began
	idle    time.Duration // time spent waiting for the client
	waits   atomic.Int64  // since, for the controller; 0: it does not wait
	gave    time.Duration // when it gave its place away; 0: it did not; -1: it went on since
	within  time.Duration // how long it may wait for a place
	ahead   int64         // cost that was to go first, its own with it
	prev    *Place        // in holders or strays; under Controller.mu
	next    *Place
	qprev   *Place // of those that wait; under Controller.mu
	qnext   *Place
	result  verdict // under Controller.mu
	why     Cause   // under Controller.mu, where refused
	hint    time.Duration
	ready   chan struct{}
	timer   *time.Timer
}

var _ wall.Place = (*Place)(nil)

// Await implements wall.Place.
func (p *Place) Await() {
	p.since = p.c.now()
	p.went(p.since)
	p.waits.Store(int64(p.since))
}

// Resume implements wall.Place.
func (p *Place) Resume() {
	p.idle += p.c.now() - p.since
	p.waits.Store(0)
}

// Yield implements wall.Place.
func (p *Place) Yield() {
	if p.gave != 0 {
		return
	}
	c := p.c
	now := c.now()
	p.gave = max(now, 1)
	c.mu.Lock()
	p.yielded = true
	if p.held {
		c.drop(p)
		c.strays.push(p)
		c.dispatch(now)
	}
	tell := len(c.changes) > 0
	c.mu.Unlock()
	if tell {
		c.tell()
	}
}

// went notes that the call goes on: the time since it gave its place away is the
// disk's, not its own. It gets no place for the little that is left.
func (p *Place) went(now time.Duration) {
	if p.gave > 0 {
		p.idle += now - p.gave
		p.gave = -1
	}
}

// line is a list of calls that are inside, the newest first, and where a search
// through it goes on.
type line struct{ head, scan *Place }

func (l *line) push(p *Place) {
	p.prev, p.next = nil, l.head
	if l.head != nil {
		l.head.prev = p
	}
	l.head = p
}

func (l *line) remove(p *Place) {
	if l.scan == p {
		l.scan = p.next
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.head = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
}

// look calls f with the next calls in the line, reclaimLook at most. f may remove
// the one that it is given.
func (l *line) look(f func(p *Place)) {
	if l.scan == nil {
		l.scan = l.head
	}
	for range reclaimLook {
		p := l.scan
		if p == nil {
			return
		}
		l.scan = p.next
		f(p)
	}
}

// Release implements wall.Place.
func (p *Place) Release(moved int64, ok bool) { p.c.release(p, moved, ok) }
