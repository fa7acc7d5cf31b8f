// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"sync"
)

// Outbox is what waits to be said to one peer. It has one reader at a time.
type Outbox struct {
	count func(Lane, string, int)
	self  Node

	mu      sync.Mutex
	lanes   [endLane]queue
	pending []Message     // given to the reader, who has not said how it went
	behind  bool          // revocations were dropped: ask to compare lists
	wake    chan struct{} // capacity 1
}

// queue is what waits in a lane, oldest first.
type queue struct {
	list  []Message
	bytes int
}

// drop takes the n oldest away.
func (q *queue) drop(n int) {
	for i := range n {
		q.bytes -= q.list[i].size()
	}
	rest := copy(q.list, q.list[n:])
	clear(q.list[rest:])
	q.list = q.list[:rest]
}

func newOutbox(self Node, count func(Lane, string, int)) *Outbox {
	return &Outbox{self: self, count: count, wake: make(chan struct{}, 1)}
}

// put lets m wait. Where its lane is full the oldest go.
func (o *Outbox) put(m Message) {
	o.mu.Lock()
	q, r := &o.lanes[m.Lane], &rules[m.Lane]
	for len(q.list) > 0 && (len(q.list) >= r.depth || q.bytes+m.size() > r.bytes) {
		q.drop(1)
		o.count(m.Lane, DroppedQueue, 1)
		o.behind = o.behind || m.Lane == Revocations
	}
	q.list = append(q.list, m)
	q.bytes += m.size()
	o.mu.Unlock()
	o.rouse()
}

func (o *Outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default: // it is awake
	}
}

// Depth is how many messages of a lane wait.
func (o *Outbox) Depth(l Lane) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lanes[l].list)
}

// Next waits until there is something to say and returns it as one batch. What
// it returned comes again until Sent or Failed was called.
func (o *Outbox) Next(ctx context.Context) ([]byte, error) {
	for {
		if b := o.batch(); b != nil {
			return b, nil
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// batch takes what fits, lane by lane; nil where there is nothing.
func (o *Outbox) batch() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) > 0 {
		return Encode(o.pending)
	}
	left := MaxBatchBytes - 1
	for l := Revocations; l < endLane; l++ {
		q, n := &o.lanes[l], 0
		for n < len(q.list) && q.list[n].size() <= left && len(o.pending) < MaxBatchMessages {
			left -= q.list[n].size()
			o.pending = append(o.pending, q.list[n])
			n++
		}
		q.drop(n)
	}
	if o.behind && left >= headBytes && len(o.pending) < MaxBatchMessages {
		o.pending = append(o.pending, Message{Lane: Revocations, Origin: o.self})
		o.behind = false
	}
	if len(o.pending) == 0 {
		return nil
	}
	return Encode(o.pending)
}

// Sent says that the peer took the batch.
func (o *Outbox) Sent() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.pending {
		o.count(o.pending[i].Lane, Sent, 1)
	}
	o.pending = nil
}

// fall makes the peer be asked to compare.
func (o *Outbox) fall() {
	o.mu.Lock()
	o.behind = true
	o.mu.Unlock()
	o.rouse()
}

// Failed says that the peer would not have the batch: it is dropped.
func (o *Outbox) Failed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.pending {
		l := o.pending[i].Lane
		o.count(l, DroppedPeer, 1)
		o.behind = o.behind || l == Revocations
	}
	o.pending = nil
	if o.behind {
		o.rouse()
	}
}
