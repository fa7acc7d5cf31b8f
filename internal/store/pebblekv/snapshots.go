// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"errors"
	"sync"
	"sync/atomic"

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
	refs  int // guarded by snapshots.mu; one is that of being current
	reads atomic.Int64

	mu    sync.Mutex
	known map[string][]byte // what some keys hold; nil: nothing
}

const (
	// settled is how many reads a snapshot has seen that may be worth a memory:
	// where commits come often, it ends before.
	settled = 256
	// maxKnown and maxKnownValue bound what a snapshot remembers.
	maxKnown, maxKnownValue = 4096, 512
)

// get returns what the key holds, which the caller may keep and change.
func (s *snapshot) get(key []byte) ([]byte, error) {
	if s.reads.Add(1) < settled {
		return read(s.Snapshot, key)
	}
	s.mu.Lock()
	value, ok := s.known[string(key)]
	s.mu.Unlock()
	if !ok {
		var err error
		if value, err = read(s.Snapshot, key); err != nil && !errors.Is(err, pebble.ErrNotFound) {
			return nil, err
		}
		if len(value) <= maxKnownValue {
			s.remember(key, value)
		}
	}
	if value == nil {
		return nil, pebble.ErrNotFound
	}
	return append([]byte{}, value...), nil
}

func (s *snapshot) remember(key, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxKnown {
		s.known = make(map[string][]byte)
	}
	s.known[string(key)] = value
}

// read returns a copy of what the key holds, never nil without an error.
func read(r pebble.Reader, key []byte) ([]byte, error) {
	value, closer, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	value = append([]byte{}, value...)
	return value, closer.Close()
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
