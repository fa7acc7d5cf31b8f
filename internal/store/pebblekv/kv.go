// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// Defaults of Config, small: the node is to idle below 80 MiB.
const (
	DefaultCacheBytes    = 8 << 20
	DefaultMemTableBytes = 4 << 20
	DefaultBallastBytes  = 16 << 20
)

// Config says where metadata is kept. Zero sizes mean their defaults.
type Config struct {
	FS  *disk.FS
	Dir string
	// ReserveBytes stay free on the disk for Reclaim; 0 reserves none.
	ReserveBytes int64
	// BallastBytes is the size of the file that is given up on a full disk;
	// negative means none.
	BallastBytes  int64
	CacheBytes    int64
	MemTableBytes int64
	// Logger takes events of the database; nil discards them.
	Logger *slog.Logger
	// Fatal is called once, with an error after which the store is of no use
	// until it is opened anew by another process. It must not block or call
	// the store. nil: callers learn it from Check.
	Fatal func(error)

	patience time.Duration // 0: stallPatience
}

// KV implements store.KV.
type KV struct {
	c       Config
	log     *slog.Logger
	db      *pebble.DB
	turn    chan struct{}         // held by the one writer; a channel, to heed contexts
	commits chan *commit          // to the committer
	applied chan *commit          // from there to the syncer
	stopped chan struct{}         // both have ended
	spent   chan *pebble.Snapshot // to the sweeper
	swept   chan struct{}         // it has ended
	open    atomic.Bool
	use     inUse
	snaps   snapshots
	pending pending
	ballast ballast
	reserve atomic.Int64 // Config.ReserveBytes, or what SetReserve said
	counts  counts

	// applying is when the batch that is being applied entered Pebble, in unix
	// nanoseconds; 0: none is.
	applying atomic.Int64

	failOnce sync.Once
	failed   chan struct{} // closed once failErr is set
	failErr  error

	mu       sync.Mutex // guards the rest
	flushEnd error      // of the last flush, which may mean nothing
	flushErr error      // of the last flush, where it failed
	backErr  error      // of the last background work
	corrupt  error      // of any read, for good
}

var _ store.KV = (*KV)(nil)

// View implements store.KV.
func (k *KV) View(ctx context.Context, f func(store.Reader) error) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.use.leave()
	snap := k.snapshot()
	t := &tx{k: k, r: snap, s: snap}
	err := func() error {
		defer func() {
			t.done = true
			k.release(snap)
		}()
		return f(t)
	}()
	if werr := t.wait(ctx); werr != nil {
		return werr
	}
	return err
}

// Update implements store.KV.
func (k *KV) Update(ctx context.Context, f func(store.Tx) error) error {
	return k.update(ctx, false, f)
}

// Reclaim implements store.KV.
func (k *KV) Reclaim(ctx context.Context, f func(store.Tx) error) error {
	return k.update(ctx, true, f)
}

func (k *KV) update(ctx context.Context, reclaim bool, f func(store.Tx) error) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.use.leave()
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-k.failed:
		return k.failErr
	}
	c, t, err := k.inTurn(reclaim, f)
	if c == nil {
		if werr := t.wait(ctx); werr != nil {
			return werr
		}
		return err
	}
	if err != nil {
		return err
	}
	select {
	case <-c.durable:
		return nil
	case <-k.failed:
		return k.failErr
	}
}

// inTurn runs f and makes what it wrote visible, then ends the turn. It returns a
// nil commit where nothing was written.
func (k *KV) inTurn(reclaim bool, f func(store.Tx) error) (*commit, *tx, error) {
	defer func() { <-k.turn }()
	t := &tx{k: k}
	if err := k.writable(reclaim); err != nil {
		return nil, t, err
	}
	b := k.db.NewIndexedBatch()
	t.r, t.b = b, b
	keep := false
	defer func() {
		t.done = true
		if !keep {
			_ = b.Close() // it only gives memory back
		}
	}()
	if err := f(t); err != nil {
		return nil, t, err
	}
	if b.Empty() {
		return nil, t, nil
	}
	keep = true
	c := &commit{batch: b, keys: t.keys, applied: make(chan struct{}), durable: make(chan struct{})}
	k.pending.add(c) // before anyone can see it
	select {
	case k.commits <- c:
	case <-k.failed:
		return c, t, k.failErr
	}
	select {
	case <-c.applied:
		return c, t, nil
	case <-k.failed:
		return c, t, k.failErr
	}
}

// committer applies batches. It has a goroutine of its own because Pebble parks,
// or ends, the one that meets a fatal error: not that of a request.
func (k *KV) committer() {
	defer close(k.applied)
	for c := range k.commits {
		k.applying.Store(time.Now().UnixNano())
		if err := k.db.ApplyNoSyncWait(c.batch, pebble.Sync); err != nil {
			k.fail(fmt.Errorf("pebblekv: commit: %w", err))
			return
		}
		k.applying.Store(0)
		k.outdate()
		close(c.applied)
		k.applied <- c
	}
}

// syncer waits for the fsync of each commit, in their order, which is the log's.
func (k *KV) syncer() {
	defer close(k.stopped)
	for c := range k.applied {
		if err := c.batch.SyncWait(); err != nil {
			k.fail(fmt.Errorf("pebblekv: commit: %w", err))
			return
		}
		k.pending.remove(c)
		k.counts.commits.Add(1)
		_ = c.batch.Close() // it only gives memory back
	}
}

// stallPatience is how long a commit may wait inside Pebble for room that a failing
// flush does not make.
const stallPatience = 5 * time.Second

// stalled fails the store where a commit has waited in Pebble for that long: Pebble
// tries the flush again without end, and nothing else would release the commit.
// It is called after each failed flush.
func (k *KV) stalled(err error) {
	if since := k.applying.Load(); since != 0 && time.Now().UnixNano()-since > int64(k.c.patience) {
		k.fail(fmt.Errorf("pebblekv: commits wait for a flush that fails: %w", err))
	}
}

// sweeper closes snapshots, which can wait for an fsync of the manifest: readers
// should not.
func (k *KV) sweeper() {
	defer close(k.swept)
	for snap := range k.spent {
		if err := snap.Close(); err != nil {
			k.log.Warn("close of a snapshot", "event", "metadata_snapshot", "error", err)
		}
	}
}

// begin counts a call in. leave follows where it returns nil.
func (k *KV) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !k.use.enter() {
		return store.ErrClosed
	}
	select {
	case <-k.failed:
		k.use.leave()
		return k.failErr
	default:
		return nil
	}
}

// fail makes the store answer err from now on.
func (k *KV) fail(err error) {
	k.failOnce.Do(func() {
		if disk.IsFull(err) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		} else {
			err = corrupted(err)
		}
		k.failErr = err
		close(k.failed)
		k.log.Error("metadata store failed", "event", "metadata_failed", "error", err)
		if k.c.Fatal != nil {
			k.c.Fatal(err)
		}
	})
}

// corrupted marks Pebble's errors that mean corruption.
func corrupted(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
}

func asError(r any) error {
	if err, ok := r.(error); ok {
		return err
	}
	return fmt.Errorf("panic: %v", r)
}

// Check implements store.KV.
func (k *KV) Check(ctx context.Context) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	defer k.use.leave()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, err := range []error{k.corrupt, k.flushErr, k.backErr} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Close waits for the calls under way. After a failure it returns that, and the
// files stay open until the process ends.
func (k *KV) Close() error {
	if !k.use.close(k.failed) {
		return nil
	}
	select {
	case <-k.failed:
		return k.failErr
	default:
		close(k.commits)
		k.outdate()
		close(k.spent)
	}
	for _, end := range []chan struct{}{k.stopped, k.swept} {
		select {
		case <-k.failed:
			return k.failErr
		case <-end:
		}
	}
	done := make(chan error, 1)
	go func() { done <- k.db.Close() }() // awaited, unless it fails for good
	select {
	case err := <-done:
		return corrupted(err)
	case <-k.failed:
		return k.failErr
	}
}

// counts are since Open.
type counts struct {
	commits, flushes, compactions, stalls, backgroundErrors, refusedFull atomic.Int64
}

// Stats are counters since Open, and sizes now.
type Stats struct {
	Commits, Flushes, Compactions, WriteStalls, BackgroundErrors, RefusedFull int64

	DiskBytes, MemTableBytes, CacheBytes, WALBytes int64
}

// Stats returns the zero Stats of a closed or failed store. It is not cheap: a
// scrape may call it, a request may not.
func (k *KV) Stats() Stats {
	if k.begin(context.Background()) != nil {
		return Stats{}
	}
	defer k.use.leave()
	m := k.db.Metrics()
	return Stats{
		Commits: k.counts.commits.Load(), Flushes: k.counts.flushes.Load(),
		Compactions: k.counts.compactions.Load(), WriteStalls: k.counts.stalls.Load(),
		BackgroundErrors: k.counts.backgroundErrors.Load(), RefusedFull: k.counts.refusedFull.Load(),
		DiskBytes: int64(m.DiskSpaceUsage()), MemTableBytes: int64(m.MemTable.Size),
		CacheBytes: m.BlockCache.Size, WALBytes: int64(m.WAL.Size),
	}
}
