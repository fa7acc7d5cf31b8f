// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"math/bits"
	"time"

	"github.com/rustyonions/macronode"
)

const (
	// quantum is what a tenant of weight 1 may use in a round, in cost units.
	quantum = 64 << 10
	// rounds is how far ahead a tenant may owe. What it owes beyond that is
	// forgiven, so that no one waits forever for what it did before.
	rounds = 1024
	// lowerEvery is how many calls of a better class go first, at most, where a
	// tenant has calls of several classes waiting.
	lowerEvery = 7
)

// tenant is one tenant's part in the sharing. It is guarded by Controller.mu.
type tenant struct {
	id     macronode.TenantID
	label  string
	weight int64

	queues  [queueClasses]fifo
	waiting int
	streak  int // calls taken while a worse class waited

	deficit int64  // what is left of this round's allowance; negative: owed
	round   uint64 // round in which the allowance was given last
	period  uint64 // busy period that deficit and round belong to

	slot       int // place in the wheel; -1: not in it
	prev, next *tenant

	running int64 // calls inside, waiting for their clients or not
	working int64 // of these, those that hold a place
	served  int64 // cost charged in this busy period
	gone    bool  // deleted: forgotten once idle
	pace    pace
	ends    gap     // of its calls
	used    float64 // cost, with a half-life
	usedAt  time.Duration
}

// wheel is deficit round robin with a calendar: a tenant stands in the slot of
// the round in which it has something to spend again, so that one who owes for
// many rounds costs nothing while they pass. Every operation is O(1).
type wheel struct {
	round  uint64
	period uint64 // busy period; what was owed in an older one is forgotten
	slots  [rounds]ring
	used   [rounds / 64]uint64 // which slots are not empty
	size   int
}

// ring is a list of tenants in order of arrival.
type ring struct{ head, tail *tenant }

// recall brings the tenant's account up to date: credit is not saved from one
// round to the next, debts are paid by the rounds that passed. The allowance of
// the round that runs is given when the turn comes.
func (w *wheel) recall(t *tenant) {
	if t.period != w.period {
		t.period, t.round, t.deficit, t.served = w.period, w.round-1, 0, 0
		return
	}
	if passed := min(w.round-t.round, rounds); passed > 0 {
		t.round = w.round - 1
		t.deficit = min(t.deficit+int64(passed-1)*t.weight*quantum, 0)
	}
}

// add lets a tenant take part that has a call waiting.
func (w *wheel) add(t *tenant) {
	if t.slot < 0 {
		w.recall(t)
		w.place(t, w.target(t))
	}
}

// target is the slot of the round in which t next has something to spend. Its
// account is up to date.
func (w *wheel) target(t *tenant) int {
	share := t.weight * quantum
	var ahead uint64
	switch {
	case t.round != w.round:
		ahead = uint64(max(-t.deficit, 0) / share)
	case t.deficit <= 0:
		ahead = 1 + uint64(-t.deficit/share)
	}
	return int((w.round + min(ahead, rounds-1)) % rounds)
}

func (w *wheel) place(t *tenant, slot int) {
	t.slot = slot
	r := &w.slots[slot]
	t.prev, t.next = r.tail, nil
	if r.tail != nil {
		r.tail.next = t
	} else {
		r.head = t
		w.used[slot/64] |= 1 << (slot % 64)
	}
	r.tail = t
	w.size++
}

// move puts t where its account says it belongs now.
func (w *wheel) move(t *tenant) {
	if to := w.target(t); to != t.slot {
		w.remove(t)
		w.place(t, to)
	}
}

// remove takes t out.
func (w *wheel) remove(t *tenant) {
	if t.slot < 0 {
		return
	}
	r := &w.slots[t.slot]
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		r.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		r.tail = t.prev
	}
	if r.head == nil {
		w.used[t.slot/64] &^= 1 << (t.slot % 64)
	}
	t.prev, t.next, t.slot = nil, nil, -1
	w.size--
}

// pick returns the tenant whose turn it is, nil where none waits. It stays in
// the wheel until charge or remove moves it.
func (w *wheel) pick() *tenant {
	for w.size > 0 {
		now := int(w.round % rounds)
		t := w.slots[now].head
		if t == nil {
			w.round += uint64(w.ahead(now))
			continue
		}
		w.give(t)
		if t.deficit > 0 {
			return t
		}
		w.move(t) // it owes more than when it was put here
	}
	return nil
}

// give grants t the allowances of the rounds since the last one, up to this.
func (w *wheel) give(t *tenant) {
	passed := min(w.round-t.round, rounds)
	if passed == 0 {
		return
	}
	t.round = w.round
	share := t.weight * quantum
	t.deficit = min(t.deficit+int64(passed)*share, share)
}

// ahead is how many rounds after now the next slot is that is not empty.
func (w *wheel) ahead(now int) int {
	word, bit := now/64, now%64
	if m := w.used[word] >> bit >> 1; m != 0 {
		return 1 + bits.TrailingZeros64(m)
	}
	for i := 1; i <= len(w.used); i++ {
		if m := w.used[(word+i)%len(w.used)]; m != 0 {
			return i*64 - bit + bits.TrailingZeros64(m)
		}
	}
	return 1
}

// charge makes t pay, and moves it where its turn is over. A negative cost is
// given back.
func (w *wheel) charge(t *tenant, cost int64) {
	w.recall(t)
	share := t.weight * quantum
	t.served += cost
	t.deficit = min(max(t.deficit-cost, -(rounds-1)*share), share)
	if t.slot >= 0 {
		w.move(t)
	}
}

// credit reports whether t has something to spend in this round.
func (w *wheel) credit(t *tenant) bool {
	w.recall(t)
	if t.round == w.round {
		return t.deficit > 0
	}
	return t.deficit+t.weight*quantum > 0
}

// fifo is a list of waiting calls in order of arrival.
type fifo struct {
	head, tail *Place
	n          int
	cost       int64
}

func (q *fifo) push(p *Place) {
	p.qprev, p.qnext = q.tail, nil
	if q.tail != nil {
		q.tail.qnext = p
	} else {
		q.head = p
	}
	q.tail = p
	q.n++
	q.cost += p.charged
}

func (q *fifo) remove(p *Place) {
	if p.qprev != nil {
		p.qprev.qnext = p.qnext
	} else {
		q.head = p.qnext
	}
	if p.qnext != nil {
		p.qnext.qprev = p.qprev
	} else {
		q.tail = p.qprev
	}
	p.qprev, p.qnext = nil, nil
	q.n--
	q.cost -= p.charged
}

// first is the call that goes next: of the best class, but now and then of one
// below it, so that a tenant's reads do not keep its writes out for good.
func (t *tenant) first() *Place {
	var best, worst *Place
	for i := range t.queues {
		if p := t.queues[i].head; p != nil {
			if best == nil {
				best = p
			}
			worst = p
		}
	}
	if best == worst {
		t.streak = 0
		return best
	}
	if t.streak++; t.streak > lowerEvery {
		t.streak = 0
		return t.lower(best)
	}
	return best
}

// lower is the first call of the class right below that of p.
func (t *tenant) lower(p *Place) *Place {
	for i := p.queue + 1; i < queueClasses; i++ {
		if q := t.queues[i].head; q != nil {
			return q
		}
	}
	return p
}
