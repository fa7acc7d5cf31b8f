// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/scrub"
)

// sweepIdem is how often expired idempotency records are deleted.
const sweepIdem = time.Minute

// makeBackground makes the parts that work between calls.
func (s *Service) makeBackground(c *Config) {
	s.collector = collect.New(collect.Config{
		KV: c.KV, Objects: c.Objects, Readers: &s.pins, Quiesce: s.window.Quiesce,
		Damaged: func(ctx context.Context, l store.Loc, err error) { s.quarantine(ctx, suspect{l, "collect", err}) },
		Metrics: s.m.collect(), Log: s.log, Every: c.CollectEvery, ShareEvery: c.ShareEvery,
	})
	s.collector.OnDamage(s.fail)
	s.scrubber = scrub.New(scrub.Config{
		KV: c.KV, Objects: c.Objects, Rate: c.ScrubRate, Log: s.log,
		Damaged: func(ctx context.Context, l store.Loc, err error) { s.quarantine(ctx, suspect{l, "scrub", err}) },
		Healed:  s.healed,
		Read:    func(n int64) { s.m.scrubbed.Add(float64(n)) },
	})
}

// Serve implements macronode.Service: it gives space back, reads what is stored
// in search of damage, and deletes expired records, until ctx ends. It returns the
// error where metadata turns out to be damaged.
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
	for _, loop := range []func(context.Context) error{s.collector.Serve, s.scrubber.Serve, s.quarantineLoop, s.idemLoop} {
		wg.Go(func() {
			if err := loop(ctx); err != nil {
				s.fail(err)
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.fatal:
		return err
	}
}

// wake tells the remover that bytes wait to be freed.
func (s *Service) wake() { s.collector.Wake() }

// idemLoop ends with an error only where metadata is damaged.
func (s *Service) idemLoop(ctx context.Context) error {
	tick := time.NewTicker(sweepIdem)
	defer tick.Stop()
	for {
		_, err := s.idem.Sweep(ctx, s.now())
		switch {
		case err == nil || errors.Is(err, context.Canceled):
		case errors.Is(err, store.ErrCorrupt):
			return err
		default:
			s.log.Warn("background work failed, to be tried again", "event", "idem.sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
