// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import "context"

// keepEntries is how many entries before the head stay whatever was vouched for, so
// that nodes that follow find what they are missing.
const keepEntries = 64

// compact drops the entries that the signers' newest checkpoint vouches for, but for
// the first one and those that changed the signers. What stays verifies as before.
func (s *Service) compact(ctx context.Context) error {
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer s.unlock()
	size, _ := c.State.Marked()
	if size <= c.First || size+keepEntries > c.State.Size() {
		return nil
	}
	if err := c.Drop(ctx, s.kv, size); err != nil {
		return s.unsure(err)
	}
	s.log.Info("older entries were dropped", "event", "registry.compact", "first", size, "size", c.State.Size())
	again := *c
	again.First = size
	s.show(&again)
	return nil
}
