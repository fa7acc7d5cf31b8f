// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/wall/admit"
)

// startAdmission makes the wall's admission and keeps it moving until the stop.
func (n *Node) startAdmission(c *config.Config) {
	n.admit = admit.New(admit.Config{MaxInflight: c.Server.MaxInflight, Metrics: n.metrics, Changed: func(ch admit.Change) {
		cause := ch.Cause.String()
		if ch.State == admit.Open {
			cause = admit.NoCause.String()
		}
		n.bus.Publish(bus.Admission(ch.Class.String(), ch.State.String(), cause, ch.Why))
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.admit.Run(ctx)
	}()
	n.onStop("admission", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// admission describes it for operators.
func (n *Node) admission() ops.Admission {
	s := n.admit.Status()
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
