// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

const (
	// retryFree is when removals that failed are tried again.
	retryFree = 5 * time.Second
	// retrySweep is when a sweep that failed is begun anew.
	retrySweep = time.Minute
	// sweepIdem is how often expired idempotency records are deleted.
	sweepIdem = time.Minute
	// orphanBatch bounds what the sweep at start holds in memory.
	orphanBatch = 4096
)

// Serve implements macronode.Service: it removes bytes that nothing refers to,
// those of a crash first found at start, until ctx ends. It returns the error
// where metadata turns out to be damaged.
func (s *Service) Serve(ctx context.Context) error {
	s.broken.Store(nil)
	select {
	case <-s.fatal: // of the run before
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.orphanLoop(ctx) })
	wg.Go(func() { s.removeLoop(ctx) })
	wg.Go(func() { s.idemLoop(ctx) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.fatal:
		return err
	}
}

// background judges the end of a piece of background work.
func (s *Service) background(event string, err error) {
	switch {
	case err == nil || errors.Is(err, context.Canceled):
	case errors.Is(err, store.ErrCorrupt):
		s.fail(err)
	default:
		s.log.Warn("background work failed, to be tried again", "event", event, "error", err)
	}
}

// wake tells the remover that bytes wait to be freed.
func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Service) removeLoop(ctx context.Context) {
	for {
		left, err := s.removeFreed(ctx)
		s.background("object.free", err)
		var retry <-chan time.Time
		if err != nil || left > 0 {
			retry = time.After(retryFree)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-retry:
		}
	}
}

// removeFreed removes what is queued, and returns how much had to stay because
// replies still read it.
func (s *Service) removeFreed(ctx context.Context) (left int, err error) {
	lo, hi := []byte(refs.FreePrefix), refs.After([]byte(refs.FreePrefix))
	for {
		locs := make([]store.Loc, 0, purgeBatch)
		err := s.kv.View(ctx, func(r store.Reader) error {
			locs = locs[:0]
			return r.Scan(lo, hi, func(key, _ []byte) bool {
				locs = append(locs, store.Loc(key[len(refs.FreePrefix):]))
				return len(locs) < purgeBatch
			})
		})
		if err != nil {
			return left, err
		}
		s.m.FreeDepth.Set(float64(left + len(locs)))
		if len(locs) == 0 {
			return left, nil
		}
		lo = append(refs.FreeKey(locs[len(locs)-1]), 0)
		n, err := s.removeBatch(ctx, locs)
		left += len(locs) - n
		if err != nil {
			return left, err
		}
	}
}

// removeBatch removes what of locs no reply reads. What was removed is struck
// off the queue even where the service is being stopped.
func (s *Service) removeBatch(ctx context.Context, locs []store.Loc) (removed int, err error) {
	gone := make([]store.Loc, 0, len(locs))
	defer func() {
		for _, l := range gone {
			s.pins.forget(l)
		}
	}()
	for _, l := range locs {
		if !s.pins.condemn(l) {
			continue
		}
		if err = s.objects.Remove(ctx, l); err != nil {
			s.pins.forget(l)
			break
		}
		gone = append(gone, l)
	}
	if len(gone) == 0 {
		return 0, err
	}
	kerr := s.kv.Reclaim(context.WithoutCancel(ctx), func(tx store.Tx) error {
		for _, l := range gone {
			if err := tx.Delete(refs.FreeKey(l)); err != nil {
				return err
			}
		}
		return nil
	})
	if kerr != nil {
		return 0, errors.Join(err, kerr)
	}
	s.m.freed.Add(float64(len(gone)))
	return len(gone), err
}

// orphanLoop sweeps once, again where that failed.
func (s *Service) orphanLoop(ctx context.Context) {
	for {
		err := s.sweepOrphans(ctx)
		s.background("object.orphans", err)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retrySweep):
		}
	}
}

// sweepOrphans removes bytes that were committed and never referred to: those
// of uploads that a crash cut between their two steps. Each round walks until it
// holds a bounded number of candidates; the rounds end because candidates go.
func (s *Service) sweepOrphans(ctx context.Context) error {
	for {
		found, err := s.orphans(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		// A candidate may be an upload's that has yet to write its reference.
		// All uploads that could own one have left the window after this.
		if err := s.window.quiesce(ctx); err != nil {
			return err
		}
		removed := 0
		for _, l := range found {
			wanted, err := s.referred(ctx, l)
			if err != nil {
				return err
			}
			if wanted {
				continue
			}
			if err := s.objects.Remove(ctx, l); err != nil {
				return err
			}
			removed++
		}
		s.m.orphans.Add(float64(removed))
		if removed > 0 {
			s.log.Info("bytes without a reference were removed", "event", "object.orphans", "objects", removed)
		}
		if len(found) < orphanBatch {
			return nil
		}
	}
}

// orphans returns at most orphanBatch stored objects that nothing refers to now.
func (s *Service) orphans(ctx context.Context) (found []store.Loc, err error) {
	werr := store.Walk(ctx, s.objects, func(l store.Loc, _ b3.Addr, _ int64) bool {
		var wanted bool
		if wanted, err = s.referred(ctx, l); err != nil {
			return false
		}
		if !wanted {
			found = append(found, l)
		}
		return len(found) < orphanBatch
	})
	return found, errors.Join(werr, err)
}

// referred reports whether a reference or the queue knows l.
func (s *Service) referred(ctx context.Context, l store.Loc) (known bool, err error) {
	err = s.kv.View(ctx, func(r store.Reader) (err error) {
		known, err = refs.Known(r, l)
		return err
	})
	return known, err
}

func (s *Service) idemLoop(ctx context.Context) {
	tick := time.NewTicker(sweepIdem)
	defer tick.Stop()
	for {
		_, err := s.idem.Sweep(ctx, s.now())
		s.background("idem.sweep", err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
