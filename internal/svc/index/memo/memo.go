// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package memo remembers things for a while: so many at most, the least used of them
// forgotten first.
package memo

import (
	"container/list"
	"sync"
	"time"
)

// Memo remembers. Its methods may be called from any goroutine.
type Memo[K comparable, V any] struct {
	max int
	now func() time.Time

	mu   sync.Mutex
	of   map[K]*list.Element
	used list.List // *item[K, V], the latest first
}

type item[K comparable, V any] struct {
	key   K
	value V
	until time.Time // zero: for ever
}

// New returns a Memo of at most max things.
func New[K comparable, V any](max int, now func() time.Time) *Memo[K, V] {
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

// Put remembers v of k for d; 0: until it is forgotten.
func (m *Memo[K, V]) Put(k K, v V, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it := &item[K, V]{key: k, value: v}
	if d > 0 {
		it.until = m.now().Add(d)
	}
	if e := m.of[k]; e != nil {
		e.Value = it
		m.used.MoveToFront(e)
		return
	}
	m.of[k] = m.used.PushFront(it)
	for m.used.Len() > m.max {
		m.drop(m.used.Back())
	}
}

func (m *Memo[K, V]) drop(e *list.Element) {
	delete(m.of, e.Value.(*item[K, V]).key)
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
}

// Len is how many things are remembered.
func (m *Memo[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used.Len()
}
