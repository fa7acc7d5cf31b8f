// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tidy"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Broker is the mailbox. It is safe for concurrent use.
type Broker struct {
	core *core.Core
	tidy tidy.Keeper
	jobs jobs
}

// Open makes a broker of what the log and its snapshots hold, and says what it
// found. Everything that it rests on is durable when it returns. Damage to single
// records is found, counted and passed over; what cannot be passed over (no
// snapshot can be read while the log's beginning is gone) is store.ErrCorrupt.
func Open(cfg Config) (*Broker, Found, error) {
	c, found, err := core.Open(cfg)
	if err != nil {
		return nil, found, err
	}
	b := &Broker{core: c, tidy: tidy.Keeper{Core: c, Log: cfg.Log}, jobs: jobs{wake: make(chan struct{}, 1)}}
	b.resumeJobs()
	return b, found, nil
}

// Serve does what happens by itself: delays and leases that end, retention,
// snapshots, giving room back, redrives. It returns nil when ctx is done, after a
// last snapshot; everything is refused from then on. When the log has failed it
// returns that error, and the broker is of no use any more: another is to be opened.
func (b *Broker) Serve(ctx context.Context) error {
	return b.core.Serve(ctx, b.keepRedriving, b.tidy.Serve)
}

// Check returns nil while the broker can serve; it is cheap.
func (b *Broker) Check(ctx context.Context) error { return b.core.Check(ctx) }

// Send makes messages durable, in order, and says for each what became of it. One
// that is refused does not keep the others back. The error is of the call as a
// whole: with it nothing is known of any message, but that a send repeated with
// its idempotency key has one effect. The topic is made where there is none.
func (b *Broker) Send(ctx context.Context, ref queue.TopicRef, messages []Message) ([]Sent, error) {
	return b.core.Send(ctx, ref, messages)
}

// Receive leases messages, oldest first, and returns them with their payloads once
// the leases are durable. Where there are none it waits, first come first served,
// up to want.Wait; none then is no error. A message whose bytes are damaged goes
// to the dead-letter queue, and the others are delivered.
func (b *Broker) Receive(ctx context.Context, ref queue.TopicRef, want Want) ([]Delivery, error) {
	return b.core.Receive(ctx, ref, want)
}

// Ack ends messages: they were dealt with, and are never delivered again once this
// has returned. A receipt that is stale changes nothing, and its outcome says so.
func (b *Broker) Ack(ctx context.Context, ref queue.TopicRef, receipts []string) ([]Outcome, error) {
	return b.core.Ack(ctx, ref, receipts)
}

// Nack gives messages back, to be received again after the delay; nil draws a
// back-off that grows with the attempts. One whose attempts are used up goes to
// the dead-letter queue. The reason is kept in the message's history.
func (b *Broker) Nack(ctx context.Context, ref queue.TopicRef, receipts []string, delay *time.Duration, reason string) ([]Outcome, error) {
	return b.core.Nack(ctx, ref, receipts, delay, reason)
}

// Extend lets leases end visibility from now, which may be sooner than they would
// have. 0 is the topic's.
func (b *Broker) Extend(ctx context.Context, ref queue.TopicRef, receipts []string, visibility time.Duration) ([]Outcome, error) {
	return b.core.Extend(ctx, ref, receipts, visibility)
}

// PutTopic makes a topic, or gives one another config, which holds for what is in
// it too.
func (b *Broker) PutTopic(ctx context.Context, ref queue.TopicRef, cfg queue.Config) (created bool, err error) {
	return b.core.PutTopic(ctx, ref, cfg)
}

// DeleteTopic ends a topic with all that is in it, dead letters too. Receivers that
// wait are told that it is gone.
func (b *Broker) DeleteTopic(ctx context.Context, ref queue.TopicRef) error {
	return b.core.DeleteTopic(ctx, ref)
}
