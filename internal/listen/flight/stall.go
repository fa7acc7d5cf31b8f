// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flight

import (
	"sync"
	"time"
)

// Stall ends one blocking operation that takes too long. Once Disarm
// returned, nothing is called any more. The zero value is ready for use.
type Stall struct {
	mu    sync.Mutex
	timer *time.Timer
	until time.Time // zero: not armed
	end   func()
}

// Arm has end called unless Disarm comes before until.
func (s *Stall) Arm(until time.Time, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.end = until, end
	if d := time.Until(until); s.timer == nil {
		s.timer = time.AfterFunc(d, s.fire)
	} else {
		s.timer.Reset(d)
	}
}

// Disarm says that the operation is over.
func (s *Stall) Disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
	s.timer.Stop()
}

func (s *Stall) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A timer of the operation before may come late, while this one is young.
	if !s.until.IsZero() && !time.Now().Before(s.until) {
		s.until = time.Time{}
		s.end()
	}
}
