// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wait

import (
	"container/heap"
	"sync"
)

// Timers says which topic has to be looked at next, and when. An entry is a
// topic's earliest wish: one that changes its mind to later is looked at in vain
// once, which is cheaper than moving it.
type Timers[T comparable] struct {
	mu  sync.Mutex
	due dueHeap[T]
	// Sooner holds one: the first entry came forward.
	Sooner chan struct{}
}

type dueEntry[T comparable] struct {
	at int64 // mailbox time
	t  T
}

// NewTimers returns timers without an entry.
func NewTimers[T comparable]() *Timers[T] { return &Timers[T]{Sooner: make(chan struct{}, 1)} }

// Arm asks for t to be looked at when mailbox time is at.
func (ts *Timers[T]) Arm(t T, at int64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	heap.Push(&ts.due, dueEntry[T]{at: at, t: t})
	if ts.due[0].at == at && ts.due[0].t == t {
		select {
		case ts.Sooner <- struct{}{}:
		default:
		}
	}
}

// Take removes and returns a topic that is due at now. Otherwise next is when one
// will be, and ok whether there is any.
func (ts *Timers[T]) Take(now int64) (t T, next int64, ok bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.due) == 0 {
		return t, 0, false
	}
	if next = ts.due[0].at; next > now {
		return t, next, true
	}
	e := heap.Pop(&ts.due).(dueEntry[T])
	return e.t, next, true
}

type dueHeap[T comparable] []dueEntry[T]

func (h dueHeap[T]) Len() int           { return len(h) }
func (h dueHeap[T]) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap[T]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap[T]) Push(x any)        { *h = append(*h, x.(dueEntry[T])) }
func (h *dueHeap[T]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = dueEntry[T]{}
	*h = old[:len(old)-1]
	return e
}
