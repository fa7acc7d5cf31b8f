// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// stored is an object as a walk finds it.
type stored struct {
	loc  store.Loc
	addr b3.Addr
	size int64 // -1: its frame is damaged
}

// sweep removes from a volume what metadata does not know, and settles it where it
// is sealed.
// Each round walks until it holds a bounded number of candidates; the rounds end
// because candidates go.
func (p *pass) sweep(ctx context.Context, v *store.Volume) error {
	if v.Settled || !v.Sealed && !p.o.Open {
		return nil
	}
	for {
		found, more, err := p.unknown(ctx, v)
		if err != nil {
			return err
		}
		if p.o.DryRun {
			return p.count(found) // of the first round
		}
		if len(found) > 0 {
			// A candidate may be an upload's that has yet to write its
			// reference. All that could own one are done after this.
			if err := p.c.Quiesce(ctx); err != nil {
				return err
			}
			if found, err = p.stillUnknown(ctx, found); err != nil {
				return err
			}
			if err := p.removeAll(ctx, found); err != nil {
				return err
			}
		}
		if !more {
			break
		}
	}
	if !v.Sealed {
		return nil
	}
	return p.c.Objects.Settle(ctx, v.ID)
}

func (p *pass) count(found []stored) error {
	for _, o := range found {
		p.r.add(Unreferenced, 1, max(o.size, 0))
	}
	return nil
}

func (p *pass) removeAll(ctx context.Context, found []stored) error {
	for some := range slices.Chunk(found, batch) {
		locs := make([]store.Loc, len(some))
		for i, o := range some {
			locs[i] = o.loc
		}
		if err := p.c.Objects.Remove(ctx, locs...); err != nil {
			return err
		}
		p.c.Metrics.Orphans(len(locs))
	}
	if len(found) > 0 {
		p.log.Info("bytes without a reference were removed", "event", "object.orphans", "objects", len(found))
	}
	return p.count(found)
}

// unknown returns at most orphanBatch objects of the volume that metadata does
// not know now, and whether there may be more.
func (p *pass) unknown(ctx context.Context, v *store.Volume) (found []stored, more bool, err error) {
	some := make([]stored, 0, batch)
	look := func() bool {
		var fresh []stored
		began := time.Now()
		if fresh, err = p.stillUnknown(ctx, some); err != nil {
			return false
		}
		found = append(found, fresh...)
		some = some[:0]
		err = p.pause(ctx, began)
		more = len(found) > orphanBatch-batch
		return err == nil && !more
	}
	werr := p.c.Objects.WalkVolume(ctx, v.ID, func(l store.Loc, addr b3.Addr, size int64) bool {
		some = append(some, stored{l, addr, size})
		return len(some) < batch || look()
	})
	if err == nil && werr == nil && len(some) > 0 {
		look()
	}
	return found, more, errors.Join(werr, err)
}

// stillUnknown returns those of list that neither a reference nor the queue knows.
func (p *pass) stillUnknown(ctx context.Context, list []stored) (unknown []stored, err error) {
	err = p.c.KV.View(ctx, func(r store.Reader) error {
		unknown = unknown[:0]
		for _, o := range list {
			known, err := refs.Known(r, o.loc)
			if err != nil {
				return err
			}
			if !known {
				unknown = append(unknown, o)
			}
		}
		return nil
	})
	return unknown, meta(err)
}
