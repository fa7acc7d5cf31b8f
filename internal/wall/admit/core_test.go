// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }

// core is one processor in virtual time: first come, first served, and whoever
// has it keeps it until it waits for something.
type core struct {
	mu    sync.Mutex
	busy  bool
	queue []chan struct{}
	waits []time.Duration
	used  time.Duration
}

func (k *core) take() { k.enter(false) }

// resume takes the core ahead of all who wait, as the runtime has it for one that
// another goroutine wakes.
func (k *core) resume() { k.enter(true) }

func (k *core) enter(first bool) {
	k.mu.Lock()
	if !k.busy {
		k.busy = true
		k.waits = append(k.waits, 0)
		k.mu.Unlock()
		return
	}
	ch := make(chan struct{})
	if first {
		k.queue = slices.Insert(k.queue, 0, ch)
	} else {
		k.queue = append(k.queue, ch)
	}
	k.mu.Unlock()
	begun := time.Now()
	<-ch
	k.mu.Lock()
	k.waits = append(k.waits, time.Since(begun))
	k.mu.Unlock()
}

func (k *core) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		k.busy = false
		return
	}
	close(k.queue[0])
	k.queue = k.queue[1:]
}

func (k *core) yield() { k.leave(); k.take() }

// work uses the core, which the caller has.
func (k *core) work(d time.Duration) {
	pass(d)
	k.mu.Lock()
	k.used += d
	k.mu.Unlock()
}

// wait is the wait that one taker in ten exceeded since it was asked before.
func (k *core) wait() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waits) == 0 {
		return 0
	}
	slices.Sort(k.waits)
	w := k.waits[len(k.waits)*9/10]
	k.waits = k.waits[:0]
	return w
}

// handler is what a call does once it is admitted; it has the core at both ends.
type handler func(k *core, p *callPlace)

type callPlace struct{ await, resume func() }

// toTheEnd keeps the core for a millisecond.
func toTheEnd(k *core, _ *callPlace) { k.work(time.Millisecond) }

// inPieces gives the core up now and then, as one does that writes to a socket.
func inPieces(k *core, p *callPlace) {
	for range 8 {
		k.work(time.Millisecond / 8)
		p.await()
		k.yield()
		p.resume()
	}
}

// commits does some work, then waits for a disk that takes all who wait at once.
func commits(d *groupDisk) handler {
	return func(k *core, _ *callPlace) {
		k.work(700 * time.Microsecond)
		k.leave()
		d.commit()
		k.take()
		k.work(100 * time.Microsecond)
	}
}

// groupDisk makes everything durable that came before its last write began.
type groupDisk struct {
	mu      sync.Mutex
	writing bool
	next    chan struct{}
	takes   time.Duration
}

func (d *groupDisk) commit() {
	d.mu.Lock()
	if d.next == nil {
		d.next = make(chan struct{})
	}
	mine := d.next
	if !d.writing {
		d.writing = true
		go d.write()
	}
	d.mu.Unlock()
	<-mine
}

func (d *groupDisk) write() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.next != nil {
		batch := d.next
		d.next = nil
		d.mu.Unlock()
		pass(d.takes)
		close(batch)
		d.mu.Lock()
	}
	d.writing = false
}

// offer is an open loop of calls of one tenant.
type offer struct {
	t     *macronode.Tenant
	b     *macronode.Binding
	rate  float64
	moved int64
	h     handler
}

// result is what became of an offer's calls, from when each was due.
type result struct {
	mu          sync.Mutex
	ok, refused []time.Duration
	hints       []time.Duration
}

func (r *result) rate(d time.Duration) float64 { return float64(len(r.ok)) / d.Seconds() }

// warmUp is how long a load lasts before it is looked at.
const warmUp = 500 * time.Millisecond

// play offers for d and returns what came of it. Arrivals take 40 µs of the core
// before they reach admission, refusals 10 µs after.
func play(t testing.TB, c *Controller, k *core, d time.Duration, offers ...offer) []*result {
	t.Helper()
	c.sched.yield, c.sched.block, c.sched.unblock = k.yield, k.leave, k.resume
	c.wait = k.wait
	ctx, cancel := context.WithCancel(t.Context())
	var runs, wg sync.WaitGroup
	runs.Go(func() { c.Run(ctx) })
	out := make([]*result, len(offers))
	for i, o := range offers {
		r := &result{}
		out[i] = r
		if o.rate == 0 {
			continue
		}
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			var calls sync.WaitGroup
			for begun := time.Now(); time.Since(begun) < d+warmUp; {
				pass(time.Duration(rnd.ExpFloat64() / o.rate * float64(time.Second)))
				warm := time.Since(begun) < warmUp
				calls.Go(func() { o.call(c, k, r, warm) })
			}
			calls.Wait()
		})
	}
	wg.Wait()
	cancel()
	runs.Wait()
	return out
}

func (o *offer) call(c *Controller, k *core, r *result, warm bool) {
	due := time.Now()
	k.take()
	k.work(40 * time.Microsecond)
	p, err := c.Admit(context.Background(), o.t, o.b, 0)
	if err == nil {
		o.h(k, &callPlace{p.Await, p.Resume})
		p.Release(o.moved, true)
	} else {
		k.work(10 * time.Microsecond)
	}
	k.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if warm {
		return
	}
	if err == nil {
		r.ok = append(r.ok, time.Since(due))
	} else {
		r.refused = append(r.refused, time.Since(due))
		r.hints = append(r.hints, macronode.AsError(err).RetryHint())
	}
}

func p99(rs ...*result) time.Duration {
	var all []time.Duration
	for _, r := range rs {
		all = append(all, r.ok...)
	}
	return quantile(all, .99)
}

func quantile(v []time.Duration, q float64) time.Duration {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(int(float64(len(v))*q), len(v)-1)]
}
