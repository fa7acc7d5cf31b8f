// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/wall"
)

const (
	// QueueDeadline bounds how long a call waits for a place. Once calls have
	// waited for lasting, without a pause, more calls come than the node can do, and a long
	// queue only makes all of them late: then it is StormDeadline, and where
	// processors are short less, LeastDeadline at least, since a refusal waits for
	// one too.
	QueueDeadline = 40 * time.Millisecond
	StormDeadline = 25 * time.Millisecond
	LeastDeadline = 12 * time.Millisecond
	lasting       = 100 * time.Millisecond
	pause         = 50 * time.Millisecond
	// workCost is what a unit of a route's Cost is in bytes.
	workCost = 16 << 10
	// minQueue and maxQueue bound the calls that wait; in between it is twice
	// max_inflight. One tenant has half of them.
	minQueue, maxQueue = 128, 8192
	// fewWait is a queue that is let be whatever was measured.
	fewWait = 8
	// maxPlaces stands for a max_inflight without limit.
	maxPlaces = 1 << 20
	// clientPatience and mostPatience bound how long a call may wait for its
	// client and keep its place: processorWaits times as long as work waits for a
	// processor, so that what is the node's own part is not taken for the client's:
	// places given away for that make the wait longer, and more of them are.
	clientPatience = 5 * time.Millisecond
	mostPatience   = time.Second
	processorWaits = 4
	// reclaimEvery and reclaimLook bound the search for such calls.
	reclaimEvery = 5 * time.Millisecond
	reclaimLook  = 1024
	// periodEnd is how long nobody must have waited for debts to be forgotten.
	periodEnd = 100 * time.Millisecond
)

// Config is what a Controller works with.
type Config struct {
	// MaxInflight bounds the calls inside; NoLimit: only what is measured does.
	MaxInflight int64
	// Cores is the number of processors; 0: as many as the runtime uses.
	Cores int
	// ProcessorWait returns how long goroutines waited for a processor since it
	// was asked before; nil: the runtime's own measure.
	ProcessorWait func() time.Duration
	Metrics       *metrics.Registry // nil: one that nobody reads
	// Changed is told of each change of a class's state, in order; nil: nobody.
	Changed func(Change)
}

// sched is the scheduler that calls run under: the runtime's, but for tests that
// model one.
type sched struct{ yield, block, unblock func() }

// Controller admits calls. It is safe for concurrent use. Run keeps it moving
// where no calls do.
type Controller struct {
	base    time.Time
	wait    func() time.Duration
	changed func(Change)
	wake    chan struct{} // Run sleeps; capacity 1
	places  sync.Pool
	sched   sched

	telling sync.Mutex // keeps changes in order on their way out

	mu        sync.Mutex
	max       int64
	running   int64 // calls inside
	working   int64 // of these, those that hold a place
	holders   line  // the same
	strays    line  // the others: their clients were slow
	reclaimed time.Duration
	waiting   int
	began     time.Duration // when calls began to wait, after a pause
	ends      gap           // of calls
	contended time.Duration // when a call last waited
	tenants   map[macronode.TenantID]*tenant
	profiles  map[*macronode.Binding]*profile
	wheel     wheel
	limit     limiter
	classes   [queueClasses]class
	counters  counters
	changes   []Change // not told yet
	awake     bool     // Run looks again soon
	calls     uint64   // since Run looked
}

var _ wall.Admission = (*Controller)(nil)

// New returns a controller that has admitted nothing.
func New(cfg Config) *Controller {
	if cfg.Cores == 0 {
		cfg.Cores = runtime.GOMAXPROCS(0)
	}
	if cfg.ProcessorWait == nil {
		cfg.ProcessorWait = newProcessorWait()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.New(false)
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Change) {}
	}
	c := &Controller{
		base: time.Now().Add(-time.Hour), // so that no moment is 0
		wait: cfg.ProcessorWait, changed: cfg.Changed, wake: make(chan struct{}, 1), max: cfg.MaxInflight,
		sched:   sched{runtime.Gosched, func() {}, func() {}},
		tenants: make(map[macronode.TenantID]*tenant), profiles: make(map[*macronode.Binding]*profile),
		limit: newLimiter(cfg.Cores, cfg.MaxInflight), wheel: wheel{round: 1, period: 1},
	}
	now := c.now()
	c.limit.began, c.limit.idleSince = now, now
	for i := range c.classes {
		c.classes[i].since = now
	}
	c.register(cfg.Metrics)
	return c
}

func (c *Controller) now() time.Duration { return time.Since(c.base) }

// SetLimit changes max_inflight for calls to come.
func (c *Controller) SetLimit(n int64) {
	c.mu.Lock()
	c.max = n
	c.limit.setMost(n)
	c.rouse() // the limit has somewhere to go
	c.dispatch(c.now())
	c.mu.Unlock()
	c.tell()
}

// Purge drops what is known of a deleted tenant.
func (c *Controller) Purge(_ context.Context, id macronode.TenantID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tenants[id]; t != nil {
		t.gone = true
		c.forget(t)
	}
	return nil
}

func (c *Controller) forget(t *tenant) {
	if t.gone && t.running == 0 && t.waiting == 0 {
		delete(c.tenants, t.id)
	}
}

// tenant returns the tenant's part. c.mu is held.
func (c *Controller) tenant(t *macronode.Tenant) *tenant {
	n := c.tenants[t.ID]
	if n == nil {
		n = &tenant{id: t.ID, slot: -1}
		c.tenants[t.ID] = n
	}
	n.label, n.weight, n.gone = t.Label, max(t.Quota.Weight, 1), false
	return n
}

func (c *Controller) profile(b *macronode.Binding) *profile {
	p := c.profiles[b]
	if p == nil {
		p = newProfile(b)
		c.profiles[b] = p
	}
	return p
}

// Admit implements wall.Admission. length is the request body's, as far as known.
func (c *Controller) Admit(ctx context.Context, t *macronode.Tenant, b *macronode.Binding, length int64) (wall.Place, error) {
	p, _ := c.places.Get().(*Place)
	if p == nil {
		p = &Place{c: c}
	}
	p.queue = queueOf(b.Class)
	c.mu.Lock()
	now := c.now()
	p.t, p.profile = c.tenant(t), c.profile(b)
	c.calls++
	if !c.awake {
		c.rouse()
	}
	pressed := c.limit.pressed(now)
	if !pressed && c.waiting == 0 && c.full(p) == NoCause && c.working < c.limit.limit() {
		c.enter(p, now)
		c.mu.Unlock()
		return p, nil
	}
	why, hint := c.queue(p, now, length)
	if why == NoCause && !pressed {
		c.dispatch(now)
	}
	waits := p.result == undecided
	tell := len(c.changes) > 0
	c.mu.Unlock()
	if tell {
		c.tell()
	}
	if why != NoCause {
		c.put(p)
		return nil, refusal(why, hint)
	}
	if pressed && waits {
		c.yield()
	}
	return c.await(ctx, p)
}

// yield lets every goroutine go first that is ready to run, and then fills free
// places. Where processors are short, calls that are not here yet wait for one,
// and a handler that does not block would go before them all: whoever came first
// would be served first, whatever tenant it is.
func (c *Controller) yield() {
	c.sched.yield()
	c.mu.Lock()
	c.dispatch(c.now())
	tell := len(c.changes) > 0
	c.mu.Unlock()
	if tell {
		c.tell()
	}
}

// await waits for the decision on a queued call.
func (c *Controller) await(ctx context.Context, p *Place) (wall.Place, error) {
	select {
	case <-p.ready:
		return c.outcome(p)
	default:
	}
	if p.timer == nil {
		p.timer = time.NewTimer(p.within)
	} else {
		p.timer.Reset(p.within)
	}
	decided, gone := false, error(nil)
	c.sched.block()
	select {
	case <-p.ready:
		decided = true
	case <-p.timer.C:
	case <-ctx.Done():
		gone = ctx.Err()
	}
	p.timer.Stop()
	c.sched.unblock()
	if decided {
		// Those who came in the meantime get to their own queues first.
		c.sched.yield()
		return c.outcome(p)
	}
	if !c.leave(p, gone != nil) {
		<-p.ready
		return c.outcome(p)
	}
	if gone == nil {
		return c.outcome(p)
	}
	c.put(p)
	if errors.Is(gone, context.DeadlineExceeded) {
		return nil, macronode.Wrap(macronode.DeadlineExceeded, "", gone)
	}
	return nil, macronode.Wrap(macronode.ClientGone, "", gone)
}

// outcome is what was decided.
func (c *Controller) outcome(p *Place) (wall.Place, error) {
	if p.result == granted {
		return p, nil
	}
	why, hint := p.why, p.hint
	c.put(p)
	return nil, refusal(why, hint)
}

// leave takes a call out of its queue, and reports whether it was still there.
func (c *Controller) leave(p *Place, gone bool) bool {
	c.mu.Lock()
	if p.result != undecided {
		c.mu.Unlock()
		return false
	}
	now := c.now()
	c.unqueue(p)
	if !gone {
		p.t.pace.note(p.queue, p.ahead, now-p.start)
		p.why, p.hint = c.refuse(p, now, c.short())
	}
	c.forget(p.t)
	tell := len(c.changes) > 0
	c.mu.Unlock()
	if tell {
		c.tell()
	}
	return true
}

// put gives a place back to the pool.
func (c *Controller) put(p *Place) {
	*p = Place{c: c, ready: p.ready, timer: p.timer}
	c.places.Put(p)
}

// share is how far the node may be filled for a call of this class to enter.
func share(limit int64, queue int) int64 {
	switch queue {
	case 2:
		return limit - limit/4
	case 1:
		return limit - limit/8
	default:
		return limit
	}
}

// own is how many of the calls inside may be one tenant's.
func own(limit int64) int64 { return limit - limit/16 }

// full is what keeps a call out whatever the load: max_inflight.
func (c *Controller) full(p *Place) Cause {
	switch {
	case c.max == macronode.NoLimit:
	case c.running >= share(c.max, p.queue):
		return CauseMax
	case p.t.running >= own(c.max):
		return CauseTenant
	}
	return NoCause
}

// enter lets a call run.
func (c *Controller) enter(p *Place, now time.Duration) {
	c.running++
	p.t.running++
	c.hold(p)
	p.start, p.light = now, float64(c.working) <= c.limit.least && !c.limit.pressed(now)
}

// hold gives a call that is inside a place.
func (c *Controller) hold(p *Place) {
	c.working++
	p.t.working++
	p.held = true
	c.holders.push(p)
}

// drop takes the place back.
func (c *Controller) drop(p *Place) {
	c.working--
	p.t.working--
	p.held = false
	c.holders.remove(p)
}

// rouse makes Run look.
func (c *Controller) rouse() {
	c.awake = true
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reclaim takes places back from calls that wait for their clients, and gives
// one to those that were found to work again. They do not wait for it: they are
// inside, and what they do next is what others wait for. One whose client sends a
// few bytes now and then is hardly ever found so, and hardly ever works.
func (c *Controller) reclaim(now time.Duration) {
	if now-c.reclaimed < reclaimEvery {
		return
	}
	c.reclaimed = now
	c.strays.look(func(p *Place) {
		if p.waits.Load() == 0 && !p.yielded {
			c.strays.remove(p)
			c.hold(p)
		}
	})
	patience := min(max(clientPatience, processorWaits*c.limit.slowest), mostPatience)
	c.holders.look(func(p *Place) {
		if v := p.waits.Load(); v > 0 && now-time.Duration(v) >= patience {
			c.drop(p)
			c.strays.push(p)
		}
	})
}

// release ends a call.
func (c *Controller) release(p *Place, moved int64, ok bool) {
	c.mu.Lock()
	now := c.now()
	p.went(now)
	if p.held {
		c.drop(p)
	} else {
		c.strays.remove(p)
	}
	c.running--
	c.ends.note(now)
	t := p.t
	t.running--
	t.ends.note(now)
	if p.period == c.wheel.period {
		c.wheel.charge(t, p.profile.work+moved-p.charged)
	}
	t.use(now, p.profile.work+moved)
	if ok {
		took := now - p.start - p.idle
		pressure, base := p.profile.pressure(moved, took)
		c.limit.sample(p.start, took, pressure, base)
		p.profile.learn(moved, took, p.light)
	}
	c.dispatch(now)
	c.forget(t)
	tell := len(c.changes) > 0
	c.mu.Unlock()
	c.put(p)
	if tell {
		c.tell()
	}
}
