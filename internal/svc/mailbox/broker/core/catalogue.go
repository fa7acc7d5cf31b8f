// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// ensure returns the topic of that name, made with the default config where there
// is none.
func (b *Core) ensure(ref queue.TopicRef) (*Topic, error) {
	t, err := b.find(ref)
	if !errors.Is(err, ErrNoTopic) {
		return t, err
	}
	b.catalogue.Lock()
	defer b.catalogue.Unlock()
	if t := b.byRef[ref]; t != nil {
		return t, nil
	}
	return b.create(ref, b.cfg.Defaults())
}

// create makes a topic. The caller holds the catalogue and found no such name.
func (b *Core) create(ref queue.TopicRef, cfg queue.Config) (*Topic, error) {
	if !record.ValidName(ref.Name) || ref.Tenant.IsZero() {
		return nil, Refuse(ErrInvalid, "a topic's name is 1 to 128 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", 0)
	}
	if err := cfg.Validate(); err != nil {
		return nil, Refuse(ErrInvalid, err.Error(), 0)
	}
	if a := b.accounts[ref.Tenant]; a != nil && a.Topics >= b.cfg.Limits.MaxTopics {
		return nil, Refuse(ErrTopics, "the tenant has "+Itoa(b.cfg.Limits.MaxTopics)+" topics", wait.Most)
	}
	rec := record.TopicPut{Head: record.Head{Now: b.now(), Topic: b.lastNumber + 1}, Ref: ref, Config: cfg}
	at, err := b.log.StageOne(false, rec.Append(nil), nil)
	if err != nil {
		return nil, b.Staging(err)
	}
	q, err := queue.New(&rec, uint64(at))
	if err != nil {
		return nil, b.fail(err)
	}
	b.lastNumber++
	return b.enter(q), nil
}

// enter puts a topic into the catalogue.
func (b *Core) enter(q *queue.Topic) *Topic {
	t := &Topic{number: q.Number(), ref: q.Ref(), q: q}
	b.byRef[t.ref], b.byNumber[t.number] = t, t
	a := b.accounts[t.ref.Tenant]
	if a == nil {
		a = &tenants.Account{}
		b.accounts[t.ref.Tenant] = a
	}
	a.Topics++
	t.share.Of = a
	return t
}

// leave takes a topic out of the catalogue. The caller holds its lock, too.
func (b *Core) leave(t *Topic) {
	delete(b.byRef, t.ref)
	delete(b.byNumber, t.number)
	t.share.Set(int64(t.q.Latest()), tenants.Load{})
	if t.share.Of.Topics--; t.share.Of.Topics == 0 {
		delete(b.accounts, t.ref.Tenant)
	}
}

// PutTopic makes a topic, or gives one another config, which holds for what is in
// it too.
func (b *Core) PutTopic(ctx context.Context, ref queue.TopicRef, cfg queue.Config) (created bool, err error) {
	if err := cfg.Validate(); err != nil {
		return false, Refuse(ErrInvalid, err.Error(), 0)
	}
	for {
		t, err := b.find(ref)
		if errors.Is(err, ErrNoTopic) {
			b.catalogue.Lock()
			if b.byRef[ref] == nil {
				_, err = b.create(ref, cfg)
				b.catalogue.Unlock()
				if err != nil {
					return false, err
				}
				return true, b.Settle(ctx)
			}
			b.catalogue.Unlock()
			continue
		}
		if err != nil {
			return false, err
		}
		err = b.Change(t, func(u *Turn) error {
			return u.Log(&record.TopicPut{Head: u.Head(), Ref: ref, Config: cfg})
		})
		if errors.Is(err, ErrNoTopic) {
			continue
		}
		if err != nil {
			return false, err
		}
		return false, b.Settle(ctx)
	}
}

// DeleteTopic ends a topic with all that is in it, dead letters too. Receivers that
// wait are told that it is gone.
func (b *Core) DeleteTopic(ctx context.Context, ref queue.TopicRef) error {
	if err := b.deleteNow(ref); err != nil {
		return err
	}
	return b.Settle(ctx)
}

func (b *Core) deleteNow(ref queue.TopicRef) error {
	if err := b.Failure(); err != nil {
		return err
	}
	b.catalogue.Lock()
	defer b.catalogue.Unlock()
	t := b.byRef[ref]
	if t == nil {
		return Refuse(ErrNoTopic, "", 0)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var e queue.Effect
	var buf []byte
	if err := b.stage(t, &record.TopicDelete{Head: record.Head{Now: b.now(), Topic: t.number}}, &e, &buf); err != nil {
		return err
	}
	b.segments.Add(&e)
	t.gone = true
	t.line.CallAll()
	b.leave(t)
	return nil
}
