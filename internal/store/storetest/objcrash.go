// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// OpenObjects opens a store that lives on the file system.
type OpenObjects func(fs *disk.FS) (store.Objects, error)

// shelf is what clients were told about objects.
type shelf struct {
	mu      sync.Mutex
	tried   map[b3.Addr][]byte    // every object begun
	stored  map[store.Loc]b3.Addr // acknowledged and not being removed
	removed map[store.Loc]bool    // acknowledged removals
}

func newShelf() *shelf {
	return &shelf{tried: map[b3.Addr][]byte{}, stored: map[store.Loc]b3.Addr{}, removed: map[store.Loc]bool{}}
}

// freeze calls f and returns what was told when f ran: until it returns nobody is
// told anything and no removal begins. Objects are shared, they never change.
//
// Without the lock an object could be told of, removed, durably, and so be missing
// from an image that f takes a moment later.
func (s *shelf) freeze(f func()) *shelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	return &shelf{tried: maps.Clone(s.tried), stored: maps.Clone(s.stored), removed: maps.Clone(s.removed)}
}

// run puts and removes until stop is closed. It returns the errors, after each of
// which it goes on.
func (s *shelf) run(ctx context.Context, objs store.Objects, seed uint64, each int, stop <-chan struct{}) []error {
	var wg sync.WaitGroup
	var errs []error
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			var mine []store.Loc
			for i := range each {
				select {
				case <-stop:
					return
				default:
				}
				n := r.IntN(40_000)
				if r.IntN(6) == 0 {
					n = r.IntN(400_000)
				}
				data := Bytes(n, seed*1000+uint64(w*100+i))
				s.mu.Lock()
				s.tried[b3.Sum(data)] = data
				s.mu.Unlock()
				o, err := Put(ctx, objs, data, 100_000)
				s.mu.Lock()
				if err == nil {
					s.stored[o.Loc] = o.Addr
					mine = append(mine, o.Loc)
				} else {
					errs = append(errs, err)
				}
				var gone store.Loc
				if len(mine) > 2 && r.IntN(2) == 0 {
					gone, mine = mine[0], mine[1:]
					delete(s.stored, gone)
				}
				s.mu.Unlock()
				if gone == "" {
					continue
				}
				err = objs.Remove(ctx, gone)
				s.mu.Lock()
				if err == nil {
					s.removed[gone] = true
				} else {
					errs = append(errs, err)
				}
				s.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errs
}

// check finds out whether a store holds all that was told and nothing in part.
func (s *shelf) check(ctx context.Context, objs store.Objects) error {
	for loc, addr := range s.stored {
		got, err := ReadAll(ctx, objs, Stored{loc, addr, int64(len(s.tried[addr]))})
		if err != nil || !bytes.Equal(got, s.tried[addr]) {
			return fmt.Errorf("acknowledged object of %d bytes: %d back: %v", len(s.tried[addr]), len(got), err)
		}
	}
	var bad error
	err := store.Walk(ctx, objs, func(loc store.Loc, addr b3.Addr, size int64) bool {
		data, known := s.tried[addr]
		switch {
		case s.removed[loc]:
			bad = fmt.Errorf("%s was removed and is there", loc)
		case !known:
			bad = fmt.Errorf("%s is visible and nobody's: %v, %d bytes", loc, addr, size)
		default:
			got, err := ReadAll(ctx, objs, Stored{loc, addr, size})
			if err != nil || !bytes.Equal(got, data) {
				bad = fmt.Errorf("%s is visible in part: %v", loc, err)
			}
		}
		return bad == nil
	})
	return errors.Join(err, bad)
}

// ObjectsCrash runs the crash suite of a store.Objects. left returns the names of
// what an open store has on fs beyond its objects: unfinished ones.
func ObjectsCrash(t *testing.T, open OpenObjects, left func(fs *disk.FS) ([]string, error)) {
	for _, seed := range seeds(t) {
		if err := objectsCrash(t.Context(), seed, open, left); err != nil {
			t.Fatalf("MACRONODE_CRASH_SEED=%d: %v", seed, err)
		}
	}
}

func objectsCrash(ctx context.Context, seed uint64, open OpenObjects, left func(fs *disk.FS) ([]string, error)) error {
	r := rand.New(rand.NewPCG(seed, 8))
	percent := r.IntN(5) * 25
	base, s := disk.Crashable(), newShelf()
	for round := range 3 {
		var image *disk.FS
		var known *shelf
		stop := make(chan struct{})
		var once sync.Once
		crash := func() {
			once.Do(func() {
				known = s.freeze(func() { image = base.Crash(percent, seed+uint64(round)) })
				close(stop)
			})
		}
		fs := base.WithFaults(atCall(r.Int64N(260), crash))
		objs, err := open(fs)
		if err != nil {
			return fmt.Errorf("round %d: open: %w", round, err)
		}
		names, err := left(base)
		if err != nil || len(names) > 0 {
			return fmt.Errorf("round %d: left over: %v, %v", round, names, err)
		}
		if err := s.check(ctx, objs); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if errs := s.run(ctx, objs, seed*10+uint64(round), 8, stop); len(errs) > 0 {
			return errors.Join(errs...)
		}
		crash()
		known.tried = s.tried // what was begun while the image was taken is somebody's too
		if err := objs.Close(); err != nil {
			return err
		}
		base, s = image, known
	}
	objs, err := open(base)
	if err != nil {
		return err
	}
	return errors.Join(s.check(ctx, objs), objs.Close())
}

// ObjectsFaults fails every call to the file system in turn. The error comes out,
// marked ErrFull where the disk is full; what was acknowledged is there
// afterwards, after a crash too; nothing is left behind by what failed.
func ObjectsFaults(t *testing.T, open OpenObjects, left func(fs *disk.FS) ([]string, error)) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			step := int64(1)
			if testing.Short() {
				step = 9
			}
			for n, misses := int64(1), 0; misses < 20; n += step {
				hit, err := objectsFault(t.Context(), n, f.err, f.lasting, open, left)
				if err != nil {
					t.Fatalf("call %d: %v", n, err)
				}
				if misses++; hit {
					misses = 0
				}
			}
		})
	}
}

func objectsFault(ctx context.Context, n int64, fault error, lasting bool, open OpenObjects, left func(fs *disk.FS) ([]string, error)) (bool, error) {
	base, s := disk.Crashable(), newShelf()
	hook := faultAt(n, fault, lasting)
	full := errors.Is(fault, syscall.ENOSPC)
	objs, err := open(base.WithFaults(hook.inject))
	if err != nil {
		if !errors.Is(err, fault) {
			return true, fmt.Errorf("open: the reason is lost: %w", err)
		}
	} else {
		for _, err := range s.run(ctx, objs, uint64(n), 5, nil) {
			if !errors.Is(err, fault) || full && !errors.Is(err, store.ErrFull) {
				return true, fmt.Errorf("not marked: %w", err)
			}
		}
		if full { // removing needs no space
			names, err := left(base)
			if err != nil || len(names) > 0 {
				return true, fmt.Errorf("left over: %v, %v", names, err)
			}
		}
		if err := objs.Close(); err != nil {
			return true, err
		}
	}
	for _, percent := range []int{0, 100} {
		objs, err := open(base.Crash(percent, 1))
		if err != nil {
			return true, fmt.Errorf("open: %w", err)
		}
		if err := s.check(ctx, objs); err != nil {
			return true, err
		}
		if _, err := Put(ctx, objs, Bytes(1000, 1), 1000); err != nil { // and it is of use
			return true, err
		}
		if err := objs.Close(); err != nil {
			return true, err
		}
	}
	return hook.hit.Load(), nil
}
