// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package timer orders the moments at which messages change by themselves.
package timer

import "github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"

// Heap is a heap of times at which a message may change by itself. Entries
// are not removed when they are overtaken: who takes one looks whether it counts.
type Heap []Entry

// Entry is a time, and whose.
type Entry struct {
	At  record.Time
	Seq uint64
}

// Push adds an entry.
func (h *Heap) Push(e Entry) {
	*h = append(*h, e)
	s := *h
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 4
		if s[up].At <= e.At {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = e
}

// Pop takes the earliest entry; there is one.
func (h *Heap) Pop() Entry {
	s := *h
	top, last := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	*h = s
	if len(s) > 0 {
		s.down(0, last)
	}
	return top
}

// down puts e at i or below.
func (s Heap) down(i int, e Entry) {
	for {
		kid := 4*i + 1
		if kid >= len(s) {
			break
		}
		for k := kid + 1; k < min(kid+4, len(s)); k++ {
			if s[k].At < s[kid].At {
				kid = k
			}
		}
		if s[kid].At >= e.At {
			break
		}
		s[i] = s[kid]
		i = kid
	}
	s[i] = e
}

// Keep drops the entries that do not count.
func (h *Heap) Keep(counts func(Entry) bool) {
	s := (*h)[:0]
	for _, e := range *h {
		if counts(e) {
			s = append(s, e)
		}
	}
	for i := (len(s) - 2) / 4; i >= 0 && len(s) > 1; i-- {
		s.down(i, s[i])
	}
	*h = s
}
