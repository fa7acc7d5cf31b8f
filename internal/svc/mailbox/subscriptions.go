// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxBroken bounds the subscriptions without a stream whose leases are remembered.
const maxBroken = 1024

// subscribers knows which leases belong to which subscription: an ack, wherever it
// comes from, gives its subscription a place back, and a subscription whose stream
// broke off is found again by its cursor. All of it is in memory: after a restart
// a cursor names nobody, and what its stream had not acknowledged comes again when
// the leases end.
type subscribers struct {
	now   func() time.Time
	held  atomic.Int64 // receipts in byReceipt: acks of others look no further
	mu    sync.Mutex
	byID  map[string]*subscription // guarded by mu
	owner map[string]*subscription // by receipt; guarded by mu
	lost  []*subscription          // without a stream, oldest first; guarded by mu
}

// subscription is one receiver's, through all of its streams. What is below mu is
// guarded by subscribers.mu.
type subscription struct {
	all  *subscribers
	id   string
	ref  topicRef
	room chan struct{} // holds one: a place became free

	next     uint64           // number of the message that is written next
	leases   map[string]lease // by receipt: delivered and not settled
	end      func()           // ends the stream; nil: there is none
	detached chan struct{}    // closed when the stream has ended
}

// lease is one message that a subscription delivered.
type lease struct {
	n     uint64 // its number in the subscription
	until time.Time
}

// attach returns the subscription that the cursor names, or a new one. What its
// stream before had delivered beyond the cursor never arrived: surplus are those
// receipts, to be given back. end ends the new stream.
func (s *subscribers) attach(ctx context.Context, ref topicRef, id string, after uint64, end func()) (sub *subscription, surplus []string, err error) {
	for {
		s.mu.Lock()
		sub = s.byID[id]
		if sub == nil || sub.ref != ref {
			sub = s.add(ref)
			break
		}
		if sub.end == nil {
			break
		}
		// Its client came back before the node saw that it was gone.
		sub.end()
		gone := sub.detached
		s.mu.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	defer s.mu.Unlock()
	sub.end, sub.detached = end, make(chan struct{})
	for i, l := range s.lost {
		if l == sub {
			s.lost = append(s.lost[:i], s.lost[i+1:]...)
			break
		}
	}
	for receipt, l := range sub.leases {
		if l.n > after {
			surplus = append(surplus, receipt)
			s.drop(sub, receipt)
		}
	}
	return sub, surplus, nil
}

// add makes a subscription. The caller holds mu.
func (s *subscribers) add(ref topicRef) *subscription {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // it does not fail
	sub := &subscription{all: s, id: base64.RawURLEncoding.EncodeToString(raw[:]), ref: ref, room: make(chan struct{}, 1), leases: make(map[string]lease)}
	if s.byID == nil {
		s.byID, s.owner = make(map[string]*subscription), make(map[string]*subscription)
	}
	s.byID[sub.id] = sub
	return sub
}

// detach notes that the subscription's stream has ended.
func (s *subscribers) detach(sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.end = nil
	close(sub.detached)
	s.lapse(sub)
	if len(sub.leases) == 0 {
		delete(s.byID, sub.id)
		return
	}
	s.lost = append(s.lost, sub)
	kept := s.lost[:0]
	for i, l := range s.lost {
		if s.lapse(l); len(l.leases) > 0 && len(s.lost)-i <= maxBroken {
			kept = append(kept, l)
			continue
		}
		for receipt := range l.leases {
			s.drop(l, receipt)
		}
		delete(s.byID, l.id)
	}
	clear(s.lost[len(kept):])
	s.lost = kept
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
		l := sub.leases[receipt]
		l.until = s.now().Add(visibility)
		sub.leases[receipt] = l
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

// deliver notes a lease that is about to be written, and returns its cursor.
func (sub *subscription) deliver(receipt string, until time.Time) (cursor string) {
	sub.all.mu.Lock()
	defer sub.all.mu.Unlock()
	sub.next++
	sub.leases[receipt] = lease{n: sub.next, until: until}
	sub.all.owner[receipt] = sub
	sub.all.held.Add(1)
	return sub.id + "." + strconv.FormatUint(sub.next, 10)
}

// parseCursor reads a cursor; "" is none.
func parseCursor(s string) (id string, n uint64, ok bool) {
	if s == "" {
		return "", 0, true
	}
	id, number, found := strings.Cut(s, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	raw, bad := base64.RawURLEncoding.Strict().DecodeString(id)
	return id, n, found && err == nil && bad == nil && len(raw) == 16
}
