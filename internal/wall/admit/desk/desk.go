// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package desk fits admission to the node: its changes become kernel events, its
// state a part of the operators' document.
package desk

import (
	"context"

	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/wall/admit"
)

// Start makes a controller for maxInflight calls and keeps it moving until stop
// is called, which returns once nothing of it runs.
func Start(maxInflight int64, reg *metrics.Registry, events *bus.Bus) (c *admit.Controller, stop func(context.Context) error) {
	c = admit.New(admit.Config{MaxInflight: maxInflight, Metrics: reg, Changed: func(ch admit.Change) { events.Publish(event(ch)) }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	return c, func(context.Context) error {
		cancel()
		<-done
		return nil
	}
}

func event(ch admit.Change) bus.Event {
	cause := ch.Cause
	if ch.State == admit.Open {
		cause = admit.NoCause
	}
	return bus.Admission(ch.Class.String(), ch.State.String(), cause.String(), ch.Why)
}

// Document is the state of c for operators.
func Document(c *admit.Controller) ops.Admission {
	s := c.Status()
	a := ops.Admission{Limit: s.Limit, Floor: s.Floor, MaxInflight: s.Max, Cause: s.Cause.String(), Working: s.Working,
		ClientWaits: s.Running - s.Working, Queued: s.Waiting, ProcessorWaitUS: s.ProcessorWait.Microseconds(),
		LatencyUS: s.Latency.Microseconds(), BaselineUS: s.Baseline.Microseconds(), TopShare: int64(s.Share * 100)}
	if !s.Top.IsZero() {
		a.TopTenant = s.TopLabel
	}
	for _, k := range s.Classes {
		v := ops.AdmissionClass{Class: k.Class.String(), State: k.State.String(), SinceMS: k.Since.UnixMilli(), Refused: k.Refused}
		if k.State != admit.Open {
			v.Cause, v.Why, v.Ends = k.Cause.String(), k.Why, k.Ends
		}
		a.Classes = append(a.Classes, v)
	}
	return a
}
