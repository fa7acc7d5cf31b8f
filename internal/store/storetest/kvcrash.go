// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// OpenKV opens a store that lives on the file system.
type OpenKV func(fs *disk.FS) (store.KV, error)

const (
	crashWriters = 3
	crashWrites  = 30
)

// load is one run of writers, each counting up, and what it was told. Every
// transaction of a writer sets two keys to its count and adds one of filling.
type load struct {
	seed  uint64
	acked [crashWriters]atomic.Int64
	seen  [crashWriters]atomic.Int64 // read by a View that returned
}

func (l *load) filling(w, i int) []byte {
	r := rand.New(rand.NewPCG(l.seed, uint64(w*1000+i)))
	n := r.IntN(300)
	if r.IntN(8) == 0 {
		n = r.IntN(60_000)
	}
	return Bytes(n, l.seed+uint64(w*1000+i))
}

func counterKey(w int, half string) []byte { return fmt.Appendf(nil, "n/%d/%s", w, half) }
func fillingKey(w, i int) []byte           { return fmt.Appendf(nil, "f/%d/%06d", w, i) }

func counter(r store.Reader, w int, half string) (int64, error) {
	v, err := r.Get(counterKey(w, half))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

// write does one transaction of writer w and returns its number.
func (l *load) write(ctx context.Context, kv store.KV, w int) error {
	var next int64
	err := kv.Update(ctx, func(tx store.Tx) error {
		n, err := counter(tx, w, "a")
		if err != nil {
			return err
		}
		next = n + 1
		v := binary.BigEndian.AppendUint64(nil, uint64(next))
		if err := errors.Join(tx.Set(counterKey(w, "a"), v), tx.Set(fillingKey(w, int(next)), l.filling(w, int(next)))); err != nil {
			return err
		}
		if next > 10 { // so that deletes are in it too
			if err := tx.Delete(fillingKey(w, int(next-10))); err != nil {
				return err
			}
		}
		return tx.Set(counterKey(w, "b"), v)
	})
	if err == nil {
		l.acked[w].Store(next)
	}
	return err
}

// run writes until stop is closed or all is written. Errors are expected after
// a fault and end a writer.
func (l *load) run(ctx context.Context, kv store.KV, writes int, stop <-chan struct{}) {
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range crashWriters {
		writers.Go(func() {
			for range writes {
				select {
				case <-stop:
					return
				default:
				}
				if l.write(ctx, kv, w) != nil {
					return
				}
			}
		})
	}
	readers.Go(func() {
		for w := 0; ; w = (w + 1) % crashWriters {
			select {
			case <-done:
				return
			case <-stop:
				return
			default:
			}
			var n int64
			if kv.View(ctx, func(r store.Reader) (err error) { n, err = counter(r, w, "a"); return err }) != nil {
				return
			}
			l.seen[w].Store(max(n, l.seen[w].Load()))
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
}

// told is what a client knew at one moment.
type told struct{ acked, seen [crashWriters]int64 }

func (l *load) told() (k told) {
	for w := range crashWriters {
		k.acked[w], k.seen[w] = l.acked[w].Load(), l.seen[w].Load()
	}
	return k
}

// check finds out whether a store holds all that was told, and nothing in part.
func (l *load) check(ctx context.Context, kv store.KV, k told) error {
	return kv.View(ctx, func(r store.Reader) error {
		for w := range crashWriters {
			a, err := counter(r, w, "a")
			if err != nil {
				return err
			}
			b, err := counter(r, w, "b")
			switch {
			case err != nil:
				return err
			case a != b:
				return fmt.Errorf("writer %d: half a transaction, %d and %d", w, a, b)
			case a < k.acked[w]:
				return fmt.Errorf("writer %d: %d of %d acknowledged", w, a, k.acked[w])
			case a < k.seen[w]:
				return fmt.Errorf("writer %d: %d of %d that were read", w, a, k.seen[w])
			}
			next := max(1, int(a)-9)
			var bad error
			if err := r.Scan(fillingKey(w, 0), fillingKey(w, 999_999), func(key, v []byte) bool {
				if !bytes.Equal(key, fillingKey(w, next)) || !bytes.Equal(v, l.filling(w, next)) {
					bad = fmt.Errorf("writer %d: %q, want number %d", w, key, next)
				}
				next++
				return bad == nil
			}); err != nil || bad != nil {
				return errors.Join(err, bad)
			}
			if next != int(a)+1 {
				return fmt.Errorf("writer %d: filling to %d of %d", w, next-1, a)
			}
		}
		return nil
	})
}

// atCall returns a hook for WithFaults that calls f at the n-th call.
func atCall(n int64, f func()) func(errorfs.Op) error {
	var calls atomic.Int64
	return func(errorfs.Op) error {
		if calls.Add(1) == n {
			f()
		}
		return nil
	}
}

// KVCrash runs the crash suite of a store.KV.
func KVCrash(t *testing.T, open OpenKV) {
	for _, seed := range seeds(t) {
		if err := kvCrash(t.Context(), seed, open); err != nil {
			t.Fatalf("MACRONODE_CRASH_SEED=%d: %v", seed, err)
		}
	}
}

func kvCrash(ctx context.Context, seed uint64, open OpenKV) error {
	r := rand.New(rand.NewPCG(seed, 7))
	percent := r.IntN(5) * 25
	base := disk.Crashable()
	l := &load{seed: seed}
	var known told
	for round := range 3 {
		// The first round starts with the making of the store; the others with
		// recovering it.
		var image *disk.FS
		var at told
		stop := make(chan struct{})
		var once sync.Once
		crash := func() {
			once.Do(func() {
				at = l.told() // what was told before this moment
				image = base.Crash(percent, seed+uint64(round))
				close(stop)
			})
		}
		fs := base.WithFaults(atCall(r.Int64N(250), crash))
		kv, err := open(fs)
		if err != nil {
			return fmt.Errorf("round %d: open: %w", round, err)
		}
		if err := l.check(ctx, kv, known); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		l.run(ctx, kv, crashWrites, stop)
		crash()
		if err := kv.Close(); err != nil {
			return fmt.Errorf("round %d: close: %w", round, err)
		}
		base, known = image, at
		for w := range crashWriters { // counts go on from what was found
			l.acked[w].Store(at.acked[w])
			l.seen[w].Store(at.seen[w])
		}
	}
	kv, err := open(base)
	if err != nil {
		return err
	}
	if err := l.check(ctx, kv, known); err != nil {
		return err
	}
	return kv.Close()
}

// faults are what a call to the file system fails with.
var faults = []struct {
	name    string
	err     error
	lasting bool // every call of the same kind after it, too
}{
	{"EIO", syscall.EIO, false},
	{"ENOSPC", syscall.ENOSPC, false},
	{"EIO for good", syscall.EIO, true},
	{"ENOSPC for good", syscall.ENOSPC, true},
}

// spaceNeeded reports whether a full disk may refuse an operation.
func spaceNeeded(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpRename, errorfs.OpLink:
		return true
	default:
		return false
	}
}

// injector fails calls to the file system.
type injector struct {
	at      int64 // the first to fail
	err     error
	lasting bool
	calls   atomic.Int64
	hit     atomic.Bool // one has failed
	off     atomic.Bool // none does any more
}

func faultAt(n int64, err error, lasting bool) *injector {
	return &injector{at: n, err: err, lasting: lasting}
}

func (i *injector) inject(op errorfs.Op) error {
	c := i.calls.Add(1)
	if i.off.Load() || c < i.at || c > i.at && !i.lasting {
		return nil
	}
	if errors.Is(i.err, syscall.ENOSPC) && !spaceNeeded(op.Kind) {
		return nil
	}
	i.hit.Store(true)
	return i.err
}

// KVFaults fails every call to the file system in turn. Nothing may hang or
// panic; what was acknowledged is there afterwards, after a crash too.
func KVFaults(t *testing.T, open OpenKV) {
	step := int64(1)
	if testing.Short() {
		step = 9
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			for n, misses := int64(1), 0; misses < 20; n += step {
				hit, err := kvFault(t.Context(), n, f.err, f.lasting, open)
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

func kvFault(ctx context.Context, n int64, fault error, lasting bool, open OpenKV) (bool, error) {
	base := disk.Crashable()
	hook := faultAt(n, fault, lasting)
	l := &load{seed: uint64(n)}
	kv, err := open(base.WithFaults(hook.inject))
	known, after := l.told(), base.Crash(0, 1)
	if err == nil {
		l.run(ctx, kv, 12, nil)
		known, after = l.told(), base.Crash(0, 1)
		if hook.off.Store(true); !hook.hit.Load() {
			if err := errors.Join(kv.Check(ctx), l.check(ctx, kv, known)); err != nil {
				return false, err
			}
		}
		_ = kv.Close() // may tell the fault again
	} else if !errors.Is(err, fault) {
		return true, fmt.Errorf("open: the reason is lost: %w", err)
	}
	for _, image := range []*disk.FS{after, base.Crash(100, 1)} {
		if err := reopened(ctx, image, l, known, open); err != nil {
			return true, fmt.Errorf("afterwards: %w", err)
		}
	}
	return hook.hit.Load(), nil
}

func reopened(ctx context.Context, fs *disk.FS, l *load, known told, open OpenKV) error {
	kv, err := open(fs)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := l.check(ctx, kv, known); err != nil {
		return err
	}
	if err := l.write(ctx, kv, 0); err != nil { // and it is of use
		return err
	}
	return kv.Close()
}
