// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// The format of the directory: DIR/FORMAT says it, DIR/db is Pebble's, DIR/ballast
// is room to be given up. The file, and not a key, holds the version so that a
// program which is too old to open the database can still say so. It is written
// after the database was first made and before anything is committed.
const (
	formatVersion = 1
	formatName    = "FORMAT"
	formatPrefix  = "macronode-kv "
	dbName        = "db"
	ballastName   = "ballast"
	// pebbleFormat is the one that format 1 means.
	pebbleFormat = pebble.FormatWALSyncChunks
)

// ErrNewer says that a later version of this program wrote the directory.
var ErrNewer = errors.New("pebblekv: the metadata format is newer than this program")

// Open opens the directory, making it where it is missing.
func Open(c Config) (*KV, error) {
	if c.FS == nil || c.Dir == "" {
		return nil, errors.New("pebblekv: no file system or no directory")
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	if c.MemTableBytes <= 0 {
		c.MemTableBytes = DefaultMemTableBytes
	}
	if c.BallastBytes == 0 {
		c.BallastBytes = DefaultBallastBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.patience == 0 {
		c.patience = stallPatience
	}
	k := &KV{
		c: c, log: c.Logger,
		turn: make(chan struct{}, 1), commits: make(chan *commit),
		applied: make(chan *commit, 512),
		spent:   make(chan *pebble.Snapshot, 64), swept: make(chan struct{}),
		stopped: make(chan struct{}), failed: make(chan struct{}),
	}
	k.reserve.Store(c.ReserveBytes)
	k.ballast = ballast{fs: c.FS, path: c.FS.PathJoin(c.Dir, ballastName), size: c.BallastBytes, log: c.Logger}
	if err := k.prepare(); err != nil {
		if disk.IsFull(err) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return nil, fmt.Errorf("pebblekv: open: %w", corrupted(err))
	}
	k.open.Store(true)
	go k.committer() // Close waits for them
	go k.syncer()
	go k.sweeper()
	return k, nil
}

func (k *KV) prepare() error {
	if err := k.c.FS.MkdirAllSync(k.c.Dir); err != nil {
		return err
	}
	if err := k.c.FS.RemoveTemp(k.c.Dir); err != nil {
		return err
	}
	path := k.c.FS.PathJoin(k.c.Dir, formatName)
	made, err := checkFormat(k.c.FS, path)
	if err != nil {
		return err
	}
	if err := k.ballast.restore(k.reserve.Load()); err != nil {
		return err
	}
	if k.db, err = k.openPebble(); err != nil {
		return err
	}
	if made {
		return nil
	}
	text := formatPrefix + strconv.Itoa(formatVersion) + "\n"
	if err := k.c.FS.ReplaceFile(path, []byte(text), disk.FileMode); err != nil {
		return errors.Join(err, k.db.Close())
	}
	return nil
}

// checkFormat reports whether the directory was made before, in this format.
func checkFormat(f *disk.FS, path string) (bool, error) {
	text, err := f.ReadFile(path, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	number, ok := strings.CutPrefix(string(text), formatPrefix)
	v, err := strconv.Atoi(strings.TrimSuffix(number, "\n"))
	switch {
	case !ok || err != nil || v < 1:
		return false, fmt.Errorf("%w: %s", store.ErrCorrupt, formatName)
	case v > formatVersion:
		return false, fmt.Errorf("%w: %d, this program knows %d", ErrNewer, v, formatVersion)
	}
	return true, nil
}

// openPebble opens the database in a goroutine of its own, since Pebble may meet
// a fatal error there.
func (k *KV) openPebble() (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		var res result
		defer func() {
			if r := recover(); r != nil {
				res = result{err: asError(r)}
			}
			done <- res
		}()
		res.db, res.err = pebble.Open(k.c.FS.PathJoin(k.c.Dir, dbName), k.options())
	}()
	select {
	case res := <-done:
		return res.db, res.err
	case <-k.failed:
		return nil, k.failErr
	}
}

func (k *KV) options() *pebble.Options {
	o := &pebble.Options{
		// The ballast is freed below the watch for full disks, which writes
		// again before the guard sees an error.
		FS:                    guard{vfs.OnDiskFull(k.c.FS, k.ballast.spend), k, &k.open},
		FormatMajorVersion:    pebbleFormat,
		CacheSize:             k.c.CacheBytes,
		MemTableSize:          uint64(k.c.MemTableBytes),
		L0CompactionThreshold: 2,
		// Write stalls come from memtables; a slow compaction alone is none.
		L0StopWritesThreshold:       1000,
		MaxOpenFiles:                256,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		MemTableStopWritesThreshold: 4,
		Logger:                      pebbleLog{k},
		EventListener:               k.events(),
	}
	o.Experimental.FileCacheShards = 1
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// pebbleLog passes Pebble's log on.
type pebbleLog struct{ k *KV }

func (l pebbleLog) Infof(format string, args ...any) {
	l.k.log.Debug("pebble", "detail", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.k.log.Warn("pebble", "detail", fmt.Sprintf(format, args...))
}

// Fatalf must not return. It parks the goroutine, with the locks it holds, rather
// than end the process; see guard.
func (l pebbleLog) Fatalf(format string, args ...any) {
	err := &fatalError{text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err.cause = cause
		}
	}
	l.k.fail(err)
	select {}
}

// fatalError is Pebble's last words.
type fatalError struct {
	text  string
	cause error
}

func (e *fatalError) Error() string { return e.text }
func (e *fatalError) Unwrap() error { return e.cause }

func (k *KV) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			k.counts.backgroundErrors.Add(1)
			k.log.Warn("metadata store: background work failed", "event", "metadata_background_error", "error", err)
			k.stalled(err)
			k.mu.Lock()
			k.backErr = fmt.Errorf("pebblekv: background: %w", corrupted(err))
			if k.flushEnd != nil && errors.Is(err, k.flushEnd) {
				k.flushErr = fmt.Errorf("pebblekv: flush: %w", corrupted(err))
			}
			k.mu.Unlock()
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			k.log.Error("metadata store: corrupt", "event", "metadata_corrupt", "file", k.c.FS.PathBase(i.Path), "error", i.Details)
			k.mu.Lock()
			k.corrupt = fmt.Errorf("pebblekv: %w: %w", store.ErrCorrupt, i.Details)
			k.mu.Unlock()
		},
		FlushEnd: func(i pebble.FlushInfo) {
			k.counts.flushes.Add(1)
			k.mu.Lock()
			// An error here may be none, as of a flush that found nothing to
			// write; if it is one, BackgroundError follows.
			if k.flushEnd = i.Err; i.Err == nil {
				k.flushErr, k.backErr = nil, nil
			}
			k.mu.Unlock()
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			k.counts.compactions.Add(1)
			if i.Err == nil {
				k.mu.Lock()
				if k.flushErr == nil {
					k.backErr = nil
				}
				k.mu.Unlock()
			}
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			k.counts.stalls.Add(1)
			k.log.Warn("metadata store: writes stall", "event", "metadata_stall", "reason", i.Reason)
		},
	}
}
