// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"errors"
	"sync"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
)

// fileKey names an object file or a pack.
type fileKey struct {
	pack bool
	id   [idBytes]byte
}

func objectKey(id objectID) fileKey { return fileKey{id: id} }

func packKey(id packID) fileKey {
	k := fileKey{pack: true}
	copy(k.id[:], id[:])
	return k
}

// handle is an open file, shared by its readers.
type handle struct {
	key  fileKey
	file disk.File
	// of an object file
	foot     footer
	verifier *b3.Verifier

	// guarded by cache.mu
	refs       int
	cached     bool
	prev, next *handle // in the order of use, while cached
}

// treeReader reads the tree that begins at base in a file.
type treeReader struct {
	file disk.File
	base int64
}

func (t treeReader) ReadAt(p []byte, off int64) (int, error) { return t.file.ReadAt(p, t.base+off) }

// cache keeps up to max handles, the least recently used going first. A handle
// is closed when it is neither cached nor in use.
type cache struct {
	mu       sync.Mutex
	max      int // 0 after close
	handles  map[fileKey]*handle
	first    *handle // used last
	last     *handle
	removals int // counts drops, so that an Open beside one does not cache its file
}

// get returns the handle of id with a reference, or nil and what put wants.
func (c *cache) get(id fileKey) (*handle, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.handles[id]
	if h != nil {
		h.refs++
		c.unlink(h)
		c.link(h)
	}
	return h, c.removals
}

// put caches h, which has a reference, unless something was removed since get
// or another of the same id is there already.
func (c *cache) put(h *handle, removals int) {
	c.mu.Lock()
	if c.max == 0 || removals != c.removals || c.handles[h.key] != nil {
		c.mu.Unlock()
		return
	}
	h.cached = true
	c.handles[h.key] = h
	c.link(h)
	var out *handle
	if len(c.handles) > c.max {
		out = c.evict(c.last)
	}
	c.mu.Unlock()
	if out != nil {
		_ = out.file.Close() // it was only read
	}
}

// release gives a reference back.
func (c *cache) release(h *handle) error {
	c.mu.Lock()
	h.refs--
	last := h.refs == 0 && !h.cached
	c.mu.Unlock()
	if last {
		return h.file.Close()
	}
	return nil
}

// drop forgets the handle of a file that is gone.
func (c *cache) drop(id fileKey) {
	c.mu.Lock()
	c.removals++
	var out *handle
	if h := c.handles[id]; h != nil {
		out = c.evict(h)
	}
	c.mu.Unlock()
	if out != nil {
		_ = out.file.Close() // it was only read
	}
}

// evict takes h out and returns it if it is to be closed.
func (c *cache) evict(h *handle) *handle {
	c.unlink(h)
	delete(c.handles, h.key)
	h.cached = false
	if h.refs == 0 {
		return h
	}
	return nil
}

func (c *cache) link(h *handle) {
	h.next = c.first
	if c.first != nil {
		c.first.prev = h
	}
	c.first = h
	if c.last == nil {
		c.last = h
	}
}

func (c *cache) unlink(h *handle) {
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

func (c *cache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.max = 0
	var errs error
	for _, h := range c.handles {
		if out := c.evict(h); out != nil {
			errs = errors.Join(errs, out.file.Close())
		}
	}
	return errs
}
