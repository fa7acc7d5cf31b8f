// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

const (
	// shardObjects go to one shard before the next is drawn.
	shardObjects = 4096
	// shardDraws are tried to find a shard that is not there yet. There are
	// 65536; those that became empty go.
	shardDraws = 1000
	// settledDir holds an empty file for each settled shard.
	settledDir = "settled"
	// shardPrefix and the shard's name are a volume's id.
	shardPrefix = "f:"
)

// openShard is a shard that is not sealed: the one that objects go to, or one that
// is full while the last commits to it are under way.
type openShard struct {
	name    [2]byte
	left    int // objects that may still be placed
	writing int // placed, not yet committed or given up
}

// place returns an unused id in the current shard, whose directory exists. The
// shard is open until placed is called.
func (s *Objects) place() (id objectID, shard *openShard, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		return id, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shard == nil {
		if s.shard, err = s.drawShard(); err != nil {
			return id, nil, err
		}
		s.open[s.shard.name] = s.shard
	}
	shard = s.shard
	copy(id[:], shard.name[:])
	shard.writing++
	if shard.left--; shard.left == 0 {
		s.shard = nil
	}
	return id, shard, nil
}

// placed ends what place began: a shard that takes nothing more is sealed.
func (s *Objects) placed(shard *openShard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if shard.writing--; shard.writing == 0 && shard.left == 0 {
		delete(s.open, shard.name)
	}
}

// drawShard makes a shard that never was one, or is one no more. s.mu is held.
func (s *Objects) drawShard() (*openShard, error) {
	shard := &openShard{left: shardObjects}
	for range shardDraws {
		if _, err := rand.Read(shard.name[:]); err != nil {
			return nil, err
		}
		name := hex.EncodeToString(shard.name[:])
		dir := s.fs.PathJoin(s.dir, name)
		free := true
		for _, path := range []string{dir, s.fs.PathJoin(s.dir, settledDir, name)} {
			switch _, err := s.fs.Stat(path); {
			case err == nil:
				free = false
			case !errors.Is(err, fs.ErrNotExist):
				return nil, err
			}
		}
		if !free {
			continue
		}
		if err := s.fs.MkdirAllSync(dir); err != nil {
			return nil, err
		}
		return shard, nil
	}
	return nil, fmt.Errorf("%w: no directory is left for objects", store.ErrFull)
}

// sealed reports whether nothing is added to a shard any more.
func (s *Objects) sealed(shard string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealedLocked(shard)
}

func (s *Objects) sealedLocked(shard string) bool {
	var name [2]byte
	_, err := hex.Decode(name[:], []byte(shard))
	return err != nil || s.open[name] == nil
}

// dropShard removes the directory of a sealed shard if it is empty, and then its
// mark. Where that fails an empty directory, or a mark of none, stays.
func (s *Objects) dropShard(shard string) {
	mark := s.fs.PathJoin(s.dir, settledDir, shard)
	s.mu.Lock() // else the shard could be drawn again in between
	if !s.sealedLocked(shard) || s.fs.Remove(s.fs.PathJoin(s.dir, shard)) != nil {
		s.mu.Unlock()
		return
	}
	delete(s.dirs, shard)
	_, err := s.fs.Stat(mark)
	s.mu.Unlock()
	if missing(err) {
		return
	}
	// With its mark it is not drawn again. The mark goes last, for a crash could
	// bring back the directory.
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err == nil {
		err = s.fs.Remove(mark)
	}
	if err != nil {
		s.log.Warn("the mark of a directory that is gone stays", "event", "object_mark_stays", "error", err)
	}
}

// isShard reports whether a name is that of a shard's directory.
func isShard(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 2 && hex.EncodeToString(b) == name
}

// shardVolumes lists the shards as volumes.
func (s *Objects) shardVolumes() ([]store.Volume, error) {
	settled := make(map[string]bool)
	names, err := s.fs.List(s.fs.PathJoin(s.dir, settledDir))
	if err != nil {
		return nil, fmt.Errorf("fileobj: volumes: %w", err)
	}
	for _, name := range names {
		settled[name] = true
	}
	if names, err = s.fs.List(s.dir); err != nil {
		return nil, fmt.Errorf("fileobj: volumes: %w", err)
	}
	var list []store.Volume
	for _, name := range names {
		if isShard(name) {
			list = append(list, store.Volume{ID: shardPrefix + name, Sealed: s.sealed(name), Settled: settled[name], Live: -1})
		}
	}
	return list, nil
}

// Volumes implements store.Objects.
func (s *Objects) Volumes(ctx context.Context) ([]store.Volume, error) {
	if err := s.alive(ctx); err != nil {
		return nil, err
	}
	shards, err := s.shardVolumes()
	if err != nil {
		return nil, err
	}
	packs, err := s.packVolumes(ctx)
	return append(shards, packs...), err
}

// WalkVolume implements store.Objects.
func (s *Objects) WalkVolume(ctx context.Context, id string, f func(loc store.Loc, addr b3.Addr, size int64) bool) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	if shard, ok := strings.CutPrefix(id, shardPrefix); ok && isShard(shard) {
		return s.walkShard(ctx, shard, f)
	}
	if p, ok := pack.ParseVolume(id); ok {
		return s.walkPack(ctx, p, f)
	}
	return nil
}

func (s *Objects) walkShard(ctx context.Context, shard string, f func(loc store.Loc, addr b3.Addr, size int64) bool) error {
	names, err := s.fs.List(s.fs.PathJoin(s.dir, shard))
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fileobj: walk: %w", err)
	}
	if len(names) == 0 {
		s.dropShard(shard)
	}
	for _, name := range names {
		if err := s.alive(ctx); err != nil {
			return err
		}
		id, err := parseID(shard + name)
		if err != nil {
			continue // not ours
		}
		foot, err := s.footerOf(id)
		switch {
		case missing(err):
			continue
		case errors.Is(err, store.ErrCorrupt):
			foot = footer{size: -1}
		case err != nil:
			return fmt.Errorf("fileobj: walk: %w", err)
		}
		if !f(id.loc(), foot.addr, foot.size) {
			return nil
		}
	}
	return nil
}

// Settle implements store.Objects.
func (s *Objects) Settle(ctx context.Context, id string) error {
	if err := s.alive(ctx); err != nil {
		return err
	}
	if shard, ok := strings.CutPrefix(id, shardPrefix); ok && isShard(shard) {
		return s.settleShard(shard)
	}
	if p, ok := pack.ParseVolume(id); ok {
		return s.settlePack(p)
	}
	return nil
}

// settleShard makes the mark. The lock keeps the shard from being dropped, and
// drawn again, between the look and the mark.
func (s *Objects) settleShard(shard string) error {
	s.mu.Lock()
	if !s.sealedLocked(shard) {
		s.mu.Unlock()
		return fmt.Errorf("%w: the volume is open", store.ErrRange)
	}
	_, err := s.fs.Stat(s.fs.PathJoin(s.dir, shard))
	if err == nil {
		err = s.mark(shard)
	}
	s.mu.Unlock()
	switch {
	case missing(err): // for good
		err = s.fs.SyncDir(s.dir)
	case err == nil:
		err = s.syncDir(settledDir)
	}
	if err != nil {
		return failed("settle", err)
	}
	return nil
}

func (s *Objects) mark(shard string) error {
	file, err := s.fs.Create(s.fs.PathJoin(s.dir, settledDir, shard), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return file.Close()
}
