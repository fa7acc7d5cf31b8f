// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
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
