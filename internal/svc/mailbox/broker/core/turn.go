// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/room"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Turn is a moment in which somebody has a topic, or two, to themselves. It ends
// with the closure that it was given to.
type Turn struct {
	// Now is the moment. Queue is the topic's state, Other that of the second
	// topic, which may be the same one.
	Now          queue.Time
	Queue, Other *queue.Topic
	// Waiting is how many receivers wait.
	Waiting int
	// Effect adds up what was logged.
	Effect queue.Effect

	c        *Core
	t, other *Topic
	buf      []byte
}

// Head is the head of a record about the topic, made now.
func (u *Turn) Head() record.Head { return record.Head{Now: u.Now, Topic: u.t.number} }

// Log stages a record and applies it to both topics. What it says is durable, and
// may be told, after Settle.
func (u *Turn) Log(r record.Record) error {
	err := u.c.stageBoth(u.t, u.other, r, &u.Effect, &u.buf)
	u.c.segments.Add(&u.Effect)
	return err
}

// Change runs f with the topic locked; ErrNoTopic where it is gone.
func (b *Core) Change(t *Topic, f func(*Turn) error) error { return b.ChangeBoth(t, t, f) }

// ChangeBoth runs f with two topics locked; ErrNoTopic where either is gone.
func (b *Core) ChangeBoth(t, other *Topic, f func(*Turn) error) error {
	unlock := lockBoth(t, other)
	defer unlock()
	if t.gone || other.gone {
		return Refuse(ErrNoTopic, "", 0)
	}
	u := Turn{Now: b.now(), Queue: t.q, Other: other.q, Waiting: t.line.Length(), c: b, t: t, other: other}
	err := f(&u)
	t.drain.Gone(int64(u.Now), u.Effect.Purged)
	for _, touched := range [2]*Topic{t, other} {
		touched.rearm(b, u.Now)
		b.onward(touched, u.Now)
	}
	return err
}

// Ref is the topic's name, Number what records call it.
func (t *Topic) Ref() queue.TopicRef { return t.ref }

// Number is what records call the topic.
func (t *Topic) Number() uint32 { return t.number }

// FindNumber returns the topic that records call n; nil where it is gone.
func (b *Core) FindNumber(n uint32) *Topic {
	b.catalogue.RLock()
	defer b.catalogue.RUnlock()
	return b.byNumber[n]
}

// All is a copy of the catalogue.
func (b *Core) All() []*Topic {
	b.catalogue.RLock()
	defer b.catalogue.RUnlock()
	list := make([]*Topic, 0, len(b.byNumber))
	for _, t := range b.byNumber {
		list = append(list, t)
	}
	return list
}

// Holding is what a segment of the log holds of use.
func (b *Core) Holding(segment uint32) room.Holding { return b.segments.Of(segment) }

// Needed is the place from which on a snapshot on disk may need the log.
func (b *Core) Needed() store.Pos { return b.snapshots.Needed() }

// Wake gives one when the disk was found full: there may be room to give back.
func (b *Core) Wake() <-chan struct{} { return b.snapshots.Wake }
