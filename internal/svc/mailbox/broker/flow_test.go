// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

func TestSendReceiveAck(t *testing.T) {
	w := newWorld(t)
	ids := w.sendAll(Message{Payload: []byte("one"), Attrs: map[string]string{"b": "2", "a": "1"}, Key: "k", CorrID: "c"}, Message{Payload: []byte("two")})
	got := w.expect(10, "one", "two")
	d := got[0]
	if d.ID != ids[0] || d.Attempt != 1 || d.Key != "k" || d.CorrID != "c" || len(d.Attrs) != 2 || d.Attrs["a"] != "1" ||
		d.Hash != b3.Sum([]byte("one")) || !d.TS.Equal(w.hands.Wall()) {
		t.Errorf("delivered %+v", d)
	}
	if len(w.receive(10)) != 0 {
		t.Error("leased messages were delivered again")
	}
	w.want(w.ack(got...), nil)
	w.want(w.ack(got...), ErrLeaseLost)
	if c := w.counts(); c.Acked != 2 || c.Leased != 0 {
		t.Errorf("counts %+v", c)
	}
}

// TestStaleReceipt: once the visibility has passed and another has the message, the
// first receipt changes nothing.
func TestStaleReceipt(t *testing.T) {
	w := newWorld(t)
	w.send("m")
	first := w.expect(1, "m")
	w.hands.pass(31 * time.Second)
	w.want(w.ack(first...), ErrLeaseLost)
	second := w.expect(1, "m")
	if second[0].Attempt != 2 || second[0].Receipt == first[0].Receipt {
		t.Fatalf("attempt %d", second[0].Attempt)
	}
	w.want(w.ack(first...), ErrLeaseLost)
	zero := time.Duration(0)
	out, err := w.Nack(context.Background(), orders, receipts(first), &zero, "late")
	if err != nil {
		t.Fatal(err)
	}
	w.want(outcomes(out), ErrLeaseLost)
	if out, err = w.Extend(context.Background(), orders, receipts(first), time.Hour); err != nil {
		t.Fatal(err)
	}
	w.want(outcomes(out), ErrLeaseLost)
	if len(w.receive(1)) != 0 {
		t.Error("a stale nack released the message")
	}
	w.want(w.ack(second...), nil)
}

// TestForeignReceipts: a receipt counts in its topic alone, once in a call, and what
// is no receipt is told apart from what is stale.
func TestForeignReceipts(t *testing.T) {
	w := newWorld(t)
	w.send("m", "n")
	got := w.expect(2, "m", "n")
	other := queue.TopicRef{Tenant: tenant, Name: "other"}
	stranger := queue.TopicRef{Tenant: macronode.TenantID{2}, Name: "orders"}
	for _, ref := range []queue.TopicRef{other, stranger} {
		if _, err := w.PutTopic(context.Background(), ref, defaults()); err != nil {
			t.Fatal(err)
		}
		out, err := w.Ack(context.Background(), ref, receipts(got))
		if err != nil {
			t.Fatal(err)
		}
		w.want(outcomes(out), ErrReceipt)
	}
	out, err := w.Ack(context.Background(), orders, []string{got[0].Receipt, "nonsense", got[0].Receipt, got[1].Receipt})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, ErrReceipt, ErrLeaseLost, nil} {
		w.want(outcomes(out[i:i+1]), want)
	}
	if macronode.KindOf(out[1].Err) != macronode.Malformed || macronode.KindOf(out[2].Err) != macronode.LeaseLost {
		t.Error("the outcomes are of other kinds")
	}
	if _, err := w.Ack(context.Background(), orders, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no receipts: %v", err)
	}
}

func TestNackAndDead(t *testing.T) {
	w := newWorld(t)
	ids := w.send("poison", "good")
	delay := 10 * time.Second
	for attempt := 1; attempt <= 3; attempt++ {
		got := w.receive(2)
		if got[0].Attempt != attempt || string(got[0].Payload) != "poison" {
			t.Fatalf("attempt %d of %.10q", got[0].Attempt, got[0].Payload)
		}
		if len(got) == 2 {
			w.want(w.ack(got[1]), nil)
		}
		out, err := w.Nack(context.Background(), orders, receipts(got[:1]), &delay, "bad "+strconv.Itoa(attempt))
		if err != nil {
			t.Fatal(err)
		}
		w.want(outcomes(out), nil)
		if len(w.receive(2)) != 0 {
			t.Error("a delayed message is delivered at once")
		}
		w.hands.pass(delay)
	}
	if len(w.receive(2)) != 0 {
		t.Error("a message is delivered more often than it may")
	}
	if c := w.counts(); c.Dead != 1 || c.Acked != 1 {
		t.Fatalf("counts %+v", c)
	}
	list, next, err := w.DeadList(context.Background(), orders, DeadFilter{Reason: "max_attempts"}, "", 0)
	if err != nil || len(list) != 1 || next != "" || list[0].ID != ids[0] || list[0].Attempts != 3 || list[0].LastError != "bad 3" || list[0].Payload != nil {
		t.Fatalf("%d dead letters, %v: %+v", len(list), err, list)
	}
	d, err := w.DeadGet(context.Background(), orders, ids[0])
	if err != nil || string(d.Payload) != "poison" || len(d.History) != 3 || d.History[0].Error != "bad 1" || d.Damaged {
		t.Fatalf("%v: %d events", err, len(d.History))
	}
	if _, err := w.DeadGet(context.Background(), orders, ids[1]); !errors.Is(err, ErrNoMessage) {
		t.Errorf("an acked message in the dead-letter queue: %v", err)
	}
	n, err := w.DeadDelete(context.Background(), orders, DeadFilter{Reason: "integrity"})
	if err != nil || n != 0 {
		t.Errorf("another reason deleted %d, %v", n, err)
	}
	if n, err = w.DeadDelete(context.Background(), orders, DeadFilter{IDs: ids[:1]}); err != nil || n != 1 || w.counts().Dead != 0 {
		t.Errorf("deleted %d, %v", n, err)
	}
}

// TestBackoff: a nack without a delay waits between 0 and a bound that doubles.
func TestBackoff(t *testing.T) {
	w := newWorld(t)
	w.put(func(c *queue.Config) { c.MaxAttempts = 100 })
	w.send("m")
	var longest time.Duration
	for attempt := 1; attempt <= 12; attempt++ {
		got := w.expect(1, "m")
		if _, err := w.Nack(context.Background(), orders, receipts(got), nil, ""); err != nil {
			t.Fatal(err)
		}
		limit := min(100*time.Millisecond<<(attempt-1), time.Minute)
		waited := time.Duration(0)
		for ; len(w.peek()) == 1 && w.peek()[0].State != StateReady; waited += limit / 100 {
			w.hands.pass(limit / 100)
			if waited > limit+limit/50 {
				t.Fatalf("attempt %d waits longer than %v", attempt, limit)
			}
		}
		longest = max(longest, waited)
	}
	if longest < time.Second {
		t.Errorf("the longest of twelve waits is %v", longest)
	}
}

func (w *world) peek() []Peeked {
	w.Helper()
	list, _, err := w.Peek(context.Background(), orders, "", 100)
	if err != nil {
		w.Fatal(err)
	}
	return list
}

func TestDelayTTLAndKeys(t *testing.T) {
	w := newWorld(t)
	w.sendAll(
		Message{Payload: []byte("later"), Delay: time.Minute},
		Message{Payload: []byte("scheduled"), DeliverAt: w.hands.Wall().Add(2 * time.Minute)},
		Message{Payload: []byte("short"), TTL: time.Second},
		Message{Payload: []byte("a1"), Key: "a"}, Message{Payload: []byte("a2"), Key: "a"}, Message{Payload: []byte("b1"), Key: "b"})
	w.hands.pass(1500 * time.Millisecond)
	w.catchUp()
	got := w.expect(10, "a1", "b1")
	w.want(w.ack(got...), nil)
	w.want(w.ack(w.expect(10, "a2")...), nil)
	w.hands.jump(time.Hour) // nobody moves deadlines by setting the clock
	if len(w.receive(10)) != 0 {
		t.Error("a jump of the wall clock released a message")
	}
	w.hands.pass(59 * time.Second)
	w.expect(10, "later")
	w.hands.pass(time.Minute)
	w.hands.jump(-2 * time.Hour)
	if len(w.receive(10)) < 1 {
		t.Error("a jump of the wall clock held a message")
	}
	if c := w.counts(); c.Expired != 1 {
		t.Errorf("%d expired", c.Expired)
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Limits = Limits{MaxTopics: 2, MaxMessageBytes: 1000, MaxBatch: 10} })
	ctx := context.Background()
	w.put(func(c *queue.Config) { c.MaxDepth, c.MaxInFlight, c.MaxKeys = 3, 2, 1 })
	for what, m := range map[string]Message{
		"payload": {Payload: make([]byte, 1001)},
		"attr":    {Attrs: map[string]string{strings.Repeat("n", 65): ""}},
		"value":   {Attrs: map[string]string{"n": strings.Repeat("v", 257)}},
		"noname":  {Attrs: map[string]string{"": "v"}},
		"key":     {Key: strings.Repeat("k", 257)},
		"idem":    {IdemKey: strings.Repeat("k", 256)},
		"delay":   {Delay: -time.Second},
		"ttl":     {TTL: -time.Second},
		"due":     {Delay: time.Hour, TTL: time.Minute},
	} {
		sent, err := w.Send(ctx, orders, []Message{m})
		if err != nil || !errors.Is(sent[0].Err, ErrInvalid) && !errors.Is(sent[0].Err, ErrTooLarge) {
			t.Errorf("%s: %v, %v", what, err, sent)
		}
	}
	if _, err := w.Send(ctx, orders, make([]Message, 11)); !errors.Is(err, ErrInvalid) {
		t.Errorf("too large a batch: %v", err)
	}
	sent, err := w.Send(ctx, orders, []Message{{IdemKey: "a"}, {IdemKey: "b"}, {}, {}, {}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, ErrDedupFull, nil, nil, ErrDepth} {
		w.want([]error{sent[i].Err}, want)
	}
	if e := macronode.AsError(sent[1].Err); e.RetryHint() < time.Minute {
		t.Errorf("keys are forgotten in 5 minutes; told to wait %v", e.RetryHint())
	}
	w.receive(2)
	if _, err := w.Receive(ctx, orders, Want{}); !errors.Is(err, ErrInFlight) || macronode.AsError(err).RetryHint() > 30*time.Second {
		t.Errorf("the lease of a third: %v, wait %v", err, macronode.AsError(err).RetryHint())
	}
	for i, want := range []error{nil, ErrTopics} {
		_, err := w.PutTopic(ctx, queue.TopicRef{Tenant: tenant, Name: "t" + strconv.Itoa(i)}, defaults())
		w.want([]error{err}, want)
	}
	if _, err := w.PutTopic(ctx, queue.TopicRef{Tenant: tenant, Name: "No"}, defaults()); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := w.Receive(ctx, queue.TopicRef{Tenant: tenant, Name: "none"}, Want{}); !errors.Is(err, ErrNoTopic) {
		t.Errorf("no topic: %v", err)
	}
}

func TestTopics(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for _, name := range []string{"b1", "a1", "a2", "a3"} {
		if created, err := w.PutTopic(ctx, queue.TopicRef{Tenant: tenant, Name: name}, defaults()); err != nil || !created {
			t.Fatal(created, err)
		}
	}
	page, next, err := w.Topics(ctx, tenant, "a", "", 2)
	if err != nil || len(page) != 2 || page[0].Ref.Name != "a1" || next != "a2" {
		t.Fatalf("%d topics, next %q, %v", len(page), next, err)
	}
	page, next, err = w.Topics(ctx, tenant, "a", next, 2)
	if err != nil || len(page) != 1 || page[0].Ref.Name != "a3" || next != "" {
		t.Fatalf("%d topics, next %q, %v", len(page), next, err)
	}
	if page, _, _ := w.Topics(ctx, macronode.TenantID{2}, "", "", 0); len(page) != 0 {
		t.Error("another tenant sees the topics")
	}
	w.send("x", "y")
	w.hands.pass(time.Second)
	s, err := w.Topic(ctx, orders)
	if err != nil || s.Counts.Ready != 2 || s.OldestUnacked != time.Second {
		t.Fatalf("%+v, %v", s, err)
	}
	got := w.receive(1)
	if n, err := w.Purge(ctx, orders); err != nil || n != 2 {
		t.Fatalf("purged %d, %v", n, err)
	}
	w.want(w.ack(got...), ErrLeaseLost)
	w.send("z")
	if err := w.DeleteTopic(ctx, orders); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Topic(ctx, orders); !errors.Is(err, ErrNoTopic) {
		t.Errorf("a deleted topic: %v", err)
	}
	w.send("new")
	w.restart()
	w.expect(10, "new")
	w.want(w.ack(got...), ErrLeaseLost) // of a topic that had the name before
}

func TestPeek(t *testing.T) {
	w := newWorld(t)
	w.sendAll(Message{Payload: []byte("a")}, Message{Payload: []byte("b"), Delay: time.Minute}, Message{Payload: []byte("c"), Key: "k"})
	w.receive(1)
	list, next, err := w.Peek(context.Background(), orders, "", 2)
	if err != nil || len(list) != 2 || next == "" || list[0].State != StateLeased || list[1].State != StateDelayed || list[1].Until != time.Minute {
		t.Fatalf("%+v, %q, %v", list, next, err)
	}
	list, next, err = w.Peek(context.Background(), orders, next, 2)
	if err != nil || len(list) != 1 || next != "" || list[0].State != StateReady || list[0].Key != "k" || list[0].Attempt != 0 {
		t.Fatalf("%+v, %q, %v", list, next, err)
	}
	if _, _, err := w.Peek(context.Background(), orders, "?", 2); !errors.Is(err, ErrCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
}
