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
	doubt   map[store.Loc]bool    // removals that began and did not end well, or not yet
	settled map[string]bool       // acknowledged
}

func newShelf() *shelf {
	return &shelf{
		tried: map[b3.Addr][]byte{}, stored: map[store.Loc]b3.Addr{}, removed: map[store.Loc]bool{},
		doubt: map[store.Loc]bool{}, settled: map[string]bool{},
	}
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
	return &shelf{
		tried: maps.Clone(s.tried), stored: maps.Clone(s.stored), removed: maps.Clone(s.removed),
		doubt: maps.Clone(s.doubt), settled: maps.Clone(s.settled),
	}
}

// remove removes locs and takes note of it.
func (s *shelf) remove(ctx context.Context, objs store.Objects, locs ...store.Loc) error {
	s.mu.Lock()
	for _, loc := range locs {
		delete(s.stored, loc)
		s.doubt[loc] = true
	}
	s.mu.Unlock()
	err := objs.Remove(ctx, locs...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, loc := range locs {
		delete(s.doubt, loc)
		s.removed[loc] = true
	}
	return nil
}

// sweep does what an owner does after a start: in volumes that may hold what nobody
// knows, it removes that, and settles them. It returns the errors.
func (s *shelf) sweep(ctx context.Context, objs store.Objects) (errs []error) {
	volumes, err := objs.Volumes(ctx)
	if err != nil {
		return []error{err}
	}
	for _, v := range volumes {
		if !v.Sealed || v.Settled {
			continue
		}
		var unknown []store.Loc
		err := objs.WalkVolume(ctx, v.ID, func(loc store.Loc, _ b3.Addr, _ int64) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, known := s.stored[loc]; !known {
				unknown = append(unknown, loc)
			}
			return true
		})
		if err == nil && len(unknown) > 0 {
			err = s.remove(ctx, objs, unknown...)
		}
		if err == nil {
			err = objs.Settle(ctx, v.ID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.mu.Lock()
		s.settled[v.ID] = true
		s.mu.Unlock()
	}
	return errs
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
				s.mu.Unlock()
				if len(mine) < 3 || r.IntN(2) == 0 {
					continue
				}
				n = 1 + r.IntN(2)
				if err := s.remove(ctx, objs, mine[:n]...); err != nil {
					s.mu.Lock()
					errs = append(errs, err)
					s.mu.Unlock()
				}
				mine = mine[n:]
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
	volumes, err := objs.Volumes(ctx)
	if err != nil {
		return err
	}
	var torn []store.Loc
	for _, v := range volumes {
		if s.settled[v.ID] && !v.Settled {
			return fmt.Errorf("%s was settled and is not", v.ID)
		}
		err := s.checkVolume(ctx, objs, v, &torn)
		if err != nil {
			return err
		}
	}
	// What a crash tore was nobody's, and goes like everything else.
	if err := objs.Remove(ctx, torn...); err != nil {
		return err
	}
	return store.Walk(ctx, objs, func(loc store.Loc, _ b3.Addr, size int64) bool {
		if size < 0 && err == nil {
			err = fmt.Errorf("%s is damaged and cannot be removed", loc)
		}
		return err == nil
	})
}

func (s *shelf) checkVolume(ctx context.Context, objs store.Objects, v store.Volume, torn *[]store.Loc) error {
	var bad error
	err := objs.WalkVolume(ctx, v.ID, func(loc store.Loc, addr b3.Addr, size int64) bool {
		data, known := s.tried[addr]
		_, stored := s.stored[loc]
		switch {
		case s.removed[loc]:
			bad = fmt.Errorf("%s was removed and is there", loc)
		case s.settled[v.ID] && !stored && !s.doubt[loc]:
			bad = fmt.Errorf("%s is nobody's in a settled volume", loc)
		case size < 0 && !stored:
			*torn = append(*torn, loc)
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
		if errs := append(s.sweep(ctx, objs), s.run(ctx, objs, seed*10+uint64(round), 8, stop)...); len(errs) > 0 {
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
				reached, err := objectsFault(t.Context(), n, f.err, f.lasting, open, left)
				if err != nil {
					t.Fatalf("call %d: %v", n, err)
				}
				if misses++; reached {
					misses = 0
				}
			}
		})
	}
}

// live opens, sweeps, runs and closes once, while hook makes calls fail.
func (s *shelf) live(ctx context.Context, base *disk.FS, hook *injector, life uint64, fault error, open OpenObjects, left func(fs *disk.FS) ([]string, error)) error {
	full := errors.Is(fault, syscall.ENOSPC)
	objs, err := open(base.WithFaults(hook.inject))
	if err != nil {
		if !errors.Is(err, fault) {
			return fmt.Errorf("open: the reason is lost: %w", err)
		}
		return nil
	}
	for _, err := range append(s.sweep(ctx, objs), s.run(ctx, objs, life*1000+uint64(hook.at), 5, nil)...) {
		if !errors.Is(err, fault) || full && !errors.Is(err, store.ErrFull) {
			return fmt.Errorf("not marked: %w", err)
		}
	}
	if full { // removing needs no space
		names, err := left(base)
		if err != nil || len(names) > 0 {
			return fmt.Errorf("left over: %v, %v", names, err)
		}
	}
	return objs.Close()
}

func objectsFault(ctx context.Context, n int64, fault error, lasting bool, open OpenObjects, left func(fs *disk.FS) ([]string, error)) (bool, error) {
	base, s := disk.Crashable(), newShelf()
	hook := faultAt(n, fault, lasting)
	for life := range uint64(2) { // in the second it finds what the first left
		if err := s.live(ctx, base, hook, life, fault, open, left); err != nil {
			return true, fmt.Errorf("life %d: %w", life, err)
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
	return hook.calls.Load() >= n, nil
}
