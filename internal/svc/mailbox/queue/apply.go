// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/seen"
)

// maxGap bounds how many seqs may be missing between two sends: their records were damaged.
const maxGap = 1 << 24

// Apply changes the state by a record that is staged in the log at place at,
// and adds what it did to e. Byte fields of r are copied where they are kept.
// A record at or before Applied changes nothing: a snapshot has it already.
// ErrRecord, and nothing is changed.
func (t *Topic) Apply(r Record, at uint64, e *Effect) error {
	h := r.Header()
	if h.Topic != t.num && record.Other(r) != t.num {
		return ErrRecord
	}
	if at <= t.applied {
		return nil
	}
	if t.deleted {
		e.Stale++
		t.applied = at
		return nil
	}
	if err := t.fits(r); err != nil {
		return err
	}
	t.applied = at
	t.latest = max(t.latest, h.Now)
	t.advance(t.latest)
	t.seen.Forget(t.latest, t.window())
	switch r := r.(type) {
	case *record.Send:
		t.applySend(r, at, e)
	case *record.Lease:
		for _, m := range r.Items {
			t.applyLease(m, r.Until, r.Owner, e)
		}
	case *record.Ack:
		for _, m := range r.Items {
			t.applyAck(m, e)
		}
	case *record.Nack:
		for _, m := range r.Items {
			t.applyNack(m, r.Reason, e)
		}
	case *record.Extend:
		for _, m := range r.Items {
			t.applyExtend(m, r.Until, e)
		}
	case *record.Dead:
		t.applyDead(r, e)
	case *record.Redrive:
		t.applyRedrive(r, e)
	case *record.Move:
		t.applyMove(r, at, e)
	default:
		t.applyRare(r, at, e)
	}
	return nil
}

// fits finds records that cannot be this topic's before anything is changed.
func (t *Topic) fits(r Record) error {
	var seq uint64
	switch r := r.(type) {
	case *record.Send:
		if seq = r.Seq; r.Ref != t.ref {
			return ErrRecord
		}
	case *record.Redrive:
		if r.To == t.num {
			seq = r.Seq
		}
	case *record.TopicPut:
		if r.Ref != t.ref || r.Config.Validate() != nil {
			return ErrRecord
		}
	}
	if seq != 0 && (seq < t.next || seq-t.next > maxGap) {
		return ErrRecord
	}
	return nil
}

func (t *Topic) applyRare(r Record, at uint64, e *Effect) {
	switch r := r.(type) {
	case *record.Expire:
		t.applyExpire(r, e)
	case *record.TopicPut:
		t.cfg = r.Config
		t.rebuild()
	case *record.Purge:
		for seq := t.firstLive(); seq != 0 && seq < r.Before; seq = t.table.nextLive(seq + 1) {
			t.end(seq, &t.n.Purged, e)
			e.Purged++
		}
	case *record.TopicDelete:
		t.applyDelete(e)
	case *record.DeadDelete:
		t.applyDeadDelete(r, e)
	case *record.RedriveJob:
		t.applyJob(r)
	case *record.Remember:
		if !t.seen.Replace(seen.Fingerprint(r.Idem), r.Old, at, t.latest, t.window()) {
			e.Stale++
		}
	}
}

func (t *Topic) applySend(r *record.Send, at uint64, e *Effect) {
	p := place{at: at, units: units(r.Len())}
	if key := KeyHash(r.Key); key != 0 || r.NotBefore > t.latest || r.Expire != 0 {
		t.push(r.Seq, p, func(x *extra) {
			x.key, x.expire = key, r.Expire
			if r.NotBefore > t.latest {
				x.state, x.until = stWaiting, r.NotBefore
			}
		})
	} else {
		t.push(r.Seq, p, nil)
	}
	if len(r.Idem) > 0 {
		t.seen.Add(seen.Fingerprint(r.Idem), at, t.latest, t.window())
	}
	t.n.Sent++
	e.Sent++
	e.placed(at, p.bytes())
}

// end takes a message out for good.
func (t *Topic) end(seq uint64, ended *int64, e *Effect) {
	p := t.pull(seq)
	*ended++
	e.freed(p.at, p.bytes())
}

// note adds to a message's history.
func (t *Topic) note(h uint32, s []Event) {
	s = s[max(0, len(s)-record.MaxEvents):]
	t.extras.setHistory(h, record.AppendEvents(nil, s))
}

func (t *Topic) applyLease(m record.Item, until Time, owner uint64, e *Effect) {
	t.lease = max(t.lease, m.Lease)
	c, i := t.message(m.Seq)
	if c == nil {
		e.Stale++
		return
	}
	if h := c.extra(i); h != 0 && t.extras.get(h).lease >= m.Lease {
		e.Stale++
		return
	}
	h, x := t.edit(m.Seq)
	if x.state == stLeased {
		t.note(h, t.events(h, x, x.until)) // the one before lapsed
	}
	if x.attempts++; x.attempts > 1 {
		e.Redeliver++
	}
	x.state, x.until, x.lease, x.owner = stLeased, until, m.Lease, owner
	t.settle(x)
	e.Leased++
}

// fenced reports whether an item may change nothing: its message is gone, was
// leased to another since, or is not leased any more. A lease higher than the
// one known is one whose Lease record was damaged: what followed it counts.
func (t *Topic) fenced(m record.Item, e *Effect) bool {
	t.lease = max(t.lease, m.Lease)
	c, i := t.message(m.Seq)
	if c != nil {
		h := c.extra(i)
		if h == 0 {
			return false
		}
		if x := t.extras.get(h); m.Lease > x.lease || m.Lease == x.lease && x.state == stLeased {
			return false
		}
	}
	e.Stale++
	return true
}

func (t *Topic) applyAck(m record.Item, e *Effect) {
	if t.fenced(m, e) {
		return
	}
	t.end(m.Seq, &t.n.Acked, e)
	e.Acked++
}

// held returns the extra of a message that is under that lease, to change.
func (t *Topic) held(m record.Item) (uint32, *extra) {
	h, x := t.edit(m.Seq)
	if m.Lease > x.lease {
		x.attempts++
		x.lease, x.owner = m.Lease, 0
	}
	return h, x
}

func (t *Topic) applyNack(m record.NackItem, reason []byte, e *Effect) {
	if t.fenced(m.Item, e) {
		return
	}
	h, x := t.held(m.Item)
	x.state, x.until = stWaiting, m.NotBefore
	t.note(h, append(t.events(h, x, t.latest), Event{At: t.latest, Attempt: x.attempts, Reason: record.CutReason(reason, record.MaxEventReason)}))
	t.settle(x)
	e.Nacked++
}

func (t *Topic) applyExtend(m record.Item, until Time, e *Effect) {
	if t.fenced(m, e) {
		return
	}
	_, x := t.held(m)
	x.state, x.until = stLeased, until
	t.settle(x)
	e.Extended++
}

func (t *Topic) applyDead(r *record.Dead, e *Effect) {
	if r.Topic != t.num { // another topic's
		t.bury(r)
		t.n.MovedIn++
		e.placed(r.At, int64(units(int(r.Size)))*8)
		return
	}
	if c, _ := t.message(r.Seq); c == nil {
		e.Stale++
		return
	}
	p := t.pull(r.Seq)
	e.Died++
	if r.Into != t.num {
		t.n.MovedOut++
		e.freed(p.at, p.bytes())
		return
	}
	t.bury(r)
}

func (t *Topic) applyRedrive(r *record.Redrive, e *Effect) {
	if r.Topic == t.num {
		l := t.unbury(r.Num)
		if l == nil {
			e.Stale++
			return
		}
		e.Redriven++
		if r.To != t.num {
			t.n.MovedOut++
			e.freed(l.At, l.Bytes)
			return
		}
	} else {
		t.n.MovedIn++
		e.placed(r.At, int64(units(int(r.Size)))*8)
	}
	t.push(r.Seq, place{at: r.At, units: units(int(r.Size))}, func(x *extra) {
		x.key, x.first, x.attempts, x.base = r.Key, r.First, r.Attempts, r.Attempts
	})
	if len(r.History) > 0 {
		c, i := t.message(r.Seq)
		t.note(c.extra(i), r.History)
	}
}

// applyExpire takes what a lease in force does not hold, and what is not on its way to the dead letters.
func (t *Topic) applyExpire(r *record.Expire, e *Effect) {
	over := func(seq uint64) {
		c, i := t.message(seq)
		if c == nil {
			e.Stale++
			return
		}
		if h := c.extra(i); h != 0 {
			if x := t.extras.get(h); t.isSpent(x) || x.state == stLeased && x.until > t.latest {
				return
			}
		}
		t.end(seq, &t.n.Expired, e)
		e.Expired++
	}
	for seq := t.firstLive(); seq != 0 && seq < r.Cut; seq = t.table.nextLive(seq + 1) {
		over(seq)
	}
	for _, seq := range r.Seqs {
		over(seq)
	}
}

func (t *Topic) applyDeadDelete(r *record.DeadDelete, e *Effect) {
	total, told := &t.n.Deleted, &e.Deleted
	if r.Expired {
		total, told = &t.n.Expired, &e.Expired
	}
	for l := t.dead.Oldest(); l != nil && l.Num < r.Cut; l = t.dead.Oldest() {
		t.endDead(l.Num, total, e)
		*told++
	}
	for _, num := range r.Nums {
		if t.endDead(num, total, e) {
			*told++
		} else {
			e.Stale++
		}
	}
}

func (t *Topic) applyDelete(e *Effect) {
	for seq := t.firstLive(); seq != 0; seq = t.table.nextLive(seq + 1) {
		t.end(seq, &t.n.Deleted, e)
		e.Deleted++
	}
	for l := t.dead.Oldest(); l != nil; l = t.dead.Oldest() {
		t.endDead(l.Num, &t.n.Deleted, e)
		e.Deleted++
	}
	t.seen, t.jobs, t.deleted = seen.Table{}, nil, true
}

// applyMove says where a message is from now on, and its idempotency key with it.
func (t *Topic) applyMove(r *record.Move, at uint64, e *Effect) {
	p := place{at: at, units: units(r.Len())}
	var old place
	if r.Seq != 0 {
		c, i := t.message(r.Seq)
		if c == nil {
			e.Stale++
			return
		}
		old = t.place(c, i)
		p.sent = old.sent
		t.move(r.Seq, p)
	} else {
		was := t.dead.Get(r.Num)
		if was == nil {
			e.Stale++
			return
		}
		l := *was
		old = place{at: l.At, units: units(int(l.Bytes))}
		l.At, l.Bytes = at, p.bytes()
		t.dead.Replace(&l)
	}
	t.n.Bytes += p.bytes() - old.bytes()
	e.freed(old.at, old.bytes())
	e.placed(at, p.bytes())
	if first, err := record.Decode(r.Send); err == nil && first.Kind() == record.KindSend {
		if key := first.(*record.Send).Idem; len(key) > 0 {
			t.seen.Replace(seen.Fingerprint(key), old.at, at, t.latest, t.window())
		}
	}
}

func (t *Topic) move(seq uint64, p place) {
	c, i := t.table.edit(seq), int(seq&(chunkLen-1))
	s, fits := c.pack(p)
	if fits {
		c.replace(i, s)
	}
	if fits && c.extra(i) == 0 {
		return
	}
	_, x := t.edit(seq)
	if x.isWide = !fits; fits {
		p = place{}
	}
	x.wide = p
	t.settle(x)
}

// keptJobs is how many jobs that are over are remembered.
const keptJobs = 16

func (t *Topic) applyJob(r *record.RedriveJob) {
	job := *r
	job.Filter.IDs = slices.Clone(r.Filter.IDs)
	i := slices.IndexFunc(t.jobs, func(j record.RedriveJob) bool { return j.ID == r.ID })
	if i >= 0 {
		t.jobs[i] = job
	} else {
		t.jobs = append(t.jobs, job)
	}
	over := 0
	for _, j := range t.jobs {
		if j.State != record.JobRunning {
			over++
		}
	}
	t.jobs = slices.DeleteFunc(t.jobs, func(j record.RedriveJob) bool {
		if j.State == record.JobRunning || over <= keptJobs {
			return false
		}
		over--
		return true
	})
}
