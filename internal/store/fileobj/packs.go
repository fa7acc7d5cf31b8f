// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

const packsDir = "packs"

// knowledge says how far a pack's counts can be believed.
type knowledge int

const (
	unread  knowledge = iota // its first block was not read yet
	unknown                  // there is no hint
	hinted                   // what was written last; a crash may have cost the newest
	exact                    // counted by this process
)

// packFile is what the process knows of a pack file. One exists for each pack that
// was listed, opened for removal or written.
type packFile struct {
	id pack.ID

	// edit is held by who changes the file in place, or removes it, through the
	// sync: one at a time. It is taken before mu.
	edit sync.Mutex
	gone bool // the file is not there; edit guards it

	mu     sync.Mutex // guards the rest, for moments
	known  knowledge
	hints  pack.Hints
	sealed bool
	lost   bool  // the file holds less than it once said, so it is kept as evidence
	end    int64 // while it is not sealed: up to here everything is acknowledged
}

// packs is the set of pack files in DIR/packs.
type packs struct {
	mu  sync.Mutex
	all map[pack.ID]*packFile
}

// packOf returns the state of id. A pack that is met for the first time is sealed:
// only those that this process made take records.
func (s *Objects) packOf(id pack.ID) *packFile {
	s.packs.mu.Lock()
	defer s.packs.mu.Unlock()
	p := s.packs.all[id]
	if p == nil {
		p = &packFile{id: id, sealed: true}
		s.packs.all[id] = p
	}
	return p
}

func (s *Objects) packPath(id pack.ID) string {
	return s.fs.PathJoin(s.dir, packsDir, id.File())
}

// openEdit opens the file of p to change it in place. p.edit is held, so the file
// is not removed between look and open, which would make it again.
func (s *Objects) openEdit(p *packFile) (disk.File, error) {
	path := s.packPath(p.id)
	if _, err := s.fs.Stat(path); err != nil {
		return nil, err
	}
	return s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
}

// learn reads the hints of p, once.
func (s *Objects) learn(p *packFile) error {
	p.mu.Lock()
	read := p.known != unread
	p.mu.Unlock()
	if read {
		return nil
	}
	file, err := s.fs.Open(s.packPath(p.id))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	var b [pack.HintsAt + pack.BlockBytes]byte
	n, err := file.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h, known, err := pack.ParseBlock(b[:n], p.id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == unread {
		p.known, p.hints = unknown, h
		if known {
			p.known = hinted
		}
	}
	return nil
}

// writeHints writes p's hints in place, not synced.
func (p *packFile) writeHints(file disk.File) error {
	p.mu.Lock()
	h, known := p.hints, p.known
	p.mu.Unlock()
	if known < hinted {
		return nil
	}
	if n, err := file.WriteAt(h.Append(nil, p.id), pack.HintsAt); err != nil {
		return err
	} else if n < pack.BlockBytes {
		return io.ErrShortWrite
	}
	return nil
}

// removePacked removes records: their state words are written over, and one sync
// makes that durable for all of a pack.
func (s *Objects) removePacked(places []pack.Place) error {
	slices.SortFunc(places, func(a, b pack.Place) int {
		return cmpPlace(a, b)
	})
	places = slices.Compact(places)
	var errs error
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].ID == places[0].ID {
			n++
		}
		if err := s.removeFrom(s.packOf(places[0].ID), places[:n]); err != nil {
			errs = errors.Join(errs, failed("remove", err))
		}
		places = places[n:]
	}
	return errs
}

func cmpPlace(a, b pack.Place) int {
	if c := slices.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	return int(a.Off/pack.Align - b.Off/pack.Align)
}

// removeFrom removes records of one pack, and the pack with the last of a sealed one.
func (s *Objects) removeFrom(p *packFile, places []pack.Place) (err error) {
	p.edit.Lock()
	defer p.edit.Unlock()
	if p.gone {
		return nil
	}
	err = s.learn(p)
	var file disk.File
	if err == nil {
		file, err = s.openEdit(p)
	}
	if missing(err) {
		s.forget(p)
		return nil
	}
	if err != nil {
		return err
	}
	err = s.kill(p, file, places)
	err = errors.Join(err, file.Close())
	s.packHealth(err)
	if err != nil {
		p.doubt()
		return err
	}
	if s.lastGone(p) {
		return s.dropPack(p)
	}
	return nil
}

// doubt gives up what was counted: it is no longer sure what the file holds.
func (p *packFile) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = min(p.known, hinted)
}

// kill marks the records at places dead, with the hints that then hold, and syncs.
// Also where all are dead already: what marked them may not have become durable.
func (s *Objects) kill(p *packFile, file disk.File, places []pack.Place) error {
	var gaps map[int64]pack.Found
	for _, at := range places {
		var head [pack.RecordHead]byte
		if _, err := file.ReadAt(head[:], at.Off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if pack.IsDead(head[:]) {
			continue
		}
		rec, err := pack.ParseRecord(head[:], at)
		room := pack.Room(rec.Size)
		if errors.Is(err, store.ErrCorrupt) {
			// Only a scan tells a damaged record from the middle of another.
			if gaps == nil {
				if gaps, err = s.gaps(p, file); err != nil {
					return err
				}
			}
			gap, ok := gaps[at.Off]
			if !ok {
				continue
			}
			room, err = gap.Bytes, nil
		}
		if err == nil {
			err = pack.MarkDead(file, at.Off)
		}
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.hints.Records = max(p.hints.Records-1, 0)
		p.hints.Live = max(p.hints.Live-room, 0)
		p.hints.Dead += room
		p.mu.Unlock()
	}
	if err := p.writeHints(file); err != nil {
		return err
	}
	return file.SyncData()
}

// gaps returns the damaged records of p by their offsets.
func (s *Objects) gaps(p *packFile, file disk.File) (map[int64]pack.Found, error) {
	end, _, err := p.limit(file)
	if err != nil {
		return nil, err
	}
	m := make(map[int64]pack.Found)
	err = pack.Scan(file, p.id, end, func(f pack.Found) {
		if f.Size < 0 {
			m[f.Off] = f
		}
	})
	return m, err
}

// limit returns up to where a pack holds records, and whether that is all of it.
func (p *packFile) limit(file disk.File) (end int64, sealed bool, err error) {
	p.mu.Lock()
	sealed, end = p.sealed, p.end
	p.mu.Unlock()
	if !sealed {
		return end, false, nil
	}
	fi, err := file.Stat()
	if err != nil {
		return 0, false, err
	}
	return fi.Size(), true, nil
}

// lastGone reports whether p is sealed and holds nothing live. What only the
// hints say is made sure of. p.edit is held.
func (s *Objects) lastGone(p *packFile) bool {
	p.mu.Lock()
	known, none := p.known, p.sealed && p.hints.Records == 0 && !p.lost
	p.mu.Unlock()
	if !none || known < hinted {
		return false
	}
	if known == hinted {
		if _, err := s.scan(p); err != nil {
			s.log.Warn("a pack cannot be read through", "event", "pack_scan_failed", "pack", p.id.Volume(), "error", err)
			return false
		}
		p.mu.Lock()
		none = p.hints.Records == 0 && !p.lost
		p.mu.Unlock()
	}
	return none
}

// dropPack removes the file. Were it to come back after a crash, all in it would
// still be dead. p.edit is held.
func (s *Objects) dropPack(p *packFile) error {
	if err := s.fs.Remove(s.packPath(p.id)); err != nil && !missing(err) {
		return err
	}
	s.forget(p)
	return s.syncDir(packsDir)
}

// forget strikes p off. Its id is never drawn again. p.edit is held.
func (s *Objects) forget(p *packFile) {
	p.gone = true
	s.packs.mu.Lock()
	if s.packs.all[p.id] == p {
		delete(s.packs.all, p.id)
	}
	s.packs.mu.Unlock()
	s.cache.Drop(packKey(p.id))
}

// scan reads p through and returns the live records. The counts of a sealed pack
// are exact then. p.edit is held, so nothing is removed meanwhile.
func (s *Objects) scan(p *packFile) ([]pack.Found, error) {
	file, err := s.fs.Open(s.packPath(p.id))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	end, sealed, err := p.limit(file)
	if err != nil {
		return nil, err
	}
	var live []pack.Found
	var h pack.Hints
	err = pack.Scan(file, p.id, end, func(f pack.Found) {
		if f.Dead {
			h.Dead += f.Bytes
			return
		}
		h.Records++
		h.Live += f.Bytes
		live = append(live, f)
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !sealed {
		return live, nil
	}
	// What lives and what is dead make a constant sum once a pack is sealed.
	if was := p.hints.Live + p.hints.Dead; p.known >= hinted && h.Live+h.Dead < was && !p.lost {
		p.lost = true
		s.log.Error("a pack is damaged: records are missing", "event", "pack_short", "pack", p.id.Volume(), "bytes", was-h.Live-h.Dead)
	}
	h.Settled = p.hints.Settled
	p.hints, p.known = h, exact
	return live, nil
}

// packVolumes lists the packs as volumes.
func (s *Objects) packVolumes(ctx context.Context) ([]store.Volume, error) {
	names, err := s.fs.List(s.fs.PathJoin(s.dir, packsDir))
	if err != nil {
		return nil, fmt.Errorf("fileobj: volumes: %w", err)
	}
	list := make([]store.Volume, 0, len(names))
	for _, name := range names {
		id, ok := pack.ParseFile(name)
		if !ok {
			continue // not ours
		}
		if err := s.alive(ctx); err != nil {
			return nil, err
		}
		p := s.packOf(id)
		if err := s.learn(p); missing(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("fileobj: volumes: %w", err)
		}
		p.mu.Lock()
		v := store.Volume{ID: id.Volume(), Sealed: p.sealed, Settled: p.hints.Settled, Live: -1, Dead: -1, Movable: true}
		if p.known >= hinted {
			v.Live, v.Dead = p.hints.Live, p.hints.Dead
		}
		p.mu.Unlock()
		list = append(list, v)
	}
	return list, nil
}

// walkPack implements WalkVolume of a pack. One without a live record goes.
func (s *Objects) walkPack(ctx context.Context, id pack.ID, f func(loc store.Loc, addr b3.Addr, size int64) bool) error {
	p := s.packOf(id)
	live, err := s.survey(p)
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fileobj: walk: %w", err)
	}
	if len(live) == 0 {
		return nil
	}
	h, err := s.packHandle(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.cache.Release(h) }() // it was only read
	for _, r := range live {
		if err := s.alive(ctx); err != nil {
			return err
		}
		// It may have been removed since.
		var state [pack.RecordHead]byte
		if _, err := h.File.ReadAt(state[pack.StateAt:pack.StateAt+8], r.Off+pack.StateAt); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("fileobj: walk: %w", err)
		}
		if pack.IsDead(state[:]) {
			continue
		}
		if !f(pack.Place{ID: id, Off: r.Off}.Loc(), r.Addr, r.Size) {
			return nil
		}
	}
	return nil
}

// survey scans p, keeps what was counted for the next start, and removes p where
// nothing in it lives.
func (s *Objects) survey(p *packFile) ([]pack.Found, error) {
	p.edit.Lock()
	defer p.edit.Unlock()
	err := s.learn(p)
	var live []pack.Found
	if err == nil && !p.gone {
		live, err = s.scan(p)
	}
	if p.gone || missing(err) {
		s.forget(p)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.lastGone(p) {
		return nil, s.dropPack(p)
	}
	p.mu.Lock()
	sealed := p.sealed
	p.mu.Unlock()
	if sealed {
		s.keepHints(p)
	}
	return live, nil
}

// keepHints writes the hints without a sync. They are hints: where it fails the
// pack is walked once more after the next start. p.edit is held.
func (s *Objects) keepHints(p *packFile) {
	file, err := s.openEdit(p)
	if err == nil {
		err = errors.Join(p.writeHints(file), file.Close())
	}
	if err != nil {
		s.log.Warn("the counts of a pack were not kept", "event", "pack_hints_failed", "pack", p.id.Volume(), "error", err)
	}
}

// settlePack implements Settle of a pack.
func (s *Objects) settlePack(id pack.ID) error {
	p := s.packOf(id)
	p.edit.Lock()
	defer p.edit.Unlock()
	p.mu.Lock()
	sealed := p.sealed
	p.mu.Unlock()
	if !sealed {
		return fmt.Errorf("%w: the volume is open", store.ErrRange)
	}
	err := s.learn(p)
	var file disk.File
	if err == nil && !p.gone {
		file, err = s.openEdit(p)
	}
	if p.gone || missing(err) { // for good
		s.forget(p)
		err = s.syncDir(packsDir)
		if err != nil {
			return failed("settle", err)
		}
		return nil
	}
	if err != nil {
		return failed("settle", err)
	}
	err = s.settle(p, file)
	err = errors.Join(err, file.Close())
	s.packHealth(err)
	if err != nil {
		return failed("settle", err)
	}
	return nil
}

func (s *Objects) settle(p *packFile, file disk.File) error {
	p.mu.Lock()
	known, was := p.known, p.hints.Settled
	p.mu.Unlock()
	if known < hinted { // there must be something to write beside it
		if _, err := s.scan(p); err != nil {
			return err
		}
	}
	p.setSettled(true)
	err := p.writeHints(file)
	if err == nil {
		err = file.SyncData()
	}
	if err != nil {
		p.setSettled(was)
	}
	return err
}

func (p *packFile) setSettled(v bool) {
	p.mu.Lock()
	p.hints.Settled = v
	p.mu.Unlock()
}
