// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
	"time"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// removeLoop removes what is released, when it is.
func (c *Collector) removeLoop(ctx context.Context) error {
	for {
		left, err := c.removeFreed(ctx)
		if err := c.judge("object.free", err); err != nil {
			return err
		}
		var retry <-chan time.Time
		if err != nil || left > 0 {
			retry = time.After(retryFree)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
		case <-retry:
		}
	}
}

// released counts, in a dry run, what waits in the queue; else it is removed.
func (p *pass) released(ctx context.Context) error {
	n := int64(0)
	var err error
	if p.o.DryRun {
		err = meta(p.c.KV.View(ctx, func(r store.Reader) error {
			lo := []byte(refs.FreePrefix)
			return r.Scan(lo, refs.After(lo), func(_, _ []byte) bool { n++; return true })
		}))
	} else {
		err = p.eachFreed(ctx, func(locs []store.Loc) error {
			removed, err := p.removeBatch(ctx, locs)
			n += int64(removed)
			return err
		})
	}
	p.r.add(Released, n, 0)
	return err
}

// removeFreed removes what is queued, and returns how much had to stay because
// replies still read it.
func (c *Collector) removeFreed(ctx context.Context) (left int, err error) {
	err = c.eachFreed(ctx, func(locs []store.Loc) error {
		c.c.Metrics.Queue(left + len(locs))
		n, err := c.removeBatch(ctx, locs)
		left += len(locs) - n
		return err
	})
	c.c.Metrics.Queue(left)
	return left, err
}

// eachFreed calls f with the places in the queue, in batches.
func (c *Collector) eachFreed(ctx context.Context, f func([]store.Loc) error) error {
	lo, hi := []byte(refs.FreePrefix), refs.After([]byte(refs.FreePrefix))
	for {
		locs := make([]store.Loc, 0, batch)
		err := c.c.KV.View(ctx, func(r store.Reader) error {
			locs = locs[:0]
			return r.Scan(lo, hi, func(key, _ []byte) bool {
				locs = append(locs, store.Loc(key[len(refs.FreePrefix):]))
				return len(locs) < batch
			})
		})
		if err != nil || len(locs) == 0 {
			return meta(err)
		}
		lo = append(refs.FreeKey(locs[len(locs)-1]), 0)
		if err := f(locs); err != nil {
			return err
		}
	}
}

// removeBatch removes what of locs no reply reads. What was removed is struck off
// the queue even where the service is being stopped.
func (c *Collector) removeBatch(ctx context.Context, locs []store.Loc) (removed int, err error) {
	gone := make([]store.Loc, 0, len(locs))
	defer func() {
		for _, l := range gone {
			c.c.Readers.Forget(l)
		}
	}()
	for _, l := range locs {
		if c.c.Readers.Condemn(l) {
			gone = append(gone, l)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if err := c.c.Objects.Remove(ctx, gone...); err != nil {
		return 0, err
	}
	err = c.c.KV.Reclaim(context.WithoutCancel(ctx), func(tx store.Tx) error {
		for _, l := range gone {
			if err := tx.Delete(refs.FreeKey(l)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, meta(err)
	}
	c.c.Metrics.Freed(len(gone))
	return len(gone), nil
}

// Discard removes bytes that were stored and that nothing refers to. Where that
// fails they are queued.
func (c *Collector) Discard(ctx context.Context, loc store.Loc) {
	err := c.c.Objects.Remove(ctx, loc)
	if err == nil {
		return
	}
	// Where this fails too, a pass finds them after the next start.
	qerr := c.c.KV.Reclaim(ctx, func(tx store.Tx) error { return refs.LetGo(tx, loc) })
	c.log.Warn("unwanted bytes were not removed at once", "event", "object.discard", "error", errors.Join(err, qerr), "queued", qerr == nil)
	c.Wake()
}
