// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"fmt"
	"slices"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// volume is what a directory or a pack is on a disk.
type volume struct {
	store.Volume
	added int
	locs  map[store.Loc]bool // the live ones
}

// shelve puts a new object into the volume where its kind goes. s.mu is held.
func (s *Objects) shelve(loc store.Loc, o *object) {
	kind := 0
	if s.pack > 0 && o.size <= packedBytes {
		kind = 1
	}
	v := s.open[kind]
	if v == nil {
		v = &volume{Volume: store.Volume{ID: fmt.Sprintf("v:%016x", s.next), Movable: kind == 1}, locs: make(map[store.Loc]bool)}
		s.open[kind], s.volumes[v.ID] = v, v
	}
	o.volume = v
	v.locs[loc] = true
	v.Live += o.size
	v.added++
	if v.added == volumeObjects || v.Movable && v.Live+v.Dead >= s.pack {
		v.Sealed, s.open[kind] = true, nil
	}
}

// Remove implements store.Objects. Objects already open can still be read.
func (s *Objects) Remove(ctx context.Context, locs ...store.Loc) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, loc := range locs {
		o := s.objs[loc]
		if o == nil {
			continue
		}
		delete(s.objs, loc)
		v := o.volume
		delete(v.locs, loc)
		v.Live -= o.size
		if v.Movable {
			v.Dead += o.size
		} else {
			s.used.Add(-o.size)
		}
		if v.Sealed && len(v.locs) == 0 {
			s.used.Add(-v.Dead)
			delete(s.volumes, v.ID)
		}
	}
	return nil
}

// Volumes implements store.Objects.
func (s *Objects) Volumes(ctx context.Context) ([]store.Volume, error) {
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]store.Volume, 0, len(s.volumes))
	for _, v := range s.volumes {
		list = append(list, v.Volume)
	}
	return list, nil
}

// WalkVolume implements store.Objects.
func (s *Objects) WalkVolume(ctx context.Context, id string, f func(loc store.Loc, addr b3.Addr, size int64) bool) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	s.mu.RLock()
	var locs []store.Loc
	if v := s.volumes[id]; v != nil {
		for loc := range v.locs {
			locs = append(locs, loc)
		}
	}
	s.mu.RUnlock()
	slices.Sort(locs)
	for _, loc := range locs {
		if err := s.Check(ctx); err != nil {
			return err
		}
		s.mu.RLock()
		o := s.objs[loc]
		s.mu.RUnlock()
		if o != nil && !f(loc, o.addr, o.size) {
			return nil
		}
	}
	return nil
}

// Settle implements store.Objects.
func (s *Objects) Settle(ctx context.Context, id string) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.volumes[id]
	switch {
	case v == nil:
	case !v.Sealed:
		return fmt.Errorf("%w: the volume is open", store.ErrRange)
	default:
		v.Settled = true
	}
	return nil
}
