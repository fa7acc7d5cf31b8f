// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"cmp"
	"context"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/registry"
)

// Drop drops the first size entries, but for the first one and those that changed the
// signers. That the signers vouched for them is the caller's to know: without it the
// chain does not load any more.
func (c *Chain) Drop(ctx context.Context, kv store.KV, size uint64) error {
	base, err := c.baseAt(ctx, kv, size)
	if err != nil {
		return err
	}
	return kv.Reclaim(ctx, func(tx store.Tx) error {
		head, err := tx.Get([]byte(headKey))
		if err != nil {
			return err
		}
		if !bytes.Equal(head, headValue(c.State.Size(), c.State.Head())) {
			return ErrMoved
		}
		if err := WriteBase(tx, base); err != nil {
			return err
		}
		return Clear(tx, []byte(entryPrefix), seqKey(entryPrefix, size))
	})
}

// baseAt replays the chain up to size and writes down where it is then.
func (c *Chain) baseAt(ctx context.Context, kv store.KV, size uint64) (*registry.Base, error) {
	base := &registry.Base{}
	err := kv.View(ctx, func(r store.Reader) error {
		genesis, err := registry.ParseEntry(c.Genesis)
		if err != nil {
			return Corrupt("the first entry: %v", err)
		}
		state, err := registry.Begin(genesis)
		if err != nil {
			return Corrupt("the first entry: %v", err)
		}
		old, err := ReadBase(r)
		if err != nil {
			return err
		}
		if old != nil {
			if state, err = registry.Resume(genesis, old); err != nil {
				return Corrupt("the base: %v", err)
			}
		}
		var bad error
		err = r.Scan(seqKey(entryPrefix, state.Size()), seqKey(entryPrefix, size), func(_, v []byte) bool {
			e, err := registry.ParseEntry(v)
			if err == nil {
				state, err = state.Apply(e)
			}
			if err != nil {
				bad = Corrupt("entry %d: %v", state.Size(), err)
				return false
			}
			base.Entry = bytes.Clone(v)
			return true
		})
		if err != nil || bad != nil {
			return cmp.Or(err, bad)
		}
		if state.Size() != size || base.Entry == nil {
			return Corrupt("entry %d is missing", state.Size())
		}
		base.State = state.Snapshot()
		return nil
	})
	return base, err
}
