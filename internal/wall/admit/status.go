// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"fmt"
	"time"

	"github.com/rustyonions/macronode"
)

// Status is what admission does and why.
type Status struct {
	// Limit is how many calls may work at once, between Floor and Max (NoLimit:
	// none). Cause is why it is where it is.
	Limit, Floor, Max int64
	Cause             Cause
	// Running are the calls inside, Working those that hold a place; the rest
	// waits for clients. Waiting are queued.
	Running, Working, Waiting int64
	// ProcessorWait is how long work waits for a processor, Latency how long
	// calls take in the node, Baseline the same on a quiet node; of the last
	// window, 0: none ended.
	ProcessorWait, Latency, Baseline time.Duration
	Classes                          [queueClasses]ClassStatus
	// Top is the tenant that used most lately, Share its part of all.
	Top      macronode.TenantID
	TopLabel string
	Share    float64
}

// ClassStatus is one class's state.
type ClassStatus struct {
	Class macronode.Class
	State State
	Since time.Time
	// Cause, Why and Ends say why calls were refused last and what would end it;
	// empty where the class is open.
	Cause   Cause
	Why     string
	Ends    string
	Refused uint64 // since the start
}

// Status describes the moment.
func (c *Controller) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	s := Status{Limit: c.limit.limit(), Floor: int64(c.limit.floor()), Max: c.max, Cause: c.limit.cause,
		Running: c.running, Working: c.working, Waiting: int64(c.waiting),
		ProcessorWait: c.limit.last.processor, Latency: c.limit.last.took, Baseline: c.limit.last.base}
	for i := range c.classes {
		k := &c.classes[i]
		s.Classes[i] = ClassStatus{Class: queueOrder[i], State: k.state, Since: c.base.Add(k.since), Refused: k.refused}
		if k.state != Open {
			s.Classes[i].Cause, s.Classes[i].Why, s.Classes[i].Ends = k.cause, c.why(k), causeEnds[k.cause]
		}
	}
	var all, most float64
	for _, t := range c.tenants {
		used := t.recent(now)
		if all += used; used > most {
			most, s.Top, s.TopLabel = used, t.id, t.label
		}
	}
	if all > 0 {
		s.Share = most / all
	}
	return s
}

// why is what was measured, for people. c.mu is held.
func (c *Controller) why(k *class) string {
	r := &c.limit.last
	switch k.cause {
	case CauseMax:
		return fmt.Sprintf("%d of %d calls are inside, %d of them wait for their clients", c.running, c.max, c.running-c.working)
	case CauseTenant:
		return fmt.Sprintf("tenant %s holds %d of %d places", k.label, own(c.max), c.max)
	case CauseProcessor:
		return fmt.Sprintf("work waits %s for a processor, %s is tolerable; %d places; last refused: tenant %s",
			round(r.processor), processorTarget, c.limit.limit(), k.label)
	case CauseLatency:
		return fmt.Sprintf("calls take %s, %s on a quiet node; %d places; last refused: tenant %s", round(r.took), round(r.base), c.limit.limit(), k.label)
	case CauseGrowth:
		return fmt.Sprintf("%d places, more every %s while calls wait; last refused: tenant %s", c.limit.limit(), window, k.label)
	case CauseOrder:
		return "core calls are shed, facets go first"
	}
	return ""
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
