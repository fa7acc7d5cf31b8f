// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"math"
	"runtime/metrics"
	"time"
)

// tick is how often a node with work to do is looked at.
const tick = 10 * time.Millisecond

// Run measures, moves the limit and ends states, until ctx does. While there is
// nothing to do it sleeps. One Run at a time.
func (c *Controller) Run(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			c.wait() // from here on
		}
		for c.step(c.wait()) {
			timer.Reset(tick)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
	}
}

// step moves everything that time moves, and reports whether to come back soon.
func (c *Controller) step(processor time.Duration) bool {
	c.mu.Lock()
	now := c.now()
	c.limit.feel(now, processor, c.waiting > 0)
	c.limit.step(now, processor, c.working)
	c.reclaim(now)
	if c.waiting > 0 {
		c.limit.wanted = true
		c.dispatch(now)
	}
	quiet := c.calls == 0 && c.waiting == 0 && c.running == 0 && c.limit.resting()
	c.calls = 0
	for i := range c.classes {
		if c.classes[i].pass(now) {
			c.note(i)
		}
		quiet = quiet && c.classes[i].state == Open
	}
	c.awake = !quiet
	tell := len(c.changes) > 0
	c.mu.Unlock()
	if tell {
		c.tell()
	}
	return !quiet
}

// note keeps a change of state for tell. c.mu is held.
func (c *Controller) note(queue int) {
	k := &c.classes[queue]
	c.counters.show(queue, k.state)
	c.changes = append(c.changes, Change{Class: queueOrder[queue], State: k.state, Cause: k.cause, Why: c.why(k)})
}

// tell reports changes of state, in order, to whom they concern.
func (c *Controller) tell() {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	changes := c.changes
	c.changes = nil
	c.mu.Unlock()
	for _, ch := range changes {
		c.changed(ch)
	}
}

// schedLatencies is how long goroutines were runnable before they ran.
const schedLatencies = "/sched/latencies:seconds"

// newProcessorWait reads the runtime's own measure: the wait that one in ten
// goroutines exceeded since it was read before.
func newProcessorWait() func() time.Duration {
	sample := []metrics.Sample{{Name: schedLatencies}}
	var before []uint64
	return func() time.Duration {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
			return 0
		}
		h := sample[0].Value.Float64Histogram()
		if before == nil {
			before = make([]uint64, len(h.Counts))
		}
		var total uint64
		for i, n := range h.Counts {
			total += n - before[i]
		}
		left, at := total/10, 0
		for i := len(h.Counts) - 1; i >= 0; i-- {
			d := h.Counts[i] - before[i]
			if d > left {
				at = i
				break
			}
			left -= d
		}
		copy(before, h.Counts)
		bound := h.Buckets[at]
		if total == 0 || math.IsInf(bound, 0) {
			return 0
		}
		return time.Duration(bound * float64(time.Second))
	}
}
