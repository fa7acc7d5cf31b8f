// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// idemWorld is a topic in which one message was sent with an idempotency key.
func idemWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(testConfig())
	r := w.idemSend("once", 1)
	if err := w.t.Admit(w.now, r); err != nil {
		t.Fatal(err)
	}
	w.apply(r)
	w.live = append(w.live, &naive{seq: r.Seq, at: w.pos, id: r.ID})
	return w
}

func (w *world) idemSend(key string, request byte) *record.Send {
	return &record.Send{Head: w.head(), Seq: w.t.NextSeq(), ID: ID{1, request}, Ref: testRef, Idem: []byte(key), Request: [32]byte{request}, Payload: []byte("x")}
}

// repeat asks what a broker asks when a key comes (again).
func (w *world) repeat(topic *Topic, key string, request byte) (record.Verdict, ID) {
	for _, at := range topic.Seen(w.now, []byte(key), nil) {
		for _, l := range w.log {
			if l.at != at {
				continue
			}
			r, err := record.Decode(l.data)
			if err != nil {
				panic(err)
			}
			if v, id := record.Judge(r, []byte(key), &[32]byte{request}); v != record.Unrelated {
				return v, id
			}
		}
	}
	return record.Unrelated, ID{}
}

// duplicateRows is the table of docs/design/20261123-mailbox.md: what became
// of the first message does not matter, only the window does.
var duplicateRows = []struct {
	name string
	do   func(w *world)
	dead bool
	live bool
}{
	{name: "pending", do: func(*world) {}, live: true},
	{name: "delivered", do: func(w *world) { w.receive(1, 0, 10*time.Second, 0) }, live: true},
	{name: "nacked", do: func(w *world) { w.receive(1, 0, 10*time.Second, 0); w.nack(w.receipts[0], time.Second) }, live: true},
	{name: "acked", do: func(w *world) { w.receive(1, 0, 10*time.Second, 0); w.ack(w.receipts[0]) }},
	{name: "dead", do: func(w *world) { w.kill(1, record.WhyRejected) }, dead: true},
	{name: "dead and deleted", do: func(w *world) { w.kill(1, record.WhyRejected); w.deleteDead(1) }},
	{name: "expired", do: func(w *world) {
		cfg := w.cfg
		cfg.Retention = time.Minute
		w.configure(cfg)
		w.now = w.now.Add(time.Minute)
		w.settle()
	}},
	{name: "redriven", do: func(w *world) { w.kill(1, record.WhyRejected); w.redrive(1) }, live: true},
	{name: "purged", do: func(w *world) { w.purge() }},
	{name: "moved", do: func(w *world) { w.move(1, 0) }, live: true},
	{name: "dead and moved", do: func(w *world) { w.kill(1, record.WhyRejected); w.move(0, 1) }, dead: true},
	{name: "acked, its segment dropped", do: func(w *world) {
		w.receive(1, 0, 10*time.Second, 0)
		w.ack(w.receipts[0])
		sent := w.log[1].at
		at := w.t.Remembered(w.now, uint32(sent>>32), nil)
		if len(at) != 1 || at[0] != sent {
			panic(fmt.Sprint("not remembered where it is: ", at))
		}
		w.apply(&record.Remember{Head: w.head(), Old: sent, Sent: 1000, ID: ID{1, 1}, Request: [32]byte{1}, Idem: []byte("once")})
		w.log[1].data = (&record.Tick{Head: record.Head{Now: w.now}}).Append(nil) // gone
		if at := w.t.Seen(w.now, []byte("once"), nil); len(at) != 1 || at[0] != w.pos {
			panic(fmt.Sprint("remembered at ", at))
		}
	}},
}

// TestDuplicates goes through the rows, with the same and with another
// request, before and after a restart of each kind, and after the window.
func TestDuplicates(t *testing.T) {
	for _, row := range duplicateRows {
		t.Run(row.name, func(t *testing.T) {
			w := idemWorld(t)
			row.do(w)
			c := w.t.Counts(w.now)
			if (c.Ready+c.Delayed+c.Leased == 1) != row.live || (c.Dead == 1) != row.dead {
				t.Fatalf("the message is not where the row says: %+v", c)
			}
			topics := map[string]*Topic{"running": w.t}
			var err error
			if topics["snapshot"], err = thaw(w.t.Freeze()); err != nil {
				t.Fatal(err)
			}
			if row.name != "acked, its segment dropped" { // there is no whole log then
				if topics["whole log"], err = w.replay(nil); err != nil {
					t.Fatal(err)
				}
			}
			start := w.now
			for name, topic := range topics {
				w.now = start
				if v, id := w.repeat(topic, "once", 1); v != record.Duplicate || id != (ID{1, 1}) {
					t.Errorf("%s: the same request: %v, %v", name, v, id)
				}
				if v, _ := w.repeat(topic, "once", 2); v != record.Mismatch {
					t.Errorf("%s: another request: %v", name, v)
				}
				if v, _ := w.repeat(topic, "other", 1); v != record.Unrelated {
					t.Errorf("%s: another key: %v", name, v)
				}
				w.now = start.Add(w.cfg.ReplayWindow + w.cfg.ReplayWindow/16)
				if v, _ := w.repeat(topic, "once", 1); v != record.Unrelated {
					t.Errorf("%s: after the window: %v", name, v)
				}
			}
		})
	}
}

// TestKeysAreBounded: what a topic may remember is bounded, and it says truly when there is room again.
func TestKeysAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxKeys = 20
	w := newWorld(cfg)
	for i := range 20 {
		w.now = w.now.Add(10 * time.Second)
		if err := w.send(sending{idem: fmt.Sprint("key", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.send(sending{idem: "more"}); !errors.Is(err, ErrDedupFull) {
		t.Fatal(err)
	}
	if err := w.send(sending{}); err != nil {
		t.Fatalf("without a key: %v", err)
	}
	room := w.t.KeyRoom(w.now)
	if room <= w.now || room > Time(11_000).Add(cfg.ReplayWindow+cfg.ReplayWindow/16) {
		t.Fatalf("room at %d", room)
	}
	if w.now = room - 1; !errors.Is(w.send(sending{idem: "more"}), ErrDedupFull) {
		t.Fatal("room too early")
	}
	if w.now = room; w.send(sending{idem: "more"}) != nil {
		t.Fatal("no room when it was said")
	}
}
