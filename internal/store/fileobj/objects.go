// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package fileobj keeps objects on a disk: those of up to 128 KiB together in packs
// (packs.go, packappend.go; the format is package pack), larger ones in a file each
// (format.go, shard.go). Either way an object is its bytes, its outboard tree and
// a checksummed head or foot. Ids are random: the same bytes put twice are two
// objects.
//
// A put. The writer keeps up to 128 KiB in memory. If there is no more, Commit hands
// the record to the appender of the one open pack. The first who comes writes
// what has gathered meanwhile, as one piece with one sync, then wakes the
// others; while that goes on the next batch gathers. A larger object is written
// into DIR/tmp, synced, renamed to DIR/SHARD/NAME, and the shard's directory is
// synced, once for all who wait.
//
// A read. Every group of 16 KiB is verified against the object's address by means
// of the tree. A packed object of one group costs one read of head and bytes. A
// bounded number of files and packs stays open.
//
// A removal. A file is unlinked. Of a packed object the state word is written over, in
// place, with one sync for all of a pack. The room comes back when the pack goes,
// with its last live record: the owner moves live objects out of packs where much
// is dead (Volume.Movable).
//
// A crash. An object that was acknowledged is there. Of one that was not there may be
// a file in DIR/tmp, which the next Open removes; a whole object that nobody refers
// to; or a torn record, which WalkVolume tells as damaged. The owner walks the
// volumes that are not settled, removes what it does not know, and settles them. A
// new process adds nothing to old packs and shards, so these never grow.
//
// A failed write or sync fails all who shared it, and the pack takes nothing more:
// after a failed sync nobody knows what the disk holds.
package fileobj

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/disk/handles"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

const (
	tempDir = "tmp"
	// pieceBytes is the unit of writing and of WriteRange: 8 groups.
	pieceBytes = 8 * b3.GroupBytes
	// DefaultOpenFiles is Config.OpenFiles where that is zero.
	DefaultOpenFiles = 256
)

// Config says where objects are kept.
type Config struct {
	FS  *disk.FS
	Dir string
	// ReserveBytes stay free on the disk: Create and Write answer ErrFull
	// rather than use them.
	ReserveBytes int64
	// PackBytes is the size at which a pack is full, 0 meaning 64 MiB.
	PackBytes int64
	// OpenFiles bounds the files kept open for reading, 0 meaning
	// DefaultOpenFiles. Files in use are open beyond it.
	OpenFiles int
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
}

// Objects implements store.Objects.
type Objects struct {
	fs      *disk.FS
	dir     string
	reserve atomic.Int64
	log     *slog.Logger
	closed  atomic.Bool
	scratch sync.Pool // *scratch
	groups  sync.Pool // *groupBuffer
	cache   *handles.Cache[fileKey, frame]
	packs   packs
	packer  appender
	// treeBytes is the constant, but in tests.
	treeBytes int

	mu     sync.Mutex // guards the rest
	dirs   map[string]*dirSync
	shard  *openShard             // where objects go; nil: draw one
	open   map[[2]byte]*openShard // shard, and those before it that commits still write to
	sick   error                  // of the last fsync of a directory, nil once one succeeds
	sickAt string
}

var _ store.Objects = (*Objects)(nil)

// Open opens the directory, making it where it is missing, and removes what a
// crash left unfinished. One process may hold it at a time.
func Open(c Config) (*Objects, error) {
	if c.FS == nil || c.Dir == "" {
		return nil, errors.New("fileobj: no file system or no directory")
	}
	if c.OpenFiles <= 0 {
		c.OpenFiles = DefaultOpenFiles
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Objects{fs: c.FS, dir: c.Dir, log: c.Logger, treeBytes: treeBytes,
		dirs: make(map[string]*dirSync), open: make(map[[2]byte]*openShard)}
	s.scratch.New = func() any { return &scratch{hasher: b3.NewHasher(nil)} }
	s.groups.New = func() any { return new(groupBuffer) }
	s.packs.all = make(map[pack.ID]*packFile)
	s.packer.s, s.packer.target = s, cmp.Or(c.PackBytes, packTarget)
	s.reserve.Store(c.ReserveBytes)
	s.cache = handles.NewCache[fileKey, frame](c.OpenFiles)
	temp := c.FS.PathJoin(c.Dir, tempDir)
	for _, dir := range []string{temp, c.FS.PathJoin(c.Dir, settledDir), c.FS.PathJoin(c.Dir, packsDir)} {
		if err := c.FS.MkdirAllSync(dir); err != nil {
			return nil, fmt.Errorf("fileobj: %w", err)
		}
	}
	names, err := c.FS.List(temp)
	if err != nil {
		return nil, fmt.Errorf("fileobj: %w", err)
	}
	for _, name := range names {
		if err := c.FS.Remove(c.FS.PathJoin(temp, name)); err != nil {
			return nil, fmt.Errorf("fileobj: remove what was not finished: %w", err)
		}
	}
	if len(names) > 0 {
		s.log.Info("removed unfinished objects", "event", "objects_unfinished", "count", len(names))
	}
	return s, nil
}

func (s *Objects) path(id objectID) string {
	return s.fs.PathJoin(s.dir, id.shard(), id.name())
}

// syncDir makes the entries of a shard durable.
func (s *Objects) syncDir(shard string) error {
	s.mu.Lock()
	d := s.dirs[shard]
	if d == nil {
		d = &dirSync{fs: s.fs, dir: s.fs.PathJoin(s.dir, shard)}
		s.dirs[shard] = d
	}
	s.mu.Unlock()
	err := d.sync()
	if err != nil && errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	if err != nil {
		s.sick, s.sickAt = err, shard
	} else if s.sickAt == shard {
		s.sick, s.sickAt = nil, ""
	}
	s.mu.Unlock()
	return err
}

// Create implements store.Objects.
func (s *Objects) Create(ctx context.Context, sizeHint int64) (store.ObjectWriter, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	reserve := s.reserve.Load()
	if store.MayUseReserve(ctx) {
		reserve = 0
	}
	if err := s.room(max(sizeHint, 0), reserve); err != nil {
		return nil, err
	}
	var name [8]byte
	if _, err := rand.Read(name[:]); err != nil {
		return nil, err
	}
	return newWriter(s, fmt.Sprintf("%016x", binary.LittleEndian.Uint64(name[:])), reserve), nil
}

// SetReserve makes n bytes the reserve of writers that are created from now on.
func (s *Objects) SetReserve(n int64) { s.reserve.Store(n) }

// room returns ErrFull where n more bytes would use the last reserve bytes.
func (s *Objects) room(n, reserve int64) error {
	free, err := s.fs.Free(s.dir)
	if err != nil {
		return fmt.Errorf("fileobj: free space: %w", err)
	}
	if free-reserve < n {
		return noRoom(free, reserve)
	}
	return nil
}

// Open implements store.Objects. Of a file it reads the footer and, of more than
// one group, the top of the tree; one that is open already costs no read. Of a
// packed object it reads the head, and with it the bytes if they are one group.
func (s *Objects) Open(ctx context.Context, loc store.Loc, addr b3.Addr, size int64) (store.Object, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	if p, ok := pack.ParsePlace(loc); ok {
		return s.openPacked(p, addr, size)
	}
	id, err := parseLoc(loc)
	if err != nil {
		return nil, err
	}
	h, removals := s.cache.Get(objectKey(id))
	if h == nil {
		if h, err = s.openFile(id); err != nil {
			return nil, err
		}
		s.cache.Put(h, removals)
	}
	if h.Value.foot.addr != addr || h.Value.foot.size != size {
		s.cache.Release(h)
		return nil, fmt.Errorf("%w: another object is at its place", store.ErrCorrupt)
	}
	return &object{s: s, h: h, size: size, verifier: h.Value.verifier}, nil
}

// openFile opens and checks the frame of an object's file.
func (s *Objects) openFile(id objectID) (*handle, error) {
	file, err := s.fs.Open(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("fileobj: open: %w", err)
	}
	foot, err := readFooter(file, id)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fileobj: open: %w", err), file.Close())
	}
	verifier := b3.NewVerifier(foot.addr, foot.size, treeReader{file, foot.size})
	if err := verifier.VerifyTop(); err != nil {
		return nil, errors.Join(damage(err), file.Close())
	}
	return handles.New(objectKey(id), file, frame{foot, verifier}), nil
}

// Remove implements store.Objects. Objects already open can still be read.
func (s *Objects) Remove(ctx context.Context, locs ...store.Loc) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	var errs error
	var shards []objectID // one of each
	var packed []pack.Place
	for _, loc := range locs {
		if p, ok := pack.ParsePlace(loc); ok {
			packed = append(packed, p)
			continue
		}
		id, err := parseLoc(loc)
		if err != nil {
			continue // nobody else has it
		}
		if err := s.fs.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, failed("remove", err))
			continue
		}
		s.cache.Drop(objectKey(id))
		if !slices.ContainsFunc(shards, func(o objectID) bool { return o.shard() == id.shard() }) {
			shards = append(shards, id)
		}
	}
	// Also where the file is missing: the removal may be one that failed to
	// become durable.
	for _, id := range shards {
		if err := s.syncDir(id.shard()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = errors.Join(errs, failed("remove", err))
			continue
		}
		s.dropShard(id.shard())
	}
	return errors.Join(errs, s.removePacked(packed))
}

func (s *Objects) footerOf(id objectID) (footer, error) {
	file, err := s.fs.Open(s.path(id))
	if err != nil {
		return footer{}, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return readFooter(file, id)
}

func (s *Objects) alive(ctx context.Context) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// Check implements store.Objects. It fails while directories cannot be synced.
func (s *Objects) Check(ctx context.Context) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sick != nil {
		return fmt.Errorf("fileobj: sync of a directory: %w", s.sick)
	}
	return nil
}

// Close refuses what comes after it. Objects and writers in use can be finished.
func (s *Objects) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.packer.close()
	return s.cache.Close()
}
