// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"math"
	"time"

	"github.com/rustyonions/macronode"
)

// deadlineWaits is how many times a call that is refused in the end waits for a
// processor meanwhile.
const deadlineWaits = 3

// queue puts a call where it waits, or refuses it. c.mu is held; dispatch follows.
func (c *Controller) queue(p *Place, now time.Duration, length int64) (Cause, time.Duration) {
	if c.waiting == 0 && now-c.contended > pause {
		c.began = now
	}
	if c.waiting == 0 && now-c.contended > periodEnd {
		c.wheel.period++
	}
	c.contended, c.limit.wanted = now, true
	t := p.t
	p.charged, p.start = p.profile.expect(length), now
	p.within = c.deadline(now)
	p.ahead = p.charged
	for i := range p.queue + 1 {
		p.ahead += t.queues[i].cost
	}
	if why := c.unwelcome(p); why != NoCause {
		return c.refuse(p, now, why)
	}
	if p.ready == nil {
		p.ready = make(chan struct{}, 1)
	}
	t.queues[p.queue].push(p)
	t.waiting++
	c.waiting++
	c.wheel.add(t)
	c.reclaim(now)
	if c.sparse(t) {
		c.grant(p, now)
	}
	return NoCause, 0
}

// deadline is how long a call may wait that comes now.
func (c *Controller) deadline(now time.Duration) time.Duration {
	if now-c.began < lasting {
		return QueueDeadline
	}
	return max(StormDeadline-deadlineWaits*c.limit.last.processor, LeastDeadline)
}

// unwelcome is why a call is not even let wait.
func (c *Controller) unwelcome(p *Place) Cause {
	t := p.t
	if why := c.full(p); why != NoCause && (p.queue > 0 || why == CauseTenant) {
		return why
	}
	if p.queue == 2 && (c.classes[0].state == Shedding || c.classes[1].state == Shedding) {
		return CauseOrder
	}
	// One that would wait too long is told so at once. Where few of the tenant
	// wait, what was measured says more about the past than about them.
	if t.waiting >= fewWait && t.pace.wait(p.queue, p.ahead) > p.within {
		return c.short()
	}
	most := c.queueLimit()
	if t.waiting < most/2 && c.waiting < most {
		return NoCause
	}
	if q := c.worst(t, p.queue); q != nil {
		c.cast(q, c.short())
		return NoCause
	}
	return c.short()
}

// short is what there is too little of.
func (c *Controller) short() Cause {
	if c.max != macronode.NoLimit && c.running >= c.max {
		return CauseMax
	}
	return c.limit.cause
}

// queueLimit is how many calls may wait.
func (c *Controller) queueLimit() int {
	if c.max == macronode.NoLimit {
		return maxQueue
	}
	return int(min(max(2*c.max, minQueue), maxQueue))
}

// worst is the tenant's newest waiting call of a class below queue.
func (c *Controller) worst(t *tenant, queue int) *Place {
	for i := queueClasses - 1; i > queue; i-- {
		if p := t.queues[i].tail; p != nil {
			return p
		}
	}
	return nil
}

// unqueue takes a call out of its queue.
func (c *Controller) unqueue(p *Place) {
	t := p.t
	t.queues[p.queue].remove(p)
	t.waiting--
	c.waiting--
	if t.waiting == 0 {
		c.wheel.remove(t)
	}
}

// cast refuses a call that waits.
func (c *Controller) cast(p *Place, why Cause) {
	c.unqueue(p)
	p.result = refused
	p.why, p.hint = c.refuse(p, c.now(), why)
	p.ready <- struct{}{}
}

// refuse counts a refusal and says when to come again.
func (c *Controller) refuse(p *Place, now time.Duration, why Cause) (Cause, time.Duration) {
	c.counters.refused[p.queue][why].Inc()
	if c.classes[p.queue].refuse(now, why, p.t) {
		c.note(p.queue)
	}
	t := p.t
	switch why {
	case CauseMax:
		return why, t.pace.promise(now, c.ends.wait(now))
	case CauseTenant:
		return why, t.pace.promise(now, t.ends.wait(now))
	case CauseOrder:
		return why, shedHold
	}
	return why, t.pace.promise(now, t.pace.wait(p.queue, p.charged))
}

// dispatch gives free places to those whose turn it is.
func (c *Controller) dispatch(now time.Duration) {
	if c.waiting == 0 {
		return
	}
	c.contended = now
	for c.waiting > 0 && c.working < c.limit.limit() && (c.max == macronode.NoLimit || c.running < c.max) {
		t := c.wheel.pick()
		if t == nil {
			return
		}
		p := t.first()
		if why := c.full(p); why != NoCause {
			c.cast(p, why) // the class's or the tenant's part was filled meanwhile
			continue
		}
		c.grant(p, now)
	}
}

// sparse reports whether a tenant's call runs at once, and be it beyond the
// limit: that of a tenant with credit which hardly works and has nothing else
// waiting. Its turn is as good as anyone's, and what it would wait for is the end
// of others' calls, which may be long.
func (c *Controller) sparse(t *tenant) bool {
	limit := c.limit.limit()
	if t.waiting != 1 || t.working >= max(limit/2, 1) || c.working >= limit+max(limit/4, 1) {
		return false
	}
	return c.full(t.first()) == NoCause && c.wheel.credit(t)
}

// grant lets a waiting call run and makes its tenant pay what is known.
func (c *Controller) grant(p *Place, now time.Duration) {
	t := p.t
	c.unqueue(p)
	waited := now - p.start
	t.pace.note(p.queue, p.ahead, waited)
	c.counters.waited.Observe(waited.Seconds())
	c.wheel.charge(t, p.charged)
	p.period = c.wheel.period
	p.result = granted
	c.enter(p, now)
	p.ready <- struct{}{}
}

// halfLife is that of what a tenant is remembered to have used.
const halfLife = 5 * time.Second

// use notes what a call cost, for those who ask who uses most.
func (t *tenant) use(now time.Duration, cost int64) {
	t.used = t.recent(now) + float64(cost)
	t.usedAt = now
}

func (t *tenant) recent(now time.Duration) float64 {
	return t.used * math.Exp2(-float64(now-t.usedAt)/float64(halfLife))
}

// refusal is the error for a call that is not admitted. The texts are constant:
// a refusal must cost little.
func refusal(why Cause, hint time.Duration) error {
	detail := "the node is busy: no place came free in time"
	switch why {
	case CauseMax:
		detail = "too many requests in flight"
	case CauseTenant:
		detail = "the tenant holds as many of the node's places as one tenant may"
	case CauseOrder:
		detail = "the node sheds load; facets are shed first"
	}
	return &macronode.Error{Kind: macronode.Overload, Detail: detail, RetryAfter: hint}
}
