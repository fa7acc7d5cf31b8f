// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"strconv"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/tenants"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

func Itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

// stage logs a record of t alone and applies it. It may use the reserve: all
// records that come here end something, or let it be ended. The caller holds the
// topic's lock.
func (b *Core) stage(t *Topic, r record.Record, e *queue.Effect, buf *[]byte) error {
	*buf = r.Append((*buf)[:0])
	at, err := b.log.StageOne(true, *buf, nil)
	if err != nil {
		return b.Staging(err)
	}
	if err := t.q.Apply(r, uint64(at), e); err != nil {
		return b.fail(err)
	}
	return nil
}

// applied does what follows a change of t: the log's accounts, the timer, and a
// call for each message that has become receivable, as far as the caller knows. The
// caller holds the topic's lock.
func (b *Core) applied(t *Topic, now queue.Time, e *queue.Effect, ready int) {
	b.segments.Add(e)
	t.rearm(b, now)
	if ready > 0 && t.line.Waiting() {
		t.line.Call(min(t.line.Woken()+ready, t.receivable(now)))
	}
}

// rearm sees to it that t is looked at when something in it changes by itself, and
// that its tenant's account knows how it stands.
func (t *Topic) rearm(b *Core, now queue.Time) {
	next, ok := t.q.NextChange(now)
	if !t.gone {
		waiting, dead, bytes, leased, keys := t.q.Holds()
		t.share.Set(int64(now), tenants.Load{tenants.Messages: waiting + dead, tenants.Bytes: bytes, tenants.InFlight: leased, tenants.Keys: keys, tenants.Waiting: waiting})
	}
	if !ok || t.armed != 0 && t.armed <= int64(next) {
		return
	}
	t.armed = int64(next)
	b.timers.Arm(t, t.armed)
}

// dueAtOnce is how many messages one look under the lock expires or kills.
const dueAtOnce = 256

// look records what is due in t because of the time, and calls who waits for what
// has become receivable.
func (b *Core) look(t *Topic) error {
	var e queue.Effect
	var buf []byte
	for {
		doomed, more, err := b.lookOnce(t, &e, &buf)
		if err != nil {
			return err
		}
		for _, d := range doomed {
			if err := b.kill(t, d.seq, d.at, d.why, ""); err != nil {
				return err
			}
		}
		if !more && len(doomed) == 0 {
			return nil
		}
	}
}

// doomed is a message that is to become a dead letter.
type doomed struct {
	seq, at uint64
	why     record.Why
}

func (b *Core) lookOnce(t *Topic, e *queue.Effect, buf *[]byte) (kill []doomed, more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return nil, false, nil
	}
	now := b.now()
	if t.armed != 0 && t.armed <= int64(now) {
		t.armed = 0
	}
	e.Reset()
	due := t.q.Due(now, dueAtOnce)
	head := record.Head{Now: now, Topic: t.number}
	expired := due.Expired
	if t.q.Config().KeepExpired {
		kill = t.doom(now, kill, expired, record.WhyExpired)
		expired = nil
	}
	kill = t.doom(now, kill, due.Spent, record.WhyMaxAttempts)
	if due.Cut > 0 || len(expired) > 0 {
		if err := b.stage(t, &record.Expire{Head: head, Cut: due.Cut, Seqs: expired}, e, buf); err != nil {
			return nil, false, err
		}
	}
	if due.DeadCut > 0 {
		if err := b.stage(t, &record.DeadDelete{Head: head, Expired: true, Cut: due.DeadCut}, e, buf); err != nil {
			return nil, false, err
		}
	}
	t.drain.Gone(int64(now), e.Expired)
	b.applied(t, now, e, 0)
	b.onward(t, now)
	return kill, due.More, nil
}

func (t *Topic) doom(now queue.Time, kill []doomed, seqs []uint64, why record.Why) []doomed {
	for _, seq := range seqs {
		if found, _ := t.q.Peek(now, seq, 1, nil); len(found) == 1 && found[0].Seq == seq {
			kill = append(kill, doomed{seq: seq, at: found[0].At, why: why})
		}
	}
	return kill
}

// kill makes a message a dead letter, of its own topic or of the one that its
// config names. One that is gone meanwhile, or alive again, is left alone.
func (b *Core) kill(t *Topic, seq, at uint64, why record.Why, detail string) error {
	var id queue.ID
	if s, err := b.ReadSend(at); err == nil {
		id = s.ID
	} else {
		id = b.NewID(b.clock.Wall()) // the id is among what is damaged; it needs one to be found by
	}
	killed, err := b.killNow(t, b.deadTarget(t), seq, id, why, detail)
	if f := b.cfg.Events.Died; f != nil && killed {
		f(t.ref, why.String(), 1)
	}
	return err
}

func (b *Core) killNow(t, into *Topic, seq uint64, id queue.ID, why record.Why, detail string) (killed bool, err error) {
	unlock := lockBoth(t, into)
	defer unlock()
	if t.gone {
		return false, nil
	}
	if into.gone {
		into = t
	}
	now := b.now()
	// What was due a moment ago may have been purged since.
	if why != record.WhyIntegrity && !t.dying(now, seq) {
		return false, nil
	}
	rec, ok := t.q.Kill(now, seq, id, why, into.number, detail)
	if !ok {
		return false, nil
	}
	var e queue.Effect
	var buf []byte
	if err := b.stageBoth(t, into, &rec, &e, &buf); err != nil {
		return false, err
	}
	t.drain.Gone(int64(now), 1)
	b.applied(t, now, &e, 1)
	if into != t {
		into.rearm(b, now)
	}
	return true, nil
}

// dying reports whether a message is to be recorded as dead or expired.
func (t *Topic) dying(now queue.Time, seq uint64) bool {
	found, _ := t.q.Peek(now, seq, 1, nil)
	return len(found) == 1 && found[0].Seq == seq && found[0].State == queue.Dying
}

// stageBoth logs a record that concerns two topics and applies it to both. The
// caller holds both locks.
func (b *Core) stageBoth(t, other *Topic, r record.Record, e *queue.Effect, buf *[]byte) error {
	*buf = r.Append((*buf)[:0])
	at, err := b.log.StageOne(true, *buf, nil)
	if err != nil {
		return b.Staging(err)
	}
	if err := t.q.Apply(r, uint64(at), e); err != nil {
		return b.fail(err)
	}
	if other != t {
		if err := other.q.Apply(r, uint64(at), e); err != nil {
			return b.fail(err)
		}
	}
	return nil
}

// lockBoth locks two topics, which may be one, the lower number first.
func lockBoth(t, other *Topic) (unlock func()) {
	if t == other {
		t.mu.Lock()
		return t.mu.Unlock
	}
	first, second := t, other
	if second.number < first.number {
		first, second = second, first
	}
	first.mu.Lock()
	second.mu.Lock()
	return func() {
		second.mu.Unlock()
		first.mu.Unlock()
	}
}

// deadTarget is the topic whose dead-letter queue takes the dead of t: the one
// that the config names, made where it is missing, or t itself where that cannot be.
func (b *Core) deadTarget(t *Topic) *Topic {
	t.mu.Lock()
	name := t.q.Config().DLQ
	t.mu.Unlock()
	if name == "" || name == t.ref.Name {
		return t
	}
	into, err := b.ensure(queue.TopicRef{Tenant: t.ref.Tenant, Name: name})
	if err != nil {
		b.Warn(fmt.Sprintf("dead letters stay with their topic: their target cannot be made: %v", err))
		return t
	}
	return into
}

// KillDamaged makes a message that cannot be read a dead letter, and counts it.
func (b *Core) KillDamaged(t *Topic, seq, at uint64) error {
	if f := b.cfg.Events.Damaged; f != nil {
		f(t.ref, 1)
	}
	return b.kill(t, seq, at, record.WhyIntegrity, "the stored bytes are damaged")
}
