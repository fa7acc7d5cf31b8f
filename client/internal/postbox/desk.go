// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package postbox

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client/mailbox"
)

func (t *topic) status(now time.Time) mailbox.Status {
	s := mailbox.Status{Topic: t.name, Config: t.conf, Counts: maps.Clone(t.counts)}
	oldest := now
	for _, m := range t.live {
		s.Depth.Bytes += int64(len(m.Payload))
		if m.sent.Before(oldest) {
			oldest = m.sent
		}
		switch {
		case m.lease != 0:
			s.Depth.InFlight++
		case m.after.After(now):
			s.Depth.Delayed++
		default:
			s.Depth.Ready++
		}
	}
	s.OldestUnacked = mailbox.Millis(now.Sub(oldest))
	s.Depth.Dead, s.Depth.Keys = int64(len(t.dead)), int64(len(t.keys))
	return s
}

// page cuts what follows cursor, which is the name of the last, to limit.
func page[T any](all []T, name func(T) string, cursor string, limit int) ([]T, string) {
	if cursor != "" {
		at := slices.IndexFunc(all, func(v T) bool { return name(v) == cursor })
		all = all[at+1:]
	}
	if limit = cmp.Or(limit, 100); len(all) > limit {
		return all[:limit], name(all[limit-1])
	}
	return all, ""
}

// Topics lists topics by name.
func (b *Box) Topics(prefix, cursor string, limit int) ([]mailbox.Status, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []mailbox.Status{}
	for _, name := range slices.Sorted(maps.Keys(b.topics)) {
		if t, err := b.find(name); err == nil && strings.HasPrefix(name, prefix) {
			all = append(all, t.status(b.now()))
		}
	}
	return page(all, func(s mailbox.Status) string { return s.Topic }, cursor, limit)
}

// Topic is how one stands.
func (b *Box) Topic(name string) (mailbox.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return mailbox.Status{}, err
	}
	return t.status(b.now()), nil
}

// Put gives a topic a config, and makes it where there is none.
func (b *Box) Put(name string, c mailbox.Config) (s mailbox.Status, created bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	created = b.topics[name] == nil
	t := b.make(name)
	d := (&Box{now: b.now, topics: map[string]*topic{}, changed: make(chan struct{})}).make(name).conf
	for _, m := range []struct{ in, def *mailbox.Millis }{{&c.Retention, &d.Retention}, {&c.DLQRetention, &d.DLQRetention},
		{&c.ReplayWindow, &d.ReplayWindow}, {&c.Visibility, &d.Visibility}} {
		*m.in = cmp.Or(*m.in, *m.def)
	}
	for _, m := range []struct{ in, def *int64 }{{&c.MaxAttempts, &d.MaxAttempts}, {&c.MaxDepth, &d.MaxDepth}, {&c.MaxBytes, &d.MaxBytes},
		{&c.MaxInFlight, &d.MaxInFlight}, {&c.MaxKeys, &d.MaxKeys}} {
		if *m.in = cmp.Or(*m.in, *m.def); *m.in < 1 {
			return s, false, macronode.Errorf(macronode.Invalid, "a number is too small")
		}
	}
	if c.ReplayWindow < mailbox.Millis(window) {
		return s, false, macronode.Errorf(macronode.Invalid, "replay_window_ms is at least %d", window.Milliseconds())
	}
	c.Ordered, c.ExpiredToDead = cmp.Or(c.Ordered, d.Ordered), cmp.Or(c.ExpiredToDead, d.ExpiredToDead)
	t.conf = c
	b.change()
	return t.status(b.now()), created, nil
}

// Delete deletes a topic.
func (b *Box) Delete(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.find(name); err != nil {
		return err
	}
	delete(b.topics, name)
	b.change()
	return nil
}

// Purge deletes what waits and what is leased.
func (b *Box) Purge(name string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return 0, err
	}
	n := int64(len(t.live))
	t.live = nil
	t.counts["purged"] += n
	b.change()
	return n, nil
}

// Peek lists what waits and what is leased.
func (b *Box) Peek(name, state, cursor string, limit int) ([]mailbox.Peeked, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, "", err
	}
	now, all := b.now(), []mailbox.Peeked{}
	for _, m := range t.live {
		p := mailbox.Peeked{MsgID: m.id, State: "ready", Time: m.sent.UTC().Truncate(time.Millisecond), Attempts: m.attempt, Bytes: int64(len(m.Payload)), Key: m.Key, Attrs: m.Attrs, Hash: b3.Sum(m.Payload)}
		switch {
		case m.lease != 0:
			p.State, p.Until = "in_flight", mailbox.Millis(m.until.Sub(now))
		case m.after.After(now):
			p.State, p.Until = "delayed", mailbox.Millis(m.after.Sub(now))
		}
		if state == "" || state == p.State {
			all = append(all, p)
		}
	}
	all, next := page(all, func(p mailbox.Peeked) string { return p.MsgID }, cursor, limit)
	return all, next, nil
}

func (m *message) letter(whole bool) mailbox.Dead {
	d := mailbox.Dead{MsgID: m.id, Reason: m.reason, Attempts: m.attempt, LastError: m.last, Time: m.sent.UTC().Truncate(time.Millisecond), Died: m.died.UTC(), Bytes: int64(len(m.Payload)),
		Key: m.Key, Attrs: m.Attrs, CorrID: m.corr, Hash: b3.Sum(m.Payload)}
	if whole {
		d.Payload, d.History = m.Payload, m.history
	}
	return d
}

func fits(m *message, f *mailbox.DeadFilter) bool {
	died := m.died.UnixMilli()
	return (f.Reason == "" || f.Reason == m.reason) && (f.BeforeMS == 0 || died < f.BeforeMS) && (f.AfterMS == 0 || died >= f.AfterMS) &&
		(f.MsgIDs == nil || slices.Contains(f.MsgIDs, m.id))
}

// DeadLetters lists those that f chooses.
func (b *Box) DeadLetters(name string, f mailbox.DeadFilter, cursor string, limit int) ([]mailbox.Dead, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, "", err
	}
	all := []mailbox.Dead{}
	for _, m := range t.dead {
		if fits(m, &f) {
			all = append(all, m.letter(false))
		}
	}
	all, next := page(all, func(d mailbox.Dead) string { return d.MsgID }, cursor, limit)
	return all, next, nil
}

// DeadLetter is one.
func (b *Box) DeadLetter(name, id string) (mailbox.Dead, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return mailbox.Dead{}, err
	}
	for _, m := range t.dead {
		if m.id == id {
			return m.letter(true), nil
		}
	}
	return mailbox.Dead{}, macronode.Errorf(macronode.NotFound, "no such message")
}

// DeleteDead deletes those that f chooses.
func (b *Box) DeleteDead(name string, f mailbox.DeadFilter) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return 0, err
	}
	before := len(t.dead)
	t.dead = slices.DeleteFunc(t.dead, func(m *message) bool { return fits(m, &f) })
	t.counts["deleted"] += int64(before - len(t.dead))
	return int64(before - len(t.dead)), nil
}

// Redrive delivers dead letters again, all at once whatever the rate.
func (b *Box) Redrive(name string, r mailbox.Redrive) (mailbox.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return mailbox.Job{}, err
	}
	now := b.now()
	at := now.UTC().Format(time.RFC3339)
	job := mailbox.Job{ID: ulid.Make().String(), State: "done", DryRun: r.DryRun, RatePerSec: r.RatePerSec, To: r.To, Filter: r.Filter, Started: at, Ended: at}
	to := t
	if r.To != "" {
		if to, err = b.find(r.To); err != nil {
			return mailbox.Job{}, err
		}
	}
	for _, m := range slices.Clone(t.dead) {
		if !fits(m, &r.Filter) {
			continue
		}
		if job.Matched++; r.DryRun {
			continue
		}
		job.Moved++
		t.dead = slices.DeleteFunc(t.dead, func(o *message) bool { return o == m })
		b.number++
		m.number, m.after, m.end, m.base = b.number, now, now.Add(time.Duration(to.conf.Retention)), m.attempt
		to.live = append(to.live, m)
	}
	t.jobs = append(t.jobs, job)
	b.change()
	return job, nil
}

// Jobs are the topic's redrives, newest first.
func (b *Box) Jobs(name string) ([]mailbox.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, err
	}
	all := append([]mailbox.Job{}, t.jobs...)
	slices.Reverse(all)
	return all, nil
}

// Job is one of them.
func (b *Box) Job(name, id string) (mailbox.Job, error) {
	all, err := b.Jobs(name)
	if err != nil {
		return mailbox.Job{}, err
	}
	for _, j := range all {
		if j.ID == id {
			return j, nil
		}
	}
	return mailbox.Job{}, macronode.Errorf(macronode.NotFound, "no such job")
}
