// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode/internal/metrics"
)

// waitBuckets span a place that comes free at once to the queue's deadline.
var waitBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .02, .03, .04, .05}

// counters are what is counted as it happens; the rest is read at a scrape.
type counters struct {
	refused [queueClasses][numCauses]prometheus.Counter
	states  [queueClasses][numStates]prometheus.Gauge
	waited  prometheus.Histogram
}

func (c *Controller) register(r *metrics.Registry) {
	var classes []string
	for _, k := range queueOrder {
		classes = append(classes, k.String())
	}
	refused := r.Counters("admission_refused_total", "Calls that admission refused, by class and cause.", []string{"class", "cause"}, classes, causeNames[NoCause+1:])
	states := r.Gauges("admission_state", "1 for the state that a class is in: open, shedding, recovering.", []string{"class", "state"}, classes, stateNames[:])
	c.counters.waited = r.Histogram("admission_wait_seconds", "Time in the queue of calls that waited and then ran.", waitBuckets)
	for i, k := range classes {
		for cause := NoCause + 1; cause < numCauses; cause++ {
			c.counters.refused[i][cause] = refused.WithLabelValues(k, cause.String())
		}
		for s := range numStates {
			c.counters.states[i][s] = states.WithLabelValues(k, s.String())
		}
		c.counters.states[i][Open].Set(1)
	}
	locked := func(f func() float64) func() float64 {
		return func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return f()
		}
	}
	waiting := locked(func() float64 { return float64(c.waiting) })
	r.Queue("admission", func() int { return int(waiting()) })
	r.GaugeFunc("admission_limit", "Calls that may work at once, as measured; max_inflight bounds it.",
		locked(func() float64 { return float64(c.limit.limit()) }))
	r.GaugeFunc("admission_working", "Calls that hold one of these places.", locked(func() float64 { return float64(c.working) }))
	r.GaugeFunc("admission_client_waits", "Calls inside that gave their place back while they wait for their client.",
		locked(func() float64 { return float64(c.running - c.working) }))
	r.GaugeFunc("admission_processor_wait_seconds", "Wait for a processor that one goroutine in ten exceeded, in the last window under load.",
		locked(func() float64 { return c.limit.last.processor.Seconds() }))
	r.GaugeFunc("admission_pressure", "How far work is slowed down by other work, in the last window; 1 is what is tolerable.",
		locked(func() float64 { return c.limit.last.pressure }))
}

// show makes the gauges say what state a class is in.
func (n *counters) show(queue int, state State) {
	for s, g := range n.states[queue] {
		v := 0.0
		if State(s) == state {
			v = 1
		}
		g.Set(v)
	}
}
