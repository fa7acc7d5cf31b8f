// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package hold says what is in use: uploads between two steps, and bytes that replies
// read.
package hold

import (
	"context"
	"sync"

	"github.com/rustyonions/macronode/internal/store"
)

// Window tells the sweep when it may believe what it saw. Between an object's
// commit and its reference nothing refers to bytes that are wanted; uploads
// are inside the window for that time.
type Window struct {
	mu      sync.Mutex
	epoch   uint64
	inside  map[uint64]int // uploads by the epoch in which they entered
	changed chan struct{}  // closed when an upload leaves, if anyone waits
}

// Enter returns what Leave takes.
func (w *Window) Enter() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inside == nil {
		w.inside = make(map[uint64]int)
	}
	w.inside[w.epoch]++
	return w.epoch
}

// Leave says that the upload is through.
func (w *Window) Leave(epoch uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inside[epoch]--; w.inside[epoch] > 0 {
		return
	}
	delete(w.inside, epoch)
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// Quiesce returns once every upload that was inside when it was called has left.
func (w *Window) Quiesce(ctx context.Context) error {
	w.mu.Lock()
	until := w.epoch
	w.epoch++
	for w.before(until) {
		if w.changed == nil {
			w.changed = make(chan struct{})
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
	w.mu.Unlock()
	return nil
}

func (w *Window) before(epoch uint64) bool {
	for e := range w.inside {
		if e <= epoch {
			return true
		}
	}
	return false
}

// Pins count the replies that read stored bytes, so that the bytes are not
// removed under them.
type Pins struct {
	mu     sync.Mutex
	count  map[store.Loc]int // condemned, or the number of readers
	missed bool              // Condemn failed since Drop last reported true
}

const condemned = -1

// Add reports false where l is being removed, or was: the caller looks the
// reference up again.
func (p *Pins) Add(l store.Loc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = make(map[store.Loc]int)
	}
	if p.count[l] == condemned {
		return false
	}
	p.count[l]++
	return true
}

// Drop reports whether that was the last pin of l and a removal may wait for it.
func (p *Pins) Drop(l store.Loc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[l]--; p.count[l] > 0 {
		return false
	}
	delete(p.count, l)
	missed := p.missed
	p.missed = false
	return missed
}

// Condemn implements collect.Readers.
func (p *Pins) Condemn(l store.Loc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = make(map[store.Loc]int)
	}
	if p.count[l] != 0 {
		p.missed = true
		return false
	}
	p.count[l] = condemned
	return true
}

// Forget implements collect.Readers.
func (p *Pins) Forget(l store.Loc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.count, l)
}

// Waited reports whether Quiesce waits for uploads.
func (w *Window) Waited() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed != nil
}
