// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// TestStaleReceipts: whatever is recorded for a lease that is over changes
// nothing, even if nobody asked CheckLease.
func TestStaleReceipts(t *testing.T) {
	over := map[string]func(w *world){
		"leased again": func(w *world) { w.now = w.now.Add(10 * time.Second); w.receive(1, 0, time.Minute, 0) },
		"nacked":       func(w *world) { w.nack(w.receipts[0], time.Minute) },
		"acked":        func(w *world) { w.ack(w.receipts[0]) },
		"dead":         func(w *world) { w.kill(1, record.WhyRejected) },
		"redriven":     func(w *world) { w.kill(1, record.WhyRejected); w.redrive(1) },
		"purged":       func(w *world) { w.purge() },
	}
	for name, end := range over {
		t.Run(name, func(t *testing.T) {
			w := newWorld(testConfig())
			_ = w.send(sending{})
			w.receive(1, 0, 10*time.Second, 0)
			old := w.receipts[0]
			end(w)
			before := w.seenFrom()
			for _, r := range []Record{
				&record.Ack{Head: w.head(), Items: []record.Item{old}},
				&record.Nack{Head: w.head(), Items: []record.NackItem{{Item: old}}},
				&record.Extend{Head: w.head(), Until: w.now.Add(time.Hour), Items: []record.Item{old}},
				&record.Lease{Head: w.head(), Until: w.now.Add(time.Hour), Items: []record.Item{old}},
			} {
				if e := w.apply(r); e.Stale != 1 || e.Acked+e.Nacked+e.Extended+e.Leased != 0 {
					t.Errorf("%T: %+v", r, e)
				}
			}
			if after := w.seenFrom(); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			if err := w.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// seenFrom is all that an operator sees.
func (w *world) seenFrom() string {
	p, _ := w.t.Peek(w.now, 0, 100, nil)
	d, _ := w.t.Dead(&record.DeadFilter{}, 0, 100, nil)
	return fmt.Sprint(p, d, w.t.Counts(w.now))
}

// TestLapse: to the millisecond.
func TestLapse(t *testing.T) {
	w := newWorld(testConfig())
	_ = w.send(sending{})
	w.receive(1, 0, 10*time.Second, 0)
	until := w.now.Add(10 * time.Second)
	if w.t.MaxLease() != 1 {
		t.Errorf("the highest lease is %d", w.t.MaxLease())
	}
	w.now = until - 1
	if h, err := w.t.CheckLease(w.now, 1, 1); err != nil || h.Until != until || h.Attempt != 1 {
		t.Errorf("held a millisecond before: %+v %v", h, err)
	}
	if got := w.t.Receivable(w.now, 1, 0, nil); len(got) != 0 {
		t.Errorf("given out while it was leased: %+v", got)
	}
	w.now = until
	if _, err := w.t.CheckLease(w.now, 1, 1); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("held when it lapsed: %v", err)
	}
	if got := w.t.Receivable(w.now, 1, 0, nil); len(got) != 1 || got[0].Attempt != 2 {
		t.Errorf("not receivable at once: %+v", got)
	}
	if _, err := w.t.CheckLease(until-1, 1, 1); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("a clock that went back gave a lease back: %v", err)
	}
}

// TestLostRecords: a record that cannot be read costs itself alone.
func TestLostRecords(t *testing.T) {
	w := newWorld(testConfig())
	for range 4 {
		_ = w.send(sending{})
	}
	w.receive(3, 1<<20, 10*time.Second, 0) // one record leases 1, 2 and 3
	w.ack(w.receipts[0])
	w.nack(w.receipts[1], 5*time.Second)
	w.extend(w.receipts[2], time.Minute)
	lost := func(n ...int) *Topic {
		log := w.log
		w.log = nil
		for i, l := range log {
			keep := true
			for _, k := range n {
				keep = keep && i != k
			}
			if keep {
				w.log = append(w.log, l)
			}
		}
		topic, err := w.replay(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.log = log
		return topic
	}
	topic := lost(5) // the lease
	c := topic.Counts(w.now)
	if c.Acked != 1 || c.Delayed != 1 || c.Leased != 1 || c.Ready != 1 {
		t.Errorf("without the lease: %+v", c)
	}
	if p, _ := topic.Peek(w.now, 0, 9, nil); len(p) != 3 || p[0].Attempts != 1 || p[1].Attempts != 1 {
		t.Errorf("without the lease: %+v", p)
	}
	if topic.MaxLease() != 3 {
		t.Errorf("the highest lease is %d", topic.MaxLease())
	}
	topic = lost(2) // the second send: what followed it finds nothing
	c = topic.Counts(w.now)
	if c.Sent != 3 || c.Acked != 1 || c.Leased != 1 || c.Ready != 1 {
		t.Errorf("without a send: %+v", c)
	}
	topic = lost(6) // the ack: delivered again
	if c = topic.Counts(w.now); c.Acked != 0 || c.Leased != 2 {
		t.Errorf("without the ack: %+v", c)
	}
}

// TestForeignRecords: a record that cannot be this topic's is refused and changes nothing.
func TestForeignRecords(t *testing.T) {
	w := newWorld(testConfig())
	_ = w.send(sending{})
	before := dump(w.t, w.now)
	other := testRef
	other.Name = "others"
	for _, r := range []Record{
		&record.Send{Head: w.head(), Seq: 1, Ref: testRef},
		&record.Send{Head: w.head(), Seq: 3 + maxGap, Ref: testRef},
		&record.Send{Head: w.head(), Seq: 2, Ref: other},
		&record.Send{Head: record.Head{Now: 1, Topic: 8}, Seq: 2, Ref: testRef},
		&record.TopicPut{Head: w.head(), Ref: other, Config: testConfig()},
		&record.TopicPut{Head: w.head(), Ref: testRef},
		&record.Redrive{Head: record.Head{Now: 1, Topic: 8}, To: 7, Num: 1, Seq: 1},
	} {
		var e Effect
		if err := w.t.Apply(r, w.pos+8, &e); !errors.Is(err, ErrRecord) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	var e Effect
	if err := w.t.Apply(&record.Purge{Head: w.head(), Before: 9}, w.t.Applied(), &e); err != nil || e.Purged != 0 {
		t.Errorf("a record that is applied already: %v %+v", err, e)
	}
	if after := dump(w.t, w.now); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// TestPoison: a message that fails always dies with its story, alone; and after a redrive goes on counting.
func TestPoison(t *testing.T) {
	cfg := testConfig()
	cfg.MaxAttempts = 10
	w := newWorld(cfg)
	_ = w.send(sending{})
	_ = w.send(sending{})
	for i := range 10 {
		w.receive(2, 1<<20, 10*time.Second, 0)
		if i == 0 {
			w.ack(w.receipts[1]) // its neighbour
		}
		if i == 9 {
			break
		}
		last := w.receipts[len(w.receipts)-1]
		if i == 0 {
			last = w.receipts[0]
		}
		r := &record.Nack{Head: w.head(), Reason: []byte(strings.Repeat("é", i*10)), Items: []record.NackItem{{Item: last}}}
		w.apply(r)
		w.find(1).leased, w.find(1).waiting, w.find(1).until = false, true, 0
		w.find(1).failures++
	}
	w.now = w.now.Add(10 * time.Second)
	if got := w.t.Receivable(w.now, 9, 0, nil); len(got) != 0 {
		t.Fatalf("an eleventh attempt: %+v", got)
	}
	w.settle()
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	d, err := w.t.DeadByID(w.dead[0].id)
	if err != nil || d.Why != record.WhyMaxAttempts || d.Attempts != 10 || d.First != 1000 || d.Detail != lapsed || len(d.History) != record.MaxEvents {
		t.Fatalf("%+v %v", d, err)
	}
	for i, e := range d.History {
		if want := uint32(i + 3); e.Attempt != want || e.Lapsed != (i == 7) || len(e.Reason) > record.MaxEventReason {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if r := d.History[6].Reason; len(r) != record.MaxEventReason || !strings.HasSuffix(string(r), "é") {
		t.Errorf("a long reason: %q", r)
	}
	w.now = w.now.Add(time.Minute)
	w.redrive(1)
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	got := w.t.Receivable(w.now, 9, 0, nil)
	if len(got) != 1 || got[0].Attempt != 11 || got[0].First != 1000 || got[0].Sent != w.now {
		t.Errorf("after the redrive: %+v", got)
	}
	w.receive(1, 0, 10*time.Second, 0)
	w.now = w.now.Add(10 * time.Second)
	if got := w.t.Receivable(w.now, 9, 0, nil); len(got) != 1 || got[0].Attempt != 12 {
		t.Errorf("after a failure since the redrive: %+v", got)
	}
}

// TestBackoff: full jitter, doubling from 100 ms to a minute.
func TestBackoff(t *testing.T) {
	for attempt, most := range map[uint32]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond,
		10: 51200 * time.Millisecond, 11: time.Minute, 12: time.Minute, 1 << 31: time.Minute,
	} {
		if Backoff(attempt, 0) != 0 || Backoff(attempt, 0.5) != most/2 || Backoff(attempt, 0.999999) >= most || Backoff(attempt, 0.999999) < most-most/50 {
			t.Errorf("attempt %d: %v to %v, most should be %v", attempt, Backoff(attempt, 0), Backoff(attempt, 0.999999), most)
		}
	}
}

// TestLeasedDoNotExpire: who works on a message may finish, though its end has come; then it ends.
func TestLeasedDoNotExpire(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"acked":  func(w *world) { w.ack(w.receipts[0]) },
		"lapsed": func(w *world) { w.now = w.now.Add(time.Hour) },
	} {
		w := newWorld(testConfig())
		for range 3 {
			_ = w.send(sending{})
		}
		w.receive(1, 0, 90*time.Minute, 0)
		w.now = w.now.Add(w.cfg.Retention)
		w.settle()
		if n := w.t.Counts(w.now); n.Leased != 1 || n.Expired != 2 {
			t.Fatalf("%+v", n)
		}
		end(w)
		w.settle()
		if err := w.check(); err != nil {
			t.Error(err)
		}
		if n := w.t.Counts(w.now); n.Acked+n.Expired != 3 || (n.Acked == 1) != (name == "acked") {
			t.Errorf("%s: %+v", name, n)
		}
	}
}
