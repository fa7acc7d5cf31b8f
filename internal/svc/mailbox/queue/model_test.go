// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// step does one thing that n chooses; more numbers choose how.
func (w *world) step(pick func(name string, n int) int) {
	receipt := func() int { return pick("receipt", len(w.receipts)) }
	seconds := func(name string, n int) time.Duration { return time.Duration(pick(name, n)) * 2500 * time.Millisecond }
	switch op := pick("op", 18); {
	case op < 5:
		s := sending{size: pick("size", 3) * 200}
		s.key = []string{"", "", "a", "b"}[pick("key", 4)]
		s.idem = []string{"", "", "i1", "i2", "i3"}[pick("idem", 5)]
		s.delay = []time.Duration{0, 0, 0, 5 * time.Second}[pick("delay", 4)]
		s.ttl = []time.Duration{0, 0, 0, 12 * time.Second, 40 * time.Minute}[pick("ttl", 5)]
		_ = w.send(s) // what is not admitted is not there for the reference either
	case op < 8:
		w.receive(1+pick("max", 4), int64(pick("bytes", 4))*400, 2500*time.Millisecond+seconds("visibility", 5), pick("skip", 2))
	case op < 10 && len(w.receipts) > 0:
		w.ack(w.receipts[receipt()])
	case op == 10 && len(w.receipts) > 0:
		w.nack(w.receipts[receipt()], seconds("delay", 4))
	case op == 11 && len(w.receipts) > 0:
		w.extend(w.receipts[receipt()], seconds("visibility", 5)+time.Second)
	case op == 12:
		w.now = w.now.Add(seconds("pass", 5))
	case op == 13:
		w.now = w.now.Add([]time.Duration{time.Second, 10 * time.Second, 3 * time.Minute, 31 * time.Minute}[pick("pass", 4)])
		if pick("settle", 2) == 0 {
			w.settle()
		}
	case op == 14:
		w.settle()
	case op == 15 && len(w.dead) > 0:
		m := w.dead[pick("letter", len(w.dead))]
		switch pick("what", 3) {
		case 0:
			w.deleteDead(m.num)
		case 1:
			w.move(0, m.num)
		default:
			w.redrive(m.num)
		}
	case op == 16 && len(w.live) > 0:
		m := w.live[pick("message", len(w.live))]
		if pick("what", 4) == 0 {
			w.kill(m.seq, 2+Why(pick("why", 2)))
		} else {
			w.move(m.seq, 0)
		}
	case op == 17:
		w.rare(pick)
	}
}

func (w *world) rare(pick func(name string, n int) int) {
	cfg := w.cfg
	switch pick("rare", 8) {
	case 0:
		w.purge()
		return
	case 1, 2:
		cfg.Ordered = !cfg.Ordered
	case 3:
		cfg.KeepExpired = !cfg.KeepExpired
	case 4:
		cfg.MaxAttempts = 1 + int64(pick("attempts", 4))
	case 5:
		cfg.Retention = []time.Duration{20 * time.Minute, time.Hour, 50 * time.Hour}[pick("retention", 3)]
	case 6:
		cfg.MaxInFlight = 1 + int64(pick("in flight", 5))
	default:
		cfg.MaxDepth, cfg.MaxKeys = 1+int64(pick("depth", 20)), 1+int64(pick("keys", 4))
	}
	w.configure(cfg)
}

// TestAgainstReference does whatever comes, and compares everything that can
// be seen after each step with a list that is looked through from the beginning.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(testConfig())
		pick := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.step(pick)
			if err := w.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSnapshotAndTail takes snapshots between all steps, without stopping, and
// writes them at the end, when the topic is long another: each, and what came
// after it in the log, is what the whole log is.
func TestSnapshotAndTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(testConfig())
		pick := func(name string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name) }
		snapshots := []*Snapshot{w.t.Freeze()}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			w.step(pick)
			snapshots = append(snapshots, w.t.Freeze())
		}
		want := dump(w.t, w.now)
		full, err := w.replay(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(full, w.now); got != want {
			t.Fatalf("the whole log again:\n%s\nit was\n%s", got, want)
		}
		for i, s := range snapshots {
			topic, err := thaw(s)
			if err != nil {
				t.Fatal(err)
			}
			if topic, err = w.replay(topic); err != nil {
				t.Fatal(err)
			}
			if got := dump(topic, w.now); got != want {
				t.Fatalf("snapshot %d of %d and the tail:\n%s\nit was\n%s", i, len(snapshots), got, want)
			}
			w.t = topic
			if err := w.check(); err != nil {
				t.Fatalf("snapshot %d and the tail: %v", i, err)
			}
		}
	})
}
