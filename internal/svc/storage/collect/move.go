// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package collect

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
	// movers write at once, so that they share the syncs of a pack.
	movers = 8
	// smallVolume and less is worth merging where there are mergeSmall of them:
	// each start leaves a pack that is not full.
	smallVolume = 8 << 20
	mergeSmall  = 8
)

// moveAll empties the packs that are mostly dead, and merges small ones.
func (p *pass) moveAll(ctx context.Context, volumes []store.Volume) error {
	small := 0
	for i := range volumes {
		if isSmall(&volumes[i]) {
			small++
		}
	}
	for i := range volumes {
		v := &volumes[i]
		if !movable(v) || v.Dead < 0 || v.Live < 0 {
			continue
		}
		sparse := v.Dead > 0 && v.Dead >= v.Live
		if !sparse && (small < mergeSmall || !isSmall(v)) {
			continue
		}
		p.r.moving(v)
		if err := p.empty(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func movable(v *store.Volume) bool { return v.Movable && v.Sealed }

func isSmall(v *store.Volume) bool { return movable(v) && v.Live >= 0 && v.Live+v.Dead < smallVolume }

// empty moves every living object of v to where new objects go. The places are
// released, and the pack goes with the last of them.
func (p *pass) empty(ctx context.Context, v *store.Volume) (err error) {
	some := make([]stored, 0, batch)
	flush := func() bool {
		began := time.Now()
		if err = p.moveSome(ctx, some); err == nil {
			err = p.pause(ctx, began)
		}
		some = some[:0]
		return err == nil
	}
	werr := p.c.Objects.WalkVolume(ctx, v.ID, func(l store.Loc, addr b3.Addr, size int64) bool {
		if size < 0 {
			return true // its owner's reads find the damage
		}
		some = append(some, stored{l, addr, size})
		return len(some) < batch || flush()
	})
	if err == nil && werr == nil && len(some) > 0 {
		flush()
	}
	p.Wake()
	return errors.Join(werr, err)
}

func (p *pass) moveSome(ctx context.Context, some []stored) error {
	if p.o.DryRun {
		for _, o := range some {
			p.r.add(Sparse, 1, o.size)
		}
		return nil
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs error
	next := make(chan stored)
	for range movers {
		wg.Go(func() {
			for o := range next {
				moved, err := p.moveOne(ctx, o)
				mu.Lock()
				if moved {
					p.r.add(Sparse, 1, o.size)
				}
				errs = errors.Join(errs, err)
				mu.Unlock()
			}
		})
	}
	for _, o := range some {
		next <- o
	}
	close(next)
	wg.Wait()
	return errs
}

// moveOne copies o's bytes to a new place and moves its references there. What
// nobody refers to stays for the remover; what is damaged stays for its owner.
func (p *pass) moveOne(ctx context.Context, o stored) (bool, error) {
	wanted, err := p.wanted(ctx, o.loc)
	if err != nil || !wanted {
		return false, err
	}
	to, err := p.copy(store.WithReserve(ctx), o)
	if errors.Is(err, store.ErrCorrupt) {
		p.c.Damaged(ctx, o.loc, err)
		return false, nil
	}
	if errors.Is(err, store.ErrNotFound) || err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = nil // removed meanwhile
		}
		return false, err
	}
	ctx = context.WithoutCancel(ctx) // the copy has a place: it is used, or dropped
	moved := false
	err = p.c.KV.Reclaim(ctx, func(tx store.Tx) (err error) {
		moved, err = refs.Move(tx, o.loc, to)
		return err
	})
	if err != nil {
		return false, meta(err) // whether it took place is for a later sweep
	}
	if !moved {
		p.Discard(ctx, to)
		return false, nil
	}
	p.c.Metrics.Moved(1)
	return true, nil
}

// wanted reports whether somebody refers to l, and it is not in quarantine.
func (p *pass) wanted(ctx context.Context, l store.Loc) (wanted bool, err error) {
	err = p.c.KV.View(ctx, func(r store.Reader) error {
		owners, err := refs.Owners(r, l)
		if err != nil || len(owners) == 0 {
			wanted = false
			return err
		}
		bad, err := refs.Quarantined(r, l)
		wanted = !bad
		return err
	})
	return wanted, meta(err)
}

// copy writes the verified bytes of o to a new place.
func (p *pass) copy(ctx context.Context, o stored) (store.Loc, error) {
	from, err := p.c.Objects.Open(ctx, o.loc, o.addr, o.size)
	if err != nil {
		return "", err
	}
	defer from.Close()
	w, err := p.c.Objects.Create(ctx, o.size)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := from.WriteRange(w, 0, o.size); err != nil {
		return "", err
	}
	to, addr, _, err := w.Commit()
	if err == nil && addr != o.addr { // read verified, so the store's writer is at fault
		p.Discard(ctx, to)
		return "", errors.New("collect: the copy has another address")
	}
	return to, err
}
