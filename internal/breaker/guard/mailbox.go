// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// MailboxName is the mailbox's log and what is made of it.
const MailboxName = "mailbox"

// Mailbox makes the breaker of the mailbox. It stays while brokers come and go:
// one that failed is replaced by another, of what is on disk.
func Mailbox(r *breaker.Registry, probe func(context.Context) error) *breaker.Breaker {
	return r.Add(breaker.Config{Name: MailboxName, Stall: storeStall, Probe: probe})
}

// Broker is a mailbox's broker behind a breaker. A receive, which waits for as long
// as its caller likes, is refused like the rest and reports its failures, but is
// not waited for.
type Broker struct {
	mailbox.Broker
	b *breaker.Breaker
}

var _ mailbox.Broker = (*Broker)(nil)

// NewBroker wraps b.
func NewBroker(b mailbox.Broker, br *breaker.Breaker) *Broker { return &Broker{b, br} }

// Check implements mailbox.Broker; an open breaker is a reason of its own.
func (g *Broker) Check(ctx context.Context) error {
	if err := g.b.Check(); err != nil {
		return err
	}
	return g.Broker.Check(ctx)
}

// through makes a call.
func through[T any](b *breaker.Breaker, f func() (T, error)) (v T, err error) {
	p, err := b.Enter()
	if err != nil {
		return v, err
	}
	defer func() { p.Leave(err) }()
	return f()
}

// Send implements mailbox.Broker.
func (g *Broker) Send(ctx context.Context, ref queue.TopicRef, ms []broker.Message) ([]broker.Sent, error) {
	return through(g.b, func() ([]broker.Sent, error) { return g.Broker.Send(ctx, ref, ms) })
}

// Receive implements mailbox.Broker.
func (g *Broker) Receive(ctx context.Context, ref queue.TopicRef, w broker.Want) ([]broker.Delivery, error) {
	if err := g.b.Allow(); err != nil {
		return nil, err
	}
	got, err := g.Broker.Receive(ctx, ref, w)
	g.b.Report(err)
	return got, err
}

// Ack implements mailbox.Broker.
func (g *Broker) Ack(ctx context.Context, ref queue.TopicRef, receipts []string) ([]broker.Outcome, error) {
	return through(g.b, func() ([]broker.Outcome, error) { return g.Broker.Ack(ctx, ref, receipts) })
}

// Nack implements mailbox.Broker.
func (g *Broker) Nack(ctx context.Context, ref queue.TopicRef, receipts []string, delay *time.Duration, reason string) ([]broker.Outcome, error) {
	return through(g.b, func() ([]broker.Outcome, error) { return g.Broker.Nack(ctx, ref, receipts, delay, reason) })
}

// Extend implements mailbox.Broker.
func (g *Broker) Extend(ctx context.Context, ref queue.TopicRef, receipts []string, visibility time.Duration) ([]broker.Outcome, error) {
	return through(g.b, func() ([]broker.Outcome, error) { return g.Broker.Extend(ctx, ref, receipts, visibility) })
}

// Held implements mailbox.Broker.
func (g *Broker) Held(ctx context.Context, ref queue.TopicRef, owner uint64) ([]broker.Holding, error) {
	return through(g.b, func() ([]broker.Holding, error) { return g.Broker.Held(ctx, ref, owner) })
}

// Peek implements mailbox.Broker.
func (g *Broker) Peek(ctx context.Context, ref queue.TopicRef, cursor string, limit int) (all []broker.Peeked, next string, err error) {
	_, err = through(g.b, func() (struct{}, error) {
		all, next, err = g.Broker.Peek(ctx, ref, cursor, limit)
		return struct{}{}, err
	})
	return all, next, err
}

// Topics implements mailbox.Broker.
func (g *Broker) Topics(ctx context.Context, tenant macronode.TenantID, prefix, cursor string, limit int) (all []broker.TopicStatus, next string, err error) {
	_, err = through(g.b, func() (struct{}, error) {
		all, next, err = g.Broker.Topics(ctx, tenant, prefix, cursor, limit)
		return struct{}{}, err
	})
	return all, next, err
}

// Topic implements mailbox.Broker.
func (g *Broker) Topic(ctx context.Context, ref queue.TopicRef) (broker.TopicStatus, error) {
	return through(g.b, func() (broker.TopicStatus, error) { return g.Broker.Topic(ctx, ref) })
}

// PutTopic implements mailbox.Broker.
func (g *Broker) PutTopic(ctx context.Context, ref queue.TopicRef, c queue.Config) (bool, error) {
	return through(g.b, func() (bool, error) { return g.Broker.PutTopic(ctx, ref, c) })
}

// DeleteTopic implements mailbox.Broker.
func (g *Broker) DeleteTopic(ctx context.Context, ref queue.TopicRef) error {
	_, err := through(g.b, func() (struct{}, error) { return struct{}{}, g.Broker.DeleteTopic(ctx, ref) })
	return err
}

// Purge implements mailbox.Broker.
func (g *Broker) Purge(ctx context.Context, ref queue.TopicRef) (int64, error) {
	return through(g.b, func() (int64, error) { return g.Broker.Purge(ctx, ref) })
}

// DeadList implements mailbox.Broker.
func (g *Broker) DeadList(ctx context.Context, ref queue.TopicRef, f broker.DeadFilter, cursor string, limit int) (all []broker.Dead, next string, err error) {
	_, err = through(g.b, func() (struct{}, error) {
		all, next, err = g.Broker.DeadList(ctx, ref, f, cursor, limit)
		return struct{}{}, err
	})
	return all, next, err
}

// DeadGet implements mailbox.Broker.
func (g *Broker) DeadGet(ctx context.Context, ref queue.TopicRef, id queue.ID) (broker.Dead, error) {
	return through(g.b, func() (broker.Dead, error) { return g.Broker.DeadGet(ctx, ref, id) })
}

// DeadDelete implements mailbox.Broker.
func (g *Broker) DeadDelete(ctx context.Context, ref queue.TopicRef, f broker.DeadFilter) (int64, error) {
	return through(g.b, func() (int64, error) { return g.Broker.DeadDelete(ctx, ref, f) })
}

// Redrive implements mailbox.Broker.
func (g *Broker) Redrive(ctx context.Context, ref queue.TopicRef, s broker.RedriveSpec) (broker.Job, error) {
	return through(g.b, func() (broker.Job, error) { return g.Broker.Redrive(ctx, ref, s) })
}
