// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

const (
	// stepSize is how many followers one transaction reaches, which other writers
	// wait for.
	stepSize = 128
	// workers is how many posts are on their way at a time.
	workers = 2
	// retryStep is the wait after a step that failed.
	retryStep = 500 * time.Millisecond
)

// job names work. What it is stands in the store.
type job struct {
	tenant macronode.TenantID
	post   ulid.ULID
}

// queue is the work that there is, in turns. It is bounded by what tenants may have
// on their way.
type queue struct {
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	known map[job]bool // true: in line, false: a worker has it
	line  []job
	again map[job]bool // came anew while a worker had it
}

// add puts a job in line, once.
func (q *queue) add(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.known == nil {
		q.known, q.again = map[job]bool{}, map[job]bool{}
	}
	switch waiting, known := q.known[j]; {
	case !known:
		q.known[j] = true
		q.line = append(q.line, j)
	case !waiting:
		q.again[j] = true
	}
	q.rouse()
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take is the next job, which is then the caller's until done.
func (q *queue) take() (j job, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.line) == 0 {
		return j, false
	}
	j = q.line[0]
	if q.line = q.line[1:]; len(q.line) > 0 {
		q.rouse() // the next worker
	}
	q.known[j] = false
	return j, true
}

// done gives a job back; more says that there is more of it to do.
func (q *queue) done(j job, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if more || q.again[j] {
		delete(q.again, j)
		q.known[j] = true
		q.line = append(q.line, j)
		q.rouse()
		return
	}
	delete(q.known, j)
}

// forget drops the jobs of a tenant that wait.
func (q *queue) forget(t macronode.TenantID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.line[:0]
	for _, j := range q.line {
		if j.tenant == t {
			delete(q.known, j)
			continue
		}
		line = append(line, j)
	}
	q.line = line
}

// state is how many jobs there are, and the time of the oldest post among them.
func (q *queue) state() (jobs int, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for j := range q.known {
		if at := ulid.Time(j.post.Time()); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return len(q.known), oldest
}

// Serve brings posts to followers until ctx ends. It begins with what the store says
// is to be done. It fails where the store is damaged, or a step panics.
func (f *Facet) Serve(ctx context.Context) error {
	if err := f.load(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { f.work(ctx, cancel) })
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// load puts all work of the store in line. It looks at one key a tenant, and at what
// is on its way.
func (f *Facet) load(ctx context.Context) error {
	var found []job
	err := f.kv.View(ctx, func(r store.Reader) error {
		found = nil
		for lo, hi := []byte(prefix), store.After([]byte(prefix)); lo != nil; {
			var t macronode.TenantID
			some := false
			if err := r.Scan(lo, hi, func(k, _ []byte) bool {
				some = copy(t[:], k[len(prefix):]) == len(t)
				return false
			}); err != nil || !some {
				return err
			}
			base := key(t, workKey)
			bad := false
			err := r.Scan(base, store.After(base), func(k, _ []byte) bool {
				id, ok := idOf(k, base)
				bad = !ok
				found = append(found, job{t, id})
				return ok
			})
			if bad {
				return errMeta
			}
			if err != nil {
				return err
			}
			lo = store.After(tenantKeys(t))
		}
		return nil
	})
	for _, j := range found {
		f.queue.add(j)
	}
	return err
}

// work does steps until ctx ends; damage and panics end everything.
func (f *Facet) work(ctx context.Context, fail context.CancelCauseFunc) {
	for ctx.Err() == nil {
		j, ok := f.queue.take()
		if !ok {
			select {
			case <-ctx.Done():
			case <-f.queue.wake:
			}
			continue
		}
		more, err := f.stepSafely(ctx, j)
		f.queue.done(j, more || err != nil)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, store.ErrCorrupt) || errors.Is(err, errPanicked) {
			fail(err)
			return
		}
		f.m.failed.Inc()
		f.log.Warn("a post does not get on and is tried again", "event", "feed_step", "tenant", j.tenant.String(), "reason", macronode.KindOf(err).String())
		again := time.NewTimer(retryStep)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

// errPanicked is a step that panicked.
var errPanicked = errors.New("a step panicked")

// stepSafely is step with its panics as errors.
func (f *Facet) stepSafely(ctx context.Context, j job) (more bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			f.log.Error("a step panicked", "event", "panic", "reason", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	return f.step(ctx, j)
}

// step brings a post to the next followers, or takes it from them, and reports
// whether there are more.
func (f *Facet) step(ctx context.Context, j job) (more bool, err error) {
	at := key(j.tenant, workKey, j.post[:]...)
	var before []byte
	var w work
	err = f.kv.View(ctx, func(r store.Reader) (err error) {
		if before, err = r.Get(at); err == nil {
			w, err = decodeWork(before)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var after []byte
	if len(w.place) > 0 {
		after = w.place
	}
	who, next, err := f.graph.Followers(ctx, j.tenant, w.author, after, stepSize)
	if err != nil {
		return false, err
	}
	changed := false
	now := work{mode: w.mode, author: w.author, place: next}
	err = f.kv.Update(ctx, func(tx store.Tx) error {
		v, err := tx.Get(at)
		if changed = errors.Is(err, store.ErrNotFound) || err == nil && !bytes.Equal(v, before); changed {
			return nil // unpublished meanwhile, or purged
		}
		if err != nil {
			return err
		}
		if err := f.reach(tx, j, w.mode, who, next == nil); err != nil {
			return err
		}
		if next != nil {
			return tx.Set(at, now.encode())
		}
		if err := count(tx, j.tenant, 0, -1); err != nil {
			return err
		}
		return tx.Delete(at)
	})
	if err != nil || changed {
		return changed, err
	}
	if w.mode == deliver {
		f.m.delivered.Add(float64(len(who)))
		f.hub.tell(j.tenant, who, j.post)
		if next == nil {
			f.m.lag.Observe(max(f.now().Sub(ulid.Time(j.post.Time())), 0).Seconds())
		}
	}
	return next != nil, nil
}

// reach changes the timelines of a step's followers. last says that they are the
// last ones.
func (f *Facet) reach(tx store.Tx, j job, mode byte, who []vertex.Vertex, last bool) error {
	if mode == remove {
		for _, v := range who {
			if err := timeline(j.tenant, v).drop(tx, j.post); err != nil {
				return err
			}
		}
		return nil
	}
	most := f.settings.Load().MaxEntries
	for _, v := range who {
		if _, err := timeline(j.tenant, v).add(tx, j.post, most); err != nil {
			return err
		}
	}
	p, err := getPost(tx, j.tenant, j.post)
	if errors.Is(err, store.ErrNotFound) {
		return errMeta // work of that mode goes with its post
	}
	if err != nil {
		return err
	}
	p.delivered += uint32(len(who))
	p.done = last
	return setPost(tx, j.tenant, &p)
}
