// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// commit is a batch on its way to the disk.
type commit struct {
	batch   *pebble.Batch
	keys    []string
	applied chan struct{} // closed once it is visible
	durable chan struct{} // closed once it is durable, never if it fails
}

// pending knows the keys of commits that may be visible and are not durable.
type pending struct {
	n    atomic.Int64 // commits in all, so that readers need no lock where there is none
	mu   sync.RWMutex
	keys map[string]*commit // the last to write each
	all  map[*commit]struct{}
}

func (p *pending) add(c *commit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.keys, p.all = make(map[string]*commit), make(map[*commit]struct{})
	}
	for _, key := range c.keys {
		p.keys[key] = c
	}
	p.all[c] = struct{}{}
	p.n.Add(1)
}

func (p *pending) remove(c *commit) {
	p.mu.Lock()
	for _, key := range c.keys {
		if p.keys[key] == c {
			delete(p.keys, key)
		}
	}
	delete(p.all, c)
	p.n.Add(-1)
	p.mu.Unlock()
	close(c.durable)
}

// of returns the commit that key waits for, or nil.
func (p *pending) of(key []byte) *commit {
	if p.n.Load() == 0 {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.keys[string(key)]
}

// every appends all commits to list.
func (p *pending) every(list []*commit) []*commit {
	if p.n.Load() == 0 {
		return list
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for c := range p.all {
		list = append(list, c)
	}
	return list
}

// inUse counts calls, so that Close can wait for them.
type inUse struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // made by close
}

func (u *inUse) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.n++
	return true
}

func (u *inUse) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.closed {
		close(u.idle)
	}
}

// close refuses what comes and waits for what is there, or for failed. It reports
// whether it was the first.
func (u *inUse) close(failed <-chan struct{}) bool {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return false
	}
	u.closed = true
	u.idle = make(chan struct{})
	if u.n == 0 {
		close(u.idle)
	}
	u.mu.Unlock()
	select {
	case <-u.idle:
	case <-failed:
	}
	return true
}
