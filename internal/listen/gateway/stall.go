// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"time"
)

// longAgo, as a deadline, ends what is waiting.
var longAgo = time.Unix(1, 0)

// stall ends one blocking operation of an HTTP/2 stream that takes too long.
// Deadlines set on the stream itself would go off between operations too, and
// cost a message to the connection's loop each time. Once disarm returned,
// nothing is called any more.
type stall struct {
	mu    sync.Mutex
	timer *time.Timer
	until time.Time // zero: not armed
	end   func(time.Time) error
}

// arm has end called with a time in the past unless disarm comes before until.
func (s *stall) arm(until time.Time, end func(time.Time) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.end = until, end
	if d := time.Until(until); s.timer == nil {
		s.timer = time.AfterFunc(d, s.fire)
	} else {
		s.timer.Reset(d)
	}
}

func (s *stall) disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
	s.timer.Stop()
}

func (s *stall) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A timer of the operation before may come late, while this one is young.
	if !s.until.IsZero() && !time.Now().Before(s.until) {
		s.until = time.Time{}
		// It cannot fail but on a stream that is over.
		_ = s.end(longAgo)
	}
}
