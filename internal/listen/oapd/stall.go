// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"sync"
	"time"
)

// stall ends one blocking operation of a stream that takes too long. Once disarm
// returned, nothing is called any more. The zero value is ready for use.
type stall struct {
	mu    sync.Mutex
	timer *time.Timer
	until time.Time // zero: not armed
	end   func()
}

// arm has end called unless disarm comes before until.
func (s *stall) arm(until time.Time, end func()) {
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
		s.end()
	}
}
