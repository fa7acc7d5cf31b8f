// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

// subscribers knows which leases belong to which open stream: an ack, wherever it
// comes from, gives its stream a place back. What a stream that broke off had
// leased is not kept here: the broker has it, also after a restart.
type subscribers struct {
	now   func() time.Time
	held  atomic.Int64 // receipts in owner, and attaches under way: acks of others look no further
	mu    sync.Mutex
	byID  map[uint64]*subscription // guarded by mu
	owner map[string]*subscription // by receipt; guarded by mu
	// early are the receipts that were settled while somebody attaches, for what the
	// broker told may be older; attaching is how many do. Guarded by mu.
	early     map[string]struct{}
	attaching int
}

// subscription is one receiver's, while it has a stream. What is below room is
// guarded by subscribers.mu.
type subscription struct {
	all  *subscribers
	id   uint64 // the owner of its leases; not 0
	ref  topicRef
	room chan struct{} // holds one: a place became free

	leases   map[string]lease // by receipt: delivered and not settled
	end      func()           // ends the stream
	detached chan struct{}    // closed when the stream has ended
}

// lease is one message that a subscription delivered.
type lease struct {
	until time.Time
}

// attach begins a stream: of the subscription that the cursor names, or a new one
// where id is 0. What its stream before had leased beyond the cursor never arrived:
// surplus are those receipts, to be given back. end ends the new stream.
func (s *subscribers) attach(ctx context.Context, b Broker, ref topicRef, id, after uint64, end func()) (sub *subscription, surplus []string, err error) {
	sub = &subscription{all: s, id: id, ref: ref, room: make(chan struct{}, 1), leases: make(map[string]lease), end: end, detached: make(chan struct{})}
	if id == 0 {
		sub.id = newOwner()
	}
	if err := s.enter(ctx, sub); err != nil {
		return nil, nil, err
	}
	var held []broker.Holding
	if id != 0 && sub.id == id {
		held, err = b.Held(ctx, ref, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.Add(-1)
	now := s.now()
	for i := range held {
		h := &held[i]
		if _, done := s.early[h.Receipt]; done || err != nil {
			continue
		}
		if h.Lease > after {
			surplus = append(surplus, h.Receipt)
			continue
		}
		s.note(sub, h.Receipt, now.Add(h.Left))
	}
	if s.attaching--; s.attaching == 0 {
		s.early = nil
	}
	if err != nil {
		s.leave(sub)
	}
	return sub, surplus, err
}

// newOwner is a number that nobody guesses.
func newOwner() uint64 {
	var raw [8]byte
	_, _ = rand.Read(raw[:])                   // it does not fail
	return binary.BigEndian.Uint64(raw[:]) | 1 // 0 is nobody
}

// enter puts sub in its place, once a stream before it has ended: its client came back
// before the node saw that it was gone.
func (s *subscribers) enter(ctx context.Context, sub *subscription) error {
	for {
		s.mu.Lock()
		old := s.byID[sub.id]
		if old == nil {
			if s.byID == nil {
				s.byID, s.owner = make(map[uint64]*subscription), make(map[string]*subscription)
			}
			s.byID[sub.id] = sub
			s.attaching++
			s.held.Add(1)
			s.mu.Unlock()
			return nil
		}
		if old.ref != sub.ref { // a cursor of another topic names nobody
			s.mu.Unlock()
			sub.id = newOwner()
			continue
		}
		old.end()
		s.mu.Unlock()
		select {
		case <-old.detached:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// detach notes that the subscription's stream has ended.
func (s *subscribers) detach(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(sub)
}

// leave forgets sub. The caller holds mu.
func (s *subscribers) leave(sub *subscription) {
	for receipt := range sub.leases {
		s.drop(sub, receipt)
	}
	delete(s.byID, sub.id)
	close(sub.detached)
}

// note remembers a lease. The caller holds mu.
func (s *subscribers) note(sub *subscription, receipt string, until time.Time) {
	sub.leases[receipt] = lease{until}
	s.owner[receipt] = sub
	s.held.Add(1)
}

// drop forgets a lease. The caller holds mu.
func (s *subscribers) drop(sub *subscription, receipt string) {
	delete(sub.leases, receipt)
	delete(s.owner, receipt)
	s.held.Add(-1)
}

// lapse forgets the leases of sub that have ended, and says when the next will;
// the zero time where none will. The caller holds mu.
func (s *subscribers) lapse(sub *subscription) (next time.Time) {
	now := s.now()
	for receipt, l := range sub.leases {
		switch {
		case !now.Before(l.until):
			s.drop(sub, receipt)
		case next.IsZero() || l.until.Before(next):
			next = l.until
		}
	}
	return next
}

// settled notes that the lease of a receipt is over, however that came.
func (s *subscribers) settled(receipt string) {
	if s.held.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.owner[receipt]; sub != nil {
		s.drop(sub, receipt)
		sub.wake()
		return
	}
	if s.attaching > 0 {
		if s.early == nil {
			s.early = make(map[string]struct{})
		}
		s.early[receipt] = struct{}{}
	}
}

// extended notes that the lease of a receipt ends at another time.
func (s *subscribers) extended(receipt string, visibility time.Duration) {
	if s.held.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.owner[receipt]; sub != nil {
		sub.leases[receipt] = lease{until: s.now().Add(visibility)}
		sub.wake()
	}
}

func (sub *subscription) wake() {
	select {
	case sub.room <- struct{}{}:
	default:
	}
}

// places is how many messages of credit the subscription may take now, and when one
// more lease ends by itself.
func (sub *subscription) places(credit int) (free int, next time.Time) {
	sub.all.mu.Lock()
	defer sub.all.mu.Unlock()
	next = sub.all.lapse(sub)
	return max(credit-len(sub.leases), 0), next
}

// deliver notes a lease that is about to be written, and returns its cursor: the
// subscription and the number of the lease, which grows. With both, the broker knows
// what came after it.
func (sub *subscription) deliver(d *broker.Delivery, until time.Time) (cursor string) {
	sub.all.mu.Lock()
	defer sub.all.mu.Unlock()
	sub.all.note(sub, d.Receipt, until)
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], sub.id)
	b := base64.RawURLEncoding.AppendEncode(make([]byte, 0, 32), raw[:])
	return string(strconv.AppendUint(append(b, '.'), d.Lease, 10))
}

// parseCursor reads a cursor; "" is none.
func parseCursor(s string) (id, after uint64, ok bool) {
	if s == "" {
		return 0, 0, true
	}
	text, number, found := strings.Cut(s, ".")
	after, err := strconv.ParseUint(number, 10, 64)
	raw, bad := base64.RawURLEncoding.Strict().DecodeString(text)
	if !found || err != nil || bad != nil || len(raw) != 8 {
		return 0, 0, false
	}
	id = binary.BigEndian.Uint64(raw)
	return id, after, id != 0
}
