// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
)

// What becomes of a message: the values of overlay_gossip_total{result}.
const (
	Published     = "published"      // made here
	Received      = "received"       // new, and taken
	Duplicate     = "duplicate"      // seen before
	Refused       = "refused"        // its handler would not have it
	Deferred      = "deferred"       // it could not be handled now, and may come again
	Forwarded     = "forwarded"      // sent on, once a peer
	Sent          = "sent"           // taken by a peer
	DroppedQueue  = "dropped_queue"  // a peer's queue was full
	DroppedPeer   = "dropped_peer"   // the peer would not have it
	DroppedBudget = "dropped_budget" // the peer said too much
)

// Results are all of them.
func Results() []string {
	return []string{Published, Received, Duplicate, Refused, Deferred, Forwarded, Sent, DroppedQueue, DroppedPeer, DroppedBudget}
}

// ErrBudget says that a peer says more than it may.
var ErrBudget = errors.New("the peer says more than it may")

// ErrStranger says that there is no session with who speaks.
var ErrStranger = errors.New("no session with this node")

// ErrKnown is what a Handler wraps where the message says nothing new: it is taken
// for one that was seen before.
var ErrKnown = errors.New("known")

// ErrLater is what a Handler wraps that could not decide now. The message is
// forgotten, so that it can come again.
var ErrLater = errors.New("not now")

// Handler takes a message that was not seen before. What it refuses with an error
// is not sent on. It may be called at once for messages of different peers.
type Handler func(ctx context.Context, from string, m *Message) error

// Config is what an Exchange needs. All but Now must be set; a lane without a
// handler refuses.
type Config struct {
	Self     Node
	Handlers map[Lane]Handler
	// Compare hears that lists of revocations should be compared with a peer's.
	Compare func(node string)
	// Count counts n messages of a lane by what became of them.
	Count func(l Lane, result string, n int)
	Now   func() time.Time // nil: time.Now
}

// Exchange is one node's part in the gossip. Its methods may be called from any
// goroutine.
type Exchange struct {
	conf Config

	mu    sync.Mutex
	peers map[string]*party
	seen  [endLane]seen
}

// party is a peer that one speaks with.
type party struct {
	node   Node
	out    *Outbox
	budget budget // guarded by Exchange.mu
}

// New returns an Exchange without peers.
func New(c Config) *Exchange {
	if c.Now == nil {
		c.Now = time.Now
	}
	x := &Exchange{conf: c, peers: make(map[string]*party)}
	for l := Revocations; l < endLane; l++ {
		x.seen[l].max = rules[l].seen
	}
	return x
}

// Join begins to speak with a peer and returns what waits for it. Of a peer that
// has joined it is what it was.
func (x *Exchange) Join(node string) (*Outbox, error) {
	n, err := ParseNode(node)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.peers[node]
	if p == nil {
		p = &party{node: n, out: newOutbox(x.conf.Self, x.conf.Count), budget: newBudget(x.conf.Now())}
		x.peers[node] = p
	}
	return p.out, nil
}

// Leave forgets a peer, and what waited for it.
func (x *Exchange) Leave(node string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.peers, node)
}

// Depth is how many messages of a lane wait, for all peers together.
func (x *Exchange) Depth(l Lane) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.peers {
		n += p.out.Depth(l)
	}
	return n
}

// Publish tells all peers, or the one named, and reports whether the payload
// fits. It waits for nobody.
func (x *Exchange) Publish(l Lane, to string, tenant macronode.TenantID, payload []byte) bool {
	if len(payload) == 0 || len(payload) > rules[l].payload {
		return false
	}
	m := Message{Lane: l, Hops: rules[l].hops, Origin: x.conf.Self, Tenant: tenant, Payload: payload}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen[l].add(m.id()) // it may come back
	x.conf.Count(l, Published, 1)
	for node, p := range x.peers {
		if to == "" || to == node {
			p.out.put(m)
		}
	}
	return true
}

// Compare asks all peers to compare lists of revocations with this node's.
func (x *Exchange) Compare() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range x.peers {
		p.out.fall()
	}
}

// Receive takes a batch of a peer: ErrMalformed, ErrBudget or ErrStranger for all
// of it; what is wrong with one message ends that one alone.
func (x *Exchange) Receive(ctx context.Context, from string, batch []byte) error {
	list, err := Parse(batch)
	if err != nil {
		return err
	}
	x.mu.Lock()
	p := x.peers[from]
	if p == nil {
		x.mu.Unlock()
		return ErrStranger
	}
	fits := p.budget.take(x.conf.Now(), len(list), len(batch))
	x.mu.Unlock()
	if !fits {
		for i := range list {
			x.conf.Count(list[i].Lane, DroppedBudget, 1)
		}
		return ErrBudget
	}
	for i := range list {
		x.take(ctx, from, p.node, &list[i])
	}
	return nil
}

// take handles one message and sends it on.
func (x *Exchange) take(ctx context.Context, from string, node Node, m *Message) {
	if len(m.Payload) == 0 {
		if m.Lane == Revocations {
			x.conf.Compare(from)
		}
		return
	}
	if m.Origin == x.conf.Self {
		x.conf.Count(m.Lane, Duplicate, 1)
		return
	}
	handle := x.conf.Handlers[m.Lane]
	if handle == nil || rules[m.Lane].hops == 0 && m.Origin != node {
		x.conf.Count(m.Lane, Refused, 1)
		return
	}
	name := m.id()
	x.mu.Lock()
	fresh := x.seen[m.Lane].add(name)
	x.mu.Unlock()
	if !fresh {
		x.conf.Count(m.Lane, Duplicate, 1)
		return
	}
	switch err := handle(ctx, from, m); {
	case errors.Is(err, ErrLater):
		x.mu.Lock()
		x.seen[m.Lane].forget(name)
		x.mu.Unlock()
		x.conf.Count(m.Lane, Deferred, 1)
		if m.Lane == Revocations {
			x.conf.Compare(from)
		}
	case errors.Is(err, ErrKnown):
		x.conf.Count(m.Lane, Duplicate, 1)
	case err != nil:
		x.conf.Count(m.Lane, Refused, 1)
	default:
		x.conf.Count(m.Lane, Received, 1)
		x.forward(from, m)
	}
}

// forward sends m on to all but who brought it and who made it.
func (x *Exchange) forward(from string, m *Message) {
	if m.Hops == 0 {
		return
	}
	next := *m
	next.Hops--
	next.Payload = append([]byte(nil), m.Payload...)
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, p := range x.peers {
		if name != from && p.node != m.Origin {
			p.out.put(next)
			x.conf.Count(m.Lane, Forwarded, 1)
		}
	}
}
