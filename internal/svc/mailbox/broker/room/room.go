// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package room keeps accounts of the mailbox's log: how much of it is still needed.
package room

import (
	"sync"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Segments is how much of each segment of the log holds messages that are still
// needed. It changes under the lock of the topic whose record changed it, so that
// whoever has had all topics' locks since a record was staged sees it counted.
type Segments struct {
	mu   sync.Mutex
	live map[uint32]Holding
}

// Holding is what a segment holds of use.
type Holding struct{ Messages, Bytes int64 }

// Add takes over the accounts of an effect, which must not be added again.
func (s *Segments) Add(e *queue.Effect) {
	if len(e.Placed) == 0 && len(e.Freed) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range e.Placed {
		s.change(p, 1)
	}
	for _, f := range e.Freed {
		s.change(f, -1)
	}
	e.Placed, e.Freed = e.Placed[:0], e.Freed[:0]
}

// Placed counts one entry, at start.
func (s *Segments) Placed(p queue.Freed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(p, 1)
}

func (s *Segments) change(p queue.Freed, sign int64) {
	if s.live == nil {
		s.live = make(map[uint32]Holding)
	}
	h := s.live[p.Segment]
	h.Messages += sign * p.Messages
	h.Bytes += sign * p.Bytes
	if h.Messages == 0 && h.Bytes == 0 {
		delete(s.live, p.Segment)
	} else {
		s.live[p.Segment] = h
	}
}

// Of tells what a segment holds.
func (s *Segments) Of(id uint32) Holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}
