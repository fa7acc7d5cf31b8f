// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

const (
	// redriveStep is how many dead letters one step of a job moves, under the
	// topics' locks.
	redriveStep = 100
	// redriveEvery is how often a job with a rate takes a step.
	redriveEvery = 100 * time.Millisecond
	// maxRunningJobs bounds the jobs of a topic that run at a time.
	maxRunningJobs = 8
	// maxRate is the highest rate that a job may have; more is as fast as it goes.
	maxRate = 1_000_000
)

// jobs are the redrives that run. What they are to do, and how far they came, is in
// their topics and so in the log; here is only when they may go on.
type jobs struct {
	wake chan struct{} // holds one: a job was added

	mu      sync.Mutex
	running []*job
}

type job struct {
	t     *core.Topic
	id    queue.ID
	rate  int64
	since time.Time // when its allowance was last used
}

func (j *jobs) add(t *core.Topic, r *record.RedriveJob) {
	j.mu.Lock()
	j.running = append(j.running, &job{t: t, id: r.ID, rate: r.PerSecond, since: time.Now()})
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *jobs) remove(id queue.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range j.running {
		if r.id == id {
			j.running = append(j.running[:i:i], j.running[i+1:]...)
			return
		}
	}
}

func (j *jobs) list() []*job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]*job(nil), j.running...)
}

// Redrive begins a job that sends dead letters back, oldest first: those that the
// filter picks and that are there now. The job is durable when this returns, and
// goes on after a restart from where it was; no message is sent back twice.
func (b *Broker) Redrive(ctx context.Context, ref queue.TopicRef, spec RedriveSpec) (Job, error) {
	if spec.RatePerSec < 0 || spec.RatePerSec > maxRate {
		return Job{}, core.Refuse(ErrInvalid, "a rate is from 0 to 1000000 a second", 0)
	}
	t, err := b.core.Find(ref)
	if err != nil {
		return Job{}, err
	}
	to := t
	if spec.To != "" && spec.To != ref.Name {
		if to, err = b.core.Find(queue.TopicRef{Tenant: ref.Tenant, Name: spec.To}); err != nil {
			return Job{}, err
		}
	}
	last, err := b.lastDead(ctx, t)
	if err != nil {
		return Job{}, err
	}
	wall := b.core.Wall()
	rec := record.RedriveJob{ID: b.core.NewID(wall), State: record.JobRunning, DryRun: spec.DryRun, To: to.Number(),
		PerSecond: int64(spec.RatePerSec), Started: wall.UnixMilli(), Last: last}
	var out Job
	if err := b.core.Change(t, func(u *core.Turn) (err error) {
		running := 0
		for _, other := range u.Queue.Jobs(nil) {
			if other.State == record.JobRunning {
				running++
			}
		}
		if running >= maxRunningJobs {
			return core.Refuse(ErrInvalid, "as many redrives run as a topic may have", 0)
		}
		if rec.Filter, err = b.filter(u.Now, spec.Filter); err != nil {
			return err
		}
		rec.Head = u.Head()
		out = b.job(&rec, u.Now)
		return u.Log(&rec)
	}); err != nil {
		return Job{}, err
	}
	b.jobs.add(t, &rec)
	return out, b.core.Settle(ctx)
}

// lastDead is the number of the latest dead letter; 0 where there is none.
func (b *Broker) lastDead(ctx context.Context, t *core.Topic) (last uint64, err error) {
	var from uint64
	for {
		if err := b.core.Change(t, func(u *core.Turn) error {
			var found []queue.DeadLetter
			if found, from = u.Queue.Dead(&record.DeadFilter{}, from, maxPage, nil); len(found) > 0 {
				last = found[len(found)-1].Num
			}
			return ctx.Err()
		}); err != nil || from == 0 {
			return last, core.Failed(err)
		}
	}
}

// job fits a job for callers.
func (b *Broker) job(r *record.RedriveJob, now queue.Time) Job {
	j := Job{ID: ulid.ULID(r.ID).String(), Matched: r.Matched, Moved: r.Moved, Failed: r.Failed,
		Started: time.UnixMilli(r.Started).UTC(), Spec: RedriveSpec{RatePerSec: int(r.PerSecond), DryRun: r.DryRun}}
	switch r.State {
	case record.JobRunning:
		j.State = JobRunning
	case record.JobDone:
		j.State = JobDone
	case record.JobStopped:
		j.State = JobStopped
	default:
		j.State = JobFailed
	}
	if r.Ended != 0 {
		j.Ended = time.UnixMilli(r.Ended).UTC()
	}
	f := &j.Spec.Filter
	f.Reason, f.IDs = r.Filter.Why.String(), r.Filter.IDs
	if r.Filter.Before != 0 {
		f.Before = b.wall(now, r.Filter.Before)
	}
	if r.Filter.After != 0 {
		f.After = b.wall(now, r.Filter.After)
	}
	if to := b.core.FindNumber(r.To); to != nil && r.To != r.Topic {
		j.Spec.To = to.Ref().Name
	}
	return j
}

// Jobs lists a topic's redrives, oldest first.
func (b *Broker) Jobs(ctx context.Context, ref queue.TopicRef) ([]Job, error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return nil, err
	}
	var found []record.RedriveJob
	var at queue.Time
	if err := b.core.Change(t, func(u *core.Turn) error { found, at = u.Queue.Jobs(nil), u.Now; return nil }); err != nil {
		return nil, err
	}
	out := make([]Job, 0, len(found))
	for i := range found {
		out = append(out, b.job(&found[i], at))
	}
	return out, b.core.Settle(ctx)
}

// JobGet returns one redrive; ErrNoJob.
func (b *Broker) JobGet(ctx context.Context, ref queue.TopicRef, id string) (Job, error) {
	list, err := b.Jobs(ctx, ref)
	if err != nil {
		return Job{}, err
	}
	for _, j := range list {
		if j.ID == id {
			return j, nil
		}
	}
	return Job{}, core.Refuse(ErrNoJob, "", 0)
}

// JobStop ends a redrive where it is. One that has ended stays as it ended.
func (b *Broker) JobStop(ctx context.Context, ref queue.TopicRef, id string) (Job, error) {
	t, err := b.core.Find(ref)
	if err != nil {
		return Job{}, err
	}
	parsed, err := ulid.ParseStrict(id)
	if err != nil {
		return Job{}, core.Refuse(ErrNoJob, "", 0)
	}
	var rec *record.RedriveJob
	var at queue.Time
	if err := b.core.Change(t, func(u *core.Turn) error {
		at = u.Now
		if rec = find(u, queue.ID(parsed)); rec == nil {
			return core.Refuse(ErrNoJob, "", 0)
		}
		if rec.State != record.JobRunning {
			return nil
		}
		return b.endJob(u, rec, record.JobStopped)
	}); err != nil {
		return Job{}, err
	}
	b.jobs.remove(rec.ID)
	return b.job(rec, at), b.core.Settle(ctx)
}

// find returns a topic's job; nil where there is none of that id.
func find(u *core.Turn, id queue.ID) *record.RedriveJob {
	list := u.Queue.Jobs(nil)
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	return nil
}

// endJob records that a job is over.
func (b *Broker) endJob(u *core.Turn, rec *record.RedriveJob, state record.JobState) error {
	rec.State, rec.Ended = state, b.core.Wall().UnixMilli()
	rec.Head = u.Head()
	return u.Log(rec)
}

// resumeJobs finds the jobs that were running when the last run ended.
func (b *Broker) resumeJobs() {
	for _, t := range b.core.All() {
		var list []record.RedriveJob
		_ = b.core.Change(t, func(u *core.Turn) error { list = u.Queue.Jobs(nil); return nil }) // gone: none
		for i := range list {
			if list[i].State == record.JobRunning {
				b.jobs.add(t, &list[i])
			}
		}
	}
}

// keepRedriving takes the steps of all jobs.
func (b *Broker) keepRedriving(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.jobs.wake:
		case <-ctx.Done():
			return nil
		}
		list := b.jobs.list()
		for _, j := range list {
			n := j.allowance(time.Now())
			if n == 0 {
				continue
			}
			over, err := b.step(ctx, j, n)
			if b.core.Failure() != nil {
				return err
			}
			if err != nil && ctx.Err() == nil {
				b.core.Warn("a redrive waits: its step could not be recorded", "err", err)
			}
			if over {
				b.jobs.remove(j.id)
			}
		}
		if len(list) > 0 {
			tick.Reset(redriveEvery)
			for _, j := range list {
				if j.rate == 0 {
					tick.Reset(time.Millisecond)
				}
			}
		}
	}
}

// allowance is how many letters a job may move now.
func (j *job) allowance(now time.Time) int {
	if j.rate == 0 {
		return redriveStep
	}
	n := int64(now.Sub(j.since).Seconds() * float64(j.rate))
	if n == 0 {
		return 0
	}
	if n > redriveStep {
		j.since = now
		return redriveStep
	}
	j.since = j.since.Add(time.Duration(float64(n) / float64(j.rate) * float64(time.Second)))
	return int(n)
}

// step moves up to n letters of a job.
func (b *Broker) step(ctx context.Context, j *job, n int) (over bool, err error) {
	var rec *record.RedriveJob
	err = b.core.Change(j.t, func(u *core.Turn) error { rec = find(u, j.id); return nil })
	if errors.Is(err, ErrNoTopic) || err == nil && (rec == nil || rec.State != record.JobRunning) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	to := b.core.FindNumber(rec.To)
	if to != nil {
		err = b.core.ChangeBoth(j.t, to, func(u *core.Turn) (err error) {
			over, err = b.move(u, j, n)
			return err
		})
	}
	if to == nil || errors.Is(err, ErrNoTopic) {
		// One of the two is gone; if it is the job's own, so is the job.
		over = true
		err = b.core.Change(j.t, func(u *core.Turn) error {
			if rec = find(u, j.id); rec == nil || rec.State != record.JobRunning {
				return nil
			}
			return b.endJob(u, rec, record.JobFailed)
		})
		if errors.Is(err, ErrNoTopic) {
			return true, nil
		}
	}
	if err != nil {
		return over, err
	}
	return over, b.core.Settle(ctx)
}

// move is step, with the topics locked.
func (b *Broker) move(u *core.Turn, j *job, n int) (over bool, err error) {
	rec := find(u, j.id)
	if rec == nil || rec.State != record.JobRunning {
		return true, nil
	}
	letters, next := u.Queue.Dead(&rec.Filter, rec.Next, n, nil)
	for i := range letters {
		if letters[i].Num > rec.Last {
			next = 0
			break
		}
		rec.Matched++
		if rec.DryRun {
			continue
		}
		r, err := u.Queue.Revive(u.Now, letters[i].Num, u.Other)
		if err != nil {
			rec.Failed++
			continue
		}
		if err := u.Log(&r); err != nil {
			return false, err
		}
		rec.Moved++
	}
	if next == 0 || next > rec.Last {
		return true, b.endJob(u, rec, record.JobDone)
	}
	rec.Next = next
	rec.Head = u.Head()
	return false, u.Log(rec)
}
