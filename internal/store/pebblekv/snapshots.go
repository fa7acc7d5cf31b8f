// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// snapshots shares one snapshot between the readers that begin between two
// commits: making and closing one takes Pebble's lock, which can be held for as
// long as an fsync of the manifest takes.
type snapshots struct {
	mu      sync.Mutex
	current *snapshot // nil: the next reader makes it
}

// snapshot is closed once nobody has it any more.
type snapshot struct {
	*pebble.Snapshot
	refs int // guarded by snapshots.mu; one is that of being current
}

// snapshot returns one that holds every commit that was visible when it was
// called. release follows.
func (k *KV) snapshot() *snapshot {
	k.snaps.mu.Lock()
	defer k.snaps.mu.Unlock()
	if k.snaps.current == nil {
		k.snaps.current = &snapshot{Snapshot: k.db.NewSnapshot(), refs: 1}
	}
	k.snaps.current.refs++
	return k.snaps.current
}

// release gives s back.
func (k *KV) release(s *snapshot) {
	k.snaps.mu.Lock()
	s.refs--
	last := s.refs == 0
	k.snaps.mu.Unlock()
	if last {
		select {
		case k.spent <- s.Snapshot:
		case <-k.failed:
		}
	}
}

// outdate makes later readers take a new snapshot. It follows each commit that
// became visible, before anybody learns of it.
func (k *KV) outdate() {
	k.snaps.mu.Lock()
	s := k.snaps.current
	k.snaps.current = nil
	k.snaps.mu.Unlock()
	if s != nil {
		k.release(s)
	}
}
