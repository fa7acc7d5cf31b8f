// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// mail is a broker that fails in every method, or in none.
type mail struct {
	mailbox.Broker
	err error
}

func (m *mail) Send(context.Context, queue.TopicRef, []broker.Message) ([]broker.Sent, error) {
	return nil, m.err
}
func (m *mail) Receive(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
	return nil, m.err
}
func (m *mail) Ack(context.Context, queue.TopicRef, []string) ([]broker.Outcome, error) {
	return nil, m.err
}
func (m *mail) Nack(context.Context, queue.TopicRef, []string, *time.Duration, string) ([]broker.Outcome, error) {
	return nil, m.err
}
func (m *mail) Extend(context.Context, queue.TopicRef, []string, time.Duration) ([]broker.Outcome, error) {
	return nil, m.err
}
func (m *mail) Held(context.Context, queue.TopicRef, uint64) ([]broker.Holding, error) {
	return nil, m.err
}
func (m *mail) Peek(context.Context, queue.TopicRef, string, int) ([]broker.Peeked, string, error) {
	return nil, "", m.err
}
func (m *mail) Topics(context.Context, macronode.TenantID, string, string, int) ([]broker.TopicStatus, string, error) {
	return nil, "", m.err
}
func (m *mail) Topic(context.Context, queue.TopicRef) (broker.TopicStatus, error) {
	return broker.TopicStatus{}, m.err
}
func (m *mail) PutTopic(context.Context, queue.TopicRef, queue.Config) (bool, error) {
	return false, m.err
}
func (m *mail) DeleteTopic(context.Context, queue.TopicRef) error    { return m.err }
func (m *mail) Purge(context.Context, queue.TopicRef) (int64, error) { return 0, m.err }
func (m *mail) DeadList(context.Context, queue.TopicRef, broker.DeadFilter, string, int) ([]broker.Dead, string, error) {
	return nil, "", m.err
}
func (m *mail) DeadGet(context.Context, queue.TopicRef, queue.ID) (broker.Dead, error) {
	return broker.Dead{}, m.err
}
func (m *mail) DeadDelete(context.Context, queue.TopicRef, broker.DeadFilter) (int64, error) {
	return 0, m.err
}
func (m *mail) Redrive(context.Context, queue.TopicRef, broker.RedriveSpec) (broker.Job, error) {
	return broker.Job{}, m.err
}
func (m *mail) Check(context.Context) error { return nil }

// Each method counts what the disk does to it, and is refused at once while the
// breaker is open; a refusal of the mailbox's own says nothing of the disk.
func TestMailboxMethods(t *testing.T) {
	ctx := t.Context()
	m := &mail{}
	b := breaker.New(breaker.Config{Name: MailboxName, Failures: 1})
	g := NewBroker(m, b)
	var ref queue.TopicRef
	for name, do := range map[string]func() error{
		"Send":        func() error { _, err := g.Send(ctx, ref, nil); return err },
		"Receive":     func() error { _, err := g.Receive(ctx, ref, broker.Want{}); return err },
		"Ack":         func() error { _, err := g.Ack(ctx, ref, nil); return err },
		"Nack":        func() error { _, err := g.Nack(ctx, ref, nil, nil, ""); return err },
		"Extend":      func() error { _, err := g.Extend(ctx, ref, nil, 0); return err },
		"Held":        func() error { _, err := g.Held(ctx, ref, 1); return err },
		"Peek":        func() error { _, _, err := g.Peek(ctx, ref, "", 1); return err },
		"Topics":      func() error { _, _, err := g.Topics(ctx, macronode.TenantID{}, "", "", 1); return err },
		"Topic":       func() error { _, err := g.Topic(ctx, ref); return err },
		"PutTopic":    func() error { _, err := g.PutTopic(ctx, ref, queue.Config{}); return err },
		"DeleteTopic": func() error { return g.DeleteTopic(ctx, ref) },
		"Purge":       func() error { _, err := g.Purge(ctx, ref); return err },
		"DeadList":    func() error { _, _, err := g.DeadList(ctx, ref, broker.DeadFilter{}, "", 1); return err },
		"DeadGet":     func() error { _, err := g.DeadGet(ctx, ref, queue.ID{}); return err },
		"DeadDelete":  func() error { _, err := g.DeadDelete(ctx, ref, broker.DeadFilter{}); return err },
		"Redrive":     func() error { _, err := g.Redrive(ctx, ref, broker.RedriveSpec{}); return err },
	} {
		b.Force(breaker.ForcedClosed, 0, "")
		b.Force(breaker.Auto, 0, "")
		m.err = &macronode.Error{Kind: macronode.DiskFull}
		if err := do(); macronode.KindOf(err) != macronode.DiskFull || g.Check(ctx) != nil {
			t.Errorf("%s: %v; a refusal opens the breaker", name, err)
		}
		m.err = &macronode.Error{Kind: macronode.Unavailable, Err: errors.Join(broker.ErrFailed, errDisk)}
		if err := do(); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", name, err)
		}
		if g.Check(ctx) == nil {
			t.Errorf("%s: its failures do not count", name)
		}
		m.err = nil
		if err := do(); !errors.Is(err, breaker.ErrOpen) || macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%s behind an open breaker: %v", name, err)
		}
	}
}
