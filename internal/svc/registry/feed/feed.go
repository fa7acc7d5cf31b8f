// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package feed keeps the last of what is told to watches, and wakes them.
package feed

import "sync"

// Kept is how many items a watch may be behind.
const Kept = 256

// Feed is what watches are told. The zero value is empty; its methods may be called
// from any goroutine.
type Feed[T any] struct {
	mu    sync.Mutex
	next  uint64
	kept  []T // the last ones; the newest is next-1
	grown chan struct{}
}

// Wait is closed at the next Add or Wake.
func (f *Feed[T]) Wait() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.grown == nil {
		f.grown = make(chan struct{})
	}
	return f.grown
}

// Wake wakes who waits.
func (f *Feed[T]) Wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake()
}

func (f *Feed[T]) wake() {
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
}

// Add tells of an item.
func (f *Feed[T]) Add(item T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept = append(f.kept, item); len(f.kept) > Kept {
		f.kept = append([]T(nil), f.kept[len(f.kept)-Kept:]...)
	}
	f.next++
	f.wake()
}

// Since lists what came from place n on, the place after it, and how many items before
// it are lost.
func (f *Feed[T]) Since(n uint64) (list []T, next, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.next - uint64(len(f.kept))
	if n < first {
		lost, n = first-n, first
	}
	return append(list, f.kept[n-first:]...), f.next, lost
}
