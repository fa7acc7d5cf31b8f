// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

var (
	bills    = queue.TopicRef{Tenant: tenant, Name: "bills"}
	stranger = queue.TopicRef{Tenant: macronode.TenantID{2}, Name: "orders"}
)

// bounded is a world whose tenants may have so much together.
func bounded(t *testing.T, most *atomic.Pointer[tenants.Load]) *world {
	return newWorld(t, func(w *world) { w.cfg.Tenant = func() tenants.Load { return *most.Load() } })
}

// into sends one message and returns what became of it.
func (w *world) into(ref queue.TopicRef, m Message) error {
	w.Helper()
	sent, err := w.Send(context.Background(), ref, []Message{m})
	if err != nil {
		w.Fatal(err)
	}
	return sent[0].Err
}

// refusedFor wants a refusal of that kind with a wait.
func (w *world) refusedFor(err, target error) {
	w.Helper()
	if !errors.Is(err, target) {
		w.Fatalf("%v, want %v", err, target)
	}
	if after := macronode.AsError(err).RetryAfter; after < wait.Least || after > 366*24*time.Hour {
		w.Errorf("%v: again after %v", err, after)
	}
}

// TestTenantBounds: what all topics of a tenant hold together is bounded, before and
// after each kind of restart, and other tenants do not feel it.
func TestTenantBounds(t *testing.T) {
	ctx := context.Background()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			var most atomic.Pointer[tenants.Load]
			limit := func(l tenants.Load) { most.Store(&l) }
			limit(tenants.Load{tenants.Messages: 4, tenants.InFlight: 2, tenants.Keys: 2})
			w := bounded(t, &most)
			for i, ref := range []queue.TopicRef{orders, bills, orders, bills} {
				m := Message{Payload: []byte("m")}
				if i < 2 {
					m.IdemKey = "key"
				}
				if err := w.into(ref, m); err != nil {
					t.Fatal(err)
				}
			}
			end(w)
			w.refusedFor(w.into(bills, Message{}), ErrDepth)
			w.refusedFor(w.into(queue.TopicRef{Tenant: tenant, Name: "third"}, Message{}), ErrDepth)
			if err := w.into(stranger, Message{IdemKey: "key"}); err != nil {
				t.Errorf("another tenant: %v", err)
			}
			held := w.receive(10)
			if len(held) != 2 {
				t.Fatalf("%d were leased", len(held))
			}
			if _, err := w.Receive(ctx, bills, Want{Max: 1, Wait: time.Hour}); err == nil {
				t.Error("more are leased than the tenant may have")
			} else {
				w.refusedFor(err, ErrInFlight)
			}
			if got, err := w.Receive(ctx, orders, Want{Max: 1}); err != nil || len(got) != 0 {
				t.Errorf("an empty topic: %d messages, %v", len(got), err)
			}
			end(w)
			w.want(w.ack(held[0]), nil)
			if got, err := w.Receive(ctx, bills, Want{Max: 10}); err != nil || len(got) != 1 {
				t.Fatalf("after an ack %d were leased, %v", len(got), err)
			}
			if err := w.into(bills, Message{}); err != nil {
				t.Errorf("after an ack: %v", err)
			}
			limit(tenants.Load{tenants.Messages: 100, tenants.Keys: 2})
			w.refusedFor(w.into(bills, Message{IdemKey: "other"}), ErrDedupFull)
			w.hands.pass(6 * time.Minute) // in which nobody looked at the topics
			if err := w.into(bills, Message{IdemKey: "other"}); err != nil {
				t.Errorf("keys that were forgotten count: %v", err)
			}
			limit(tenants.Load{tenants.Bytes: w.core.Sum(tenant, tenants.Bytes) + 2000})
			if err := w.into(orders, Message{Payload: make([]byte, 1500)}); err != nil {
				t.Errorf("within the bytes: %v", err)
			}
			w.refusedFor(w.into(bills, Message{Payload: make([]byte, 1500)}), ErrBytes)
			if err := w.DeleteTopic(ctx, orders); err != nil {
				t.Fatal(err)
			}
			if err := w.into(bills, Message{Payload: make([]byte, 1500)}); err != nil {
				t.Errorf("a deleted topic counts: %v", err)
			}
		})
	}
}

// TestTenantRefusals: what was refused, or not leased after all, takes no room.
func TestTenantRefusals(t *testing.T) {
	ctx := context.Background()
	var most atomic.Pointer[tenants.Load]
	most.Store(&tenants.Load{tenants.Messages: 10, tenants.Keys: 1, tenants.InFlight: 3})
	w := bounded(t, &most)
	for range 30 {
		sent, err := w.Send(ctx, orders, []Message{{IdemKey: "a"}, {IdemKey: "b"}, {TTL: time.Millisecond, Delay: time.Hour}})
		if err != nil || sent[0].Err != nil || !errors.Is(sent[1].Err, ErrDedupFull) || !errors.Is(sent[2].Err, ErrInvalid) {
			t.Fatalf("%+v, %v", sent, err)
		}
		if got := w.receive(5); len(got) != 0 {
			if _, err := w.Extend(ctx, orders, receipts(got), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		w.hands.pass(time.Millisecond)
	}
	if n := w.core.Sum(tenant, tenants.Messages); n != 1 {
		t.Errorf("%d messages count, 1 is there", n)
	}
	if k := w.core.Sum(tenant, tenants.Keys); k != 1 {
		t.Errorf("%d keys count, 1 is there", k)
	}
}

// TestMaxAge: a topic whose oldest message waits for too long takes no more until that
// is acknowledged, also after a restart.
func TestMaxAge(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(func(c *queue.Config) { c.MaxAge = time.Minute })
			w.send("old")
			w.hands.pass(59 * time.Second)
			w.send("young")
			w.hands.pass(time.Second)
			end(w)
			w.refusedFor(w.into(orders, Message{}), ErrAge)
			held := w.expect(1, "old")
			w.refusedFor(w.into(orders, Message{}), ErrAge)
			w.want(w.ack(held...), nil)
			if err := w.into(orders, Message{}); err != nil {
				t.Error(err)
			}
		})
	}
}
