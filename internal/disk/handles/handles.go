// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package handles keeps files open for their next reader.
package handles

import (
	"errors"
	"sync"

	"github.com/rustyonions/macronode/internal/disk"
)

// Handle is an open file, shared by its readers, with what is known of it.
type Handle[K comparable, V any] struct {
	Key   K
	File  disk.File
	Value V

	// guarded by Cache.mu
	refs       int
	cached     bool
	prev, next *Handle[K, V] // in the order of use, while cached
}

// New returns a handle of an open file, with one reference.
func New[K comparable, V any](key K, file disk.File, value V) *Handle[K, V] {
	return &Handle[K, V]{Key: key, File: file, Value: value, refs: 1}
}

// Cache keeps a bounded number of handles, the least recently used going first. A
// handle is closed when it is neither cached nor in use.
type Cache[K comparable, V any] struct {
	mu       sync.Mutex
	max      int // 0 after Close
	handles  map[K]*Handle[K, V]
	first    *Handle[K, V] // used last
	last     *Handle[K, V]
	removals int // counts drops, so that an open beside one does not cache its file
}

// NewCache returns an empty cache of up to max handles.
func NewCache[K comparable, V any](max int) *Cache[K, V] {
	return &Cache[K, V]{max: max, handles: make(map[K]*Handle[K, V])}
}

// Get returns the handle of key with a reference, or nil and what Put wants.
func (c *Cache[K, V]) Get(key K) (*Handle[K, V], int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.handles[key]
	if h != nil {
		h.refs++
		c.unlink(h)
		c.link(h)
	}
	return h, c.removals
}

// Put caches h, which has a reference, unless something was dropped since Get
// or another of the same key is there already.
func (c *Cache[K, V]) Put(h *Handle[K, V], removals int) {
	c.mu.Lock()
	if c.max == 0 || removals != c.removals || c.handles[h.Key] != nil {
		c.mu.Unlock()
		return
	}
	h.cached = true
	c.handles[h.Key] = h
	c.link(h)
	var out *Handle[K, V]
	if len(c.handles) > c.max {
		out = c.evict(c.last)
	}
	c.mu.Unlock()
	if out != nil {
		_ = out.File.Close() // it was only read
	}
}

// Release gives a reference back.
func (c *Cache[K, V]) Release(h *Handle[K, V]) error {
	c.mu.Lock()
	h.refs--
	last := h.refs == 0 && !h.cached
	c.mu.Unlock()
	if last {
		return h.File.Close()
	}
	return nil
}

// Drop forgets the handle of a file that is gone.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	c.removals++
	var out *Handle[K, V]
	if h := c.handles[key]; h != nil {
		out = c.evict(h)
	}
	c.mu.Unlock()
	if out != nil {
		_ = out.File.Close() // it was only read
	}
}

// evict takes h out and returns it if it is to be closed.
func (c *Cache[K, V]) evict(h *Handle[K, V]) *Handle[K, V] {
	c.unlink(h)
	delete(c.handles, h.Key)
	h.cached = false
	if h.refs == 0 {
		return h
	}
	return nil
}

func (c *Cache[K, V]) link(h *Handle[K, V]) {
	h.next = c.first
	if c.first != nil {
		c.first.prev = h
	}
	c.first = h
	if c.last == nil {
		c.last = h
	}
}

func (c *Cache[K, V]) unlink(h *Handle[K, V]) {
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		c.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		c.last = h.prev
	}
	h.prev, h.next = nil, nil
}

// Close closes what is not in use, and keeps nothing from then on.
func (c *Cache[K, V]) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.max = 0
	var errs error
	for _, h := range c.handles {
		if out := c.evict(h); out != nil {
			errs = errors.Join(errs, out.File.Close())
		}
	}
	return errs
}
