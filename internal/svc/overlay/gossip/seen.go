// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

// seen knows messages again: the last max of them, at most twice as many.
type seen struct {
	max      int
	now, old map[id]struct{}
}

// add reports whether x is new, and keeps it.
func (s *seen) add(x id) bool {
	if _, ok := s.now[x]; ok {
		return false
	}
	if _, ok := s.old[x]; ok {
		return false
	}
	if s.now == nil {
		s.now = make(map[id]struct{})
	}
	s.now[x] = struct{}{}
	if len(s.now) >= s.max {
		s.old, s.now = s.now, nil
	}
	return true
}

// forget makes x new again.
func (s *seen) forget(x id) {
	delete(s.now, x)
	delete(s.old, x)
}

func (s *seen) len() int { return len(s.now) + len(s.old) }
