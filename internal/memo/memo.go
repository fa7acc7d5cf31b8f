// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package memo remembers things for a while: so much at most, what was least used
// forgotten first.
package memo

import (
	"container/list"
	"sync"
	"time"
)

// Memo remembers. Its methods may be called from any goroutine.
type Memo[K comparable, V any] struct {
	max int64
	now func() time.Time

	mu   sync.Mutex
	cost int64
	of   map[K]*list.Element
	used list.List // *item[K, V], the latest first
}

type item[K comparable, V any] struct {
	key   K
	value V
	cost  int64
	until time.Time // zero: for ever
}

// New returns a Memo that holds things that cost max together, by the measure of who
// calls Put.
func New[K comparable, V any](max int64, now func() time.Time) *Memo[K, V] {
	return &Memo[K, V]{max: max, now: now, of: make(map[K]*list.Element)}
}

// Get returns what is remembered of k.
func (m *Memo[K, V]) Get(k K) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.of[k]
	if e == nil {
		return v, false
	}
	it := e.Value.(*item[K, V])
	if !it.until.IsZero() && !m.now().Before(it.until) {
		m.drop(e)
		return v, false
	}
	m.used.MoveToFront(e)
	return it.value, true
}

// Put remembers v of k, which costs that much, for d; 0: until it is forgotten. What
// costs more than there is room for is not remembered.
func (m *Memo[K, V]) Put(k K, v V, cost int64, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.of[k]; e != nil {
		m.drop(e)
	}
	if cost > m.max {
		return
	}
	it := &item[K, V]{key: k, value: v, cost: cost}
	if d > 0 {
		it.until = m.now().Add(d)
	}
	m.of[k] = m.used.PushFront(it)
	for m.cost += cost; m.cost > m.max; {
		m.drop(m.used.Back())
	}
}

func (m *Memo[K, V]) drop(e *list.Element) {
	it := e.Value.(*item[K, V])
	delete(m.of, it.key)
	m.cost -= it.cost
	m.used.Remove(e)
}

// Forget drops what is remembered of k.
func (m *Memo[K, V]) Forget(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.of[k]; e != nil {
		m.drop(e)
	}
}

// Clear forgets everything.
func (m *Memo[K, V]) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
	m.used.Init()
	m.cost = 0
}

// Len is how many things are remembered.
func (m *Memo[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used.Len()
}

// Cost is what the things that are remembered cost together.
func (m *Memo[K, V]) Cost() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cost
}
