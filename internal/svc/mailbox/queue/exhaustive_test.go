// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// acts are what schedules are made of.
var acts = []struct {
	name string
	do   func(w *world)
}{
	{"send", func(w *world) { _ = w.send(sending{}) }},
	{"send keyed", func(w *world) { _ = w.send(sending{key: "a"}) }},
	{"receive", func(w *world) { w.receive(1, 0, 10*time.Second, 0) }},
	{"ack first", func(w *world) { w.first(w.ack) }},
	{"ack last", func(w *world) { w.last(w.ack) }},
	{"nack", func(w *world) { w.last(func(i record.Item) { w.nack(i, 3*time.Second) }) }},
	{"extend", func(w *world) { w.first(func(i record.Item) { w.extend(i, 15*time.Second) }) }},
	{"pass", func(w *world) { w.now = w.now.Add(10 * time.Second) }},
	{"settle", func(w *world) { w.settle() }},
	{"redrive", func(w *world) {
		if len(w.dead) > 0 {
			w.redrive(w.dead[0].num)
		}
	}},
}

func (w *world) first(f func(record.Item)) {
	if len(w.receipts) > 0 {
		f(w.receipts[0])
	}
}

func (w *world) last(f func(record.Item)) {
	if n := len(w.receipts); n > 0 {
		f(w.receipts[n-1])
	}
}

// TestEverySmallSchedule plays all schedules of a few steps after one send, in
// a topic where one attempt is enough to die, and in an ordered one where it takes two.
func TestEverySmallSchedule(t *testing.T) {
	depth := 5
	if testing.Short() {
		depth = 4
	}
	cfg := testConfig()
	played := 0
	for _, cfg.Ordered = range []bool{false, true} {
		cfg.MaxAttempts = 1
		if cfg.Ordered {
			cfg.MaxAttempts = 2
		}
		total := 1
		for steps := 1; steps <= depth; steps++ {
			total *= len(acts)
			for s := range total {
				play(t, cfg, s, steps)
				played++
			}
		}
	}
	if played < 20_000 {
		t.Fatalf("only %d schedules", played)
	}
}

func play(t *testing.T, cfg Config, schedule, depth int) {
	w := newWorld(cfg)
	_ = w.send(sending{})
	var names []string
	for n := schedule; depth > 0; n, depth = n/len(acts), depth-1 {
		a := acts[n%len(acts)]
		names = append(names, a.name)
		a.do(w)
	}
	if err := w.check(); err != nil {
		t.Fatalf("%v: %v", names, err)
	}
}
