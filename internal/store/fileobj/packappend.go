// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fileobj

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj/pack"
)

const (
	// packTarget is the length at which a pack is sealed. It is passed by less
	// than a batch.
	packTarget = 64 << 20
	// packRecords bound what a walk of a pack holds in memory.
	packRecords = 1 << 16
	// batchBytes and batchRecords go with one sync.
	batchBytes   = 4 << 20
	batchRecords = 1024
	// Zeros are written ahead of the records in steps that double, in the sync
	// of a batch. A sync that changes neither the file's length nor its map of
	// blocks costs about half.
	fillFirst = 256 << 10
	fillLast  = 4 << 20
)

// packed is an object on its way into a pack.
type packed struct {
	addr    b3.Addr
	data    []byte
	tree    []byte
	reserve int64 // bytes that stay free on the disk
	at      pack.Place
	err     error
}

func (r *packed) room() int64 { return pack.Room(int64(len(r.data))) }

// appender writes records to one pack, many with each sync. While a batch is
// written and synced the next gathers; there is no goroutine, the first of a batch
// writes it.
type appender struct {
	s      *Objects
	target int64 // packTarget, but in tests

	mu   sync.Mutex // guards next
	next *batch

	run    sync.Mutex // held by who writes a batch; guards the rest
	p      *packFile  // nil: the next batch makes one
	file   disk.File
	fresh  bool  // its name is not durable yet
	end    int64 // of the records
	filled int64 // of what was written
	step   int64
	count  int // of records
	out    pack.Chunks
}

type batch struct {
	recs  []*packed
	bytes int64
	done  chan struct{}
}

// put returns once r is durable at r.at, or failed: a write or sync that fails,
// fails all that share it.
func (a *appender) put(r *packed) error {
	a.mu.Lock()
	if b := a.next; b != nil && b.bytes+r.room() <= batchBytes && len(b.recs) < batchRecords {
		b.recs = append(b.recs, r)
		b.bytes += r.room()
		a.mu.Unlock()
		<-b.done
		return r.err
	}
	b := &batch{recs: []*packed{r}, bytes: r.room(), done: make(chan struct{})}
	a.next = b
	a.mu.Unlock()

	a.run.Lock()
	defer a.run.Unlock()
	runtime.Gosched() // those that the last batch woke may join
	a.mu.Lock()
	if a.next == b {
		a.next = nil
	}
	a.mu.Unlock()
	defer close(b.done)
	a.commit(b)
	return r.err
}

// commit writes those of b for which there is room.
func (a *appender) commit(b *batch) {
	free, err := a.s.fs.Free(a.s.dir)
	if err == nil && a.s.closed.Load() {
		err = store.ErrClosed
	}
	var recs []*packed
	var bytes int64
	for _, r := range b.recs {
		switch {
		case err != nil:
			r.err = err
		case free-r.reserve < bytes+r.room():
			r.err = noRoom(free, r.reserve)
		default:
			bytes += r.room()
			recs = append(recs, r)
		}
	}
	if len(recs) == 0 {
		return
	}
	if a.p != nil && (a.end >= a.target || a.count+len(recs) > packRecords) {
		a.seal()
	}
	if err := a.start(); err != nil {
		a.s.packHealth(err)
		for _, r := range recs {
			r.err = full(err)
		}
		return
	}
	start := a.end
	err = a.write(recs, free-a.s.reserve.Load()-bytes)
	a.s.packHealth(err)
	if err != nil {
		for _, r := range recs {
			r.err = full(err)
		}
		a.fail(recs, start)
		return
	}
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.p.end = a.end
	a.p.hints.Records += int64(len(recs))
	a.p.hints.Live += bytes
}

// start makes a pack where there is none to append to.
func (a *appender) start() error {
	if a.p != nil {
		return nil
	}
	p := &packFile{known: exact, end: pack.HeadBytes}
	for {
		if _, err := rand.Read(p.id[:]); err != nil {
			return err
		}
		if _, err := a.s.fs.Stat(a.s.packPath(p.id)); missing(err) {
			break
		} else if err != nil {
			return err
		}
	}
	a.s.packs.mu.Lock()
	a.s.packs.all[p.id] = p
	a.s.packs.mu.Unlock()
	file, err := a.s.fs.OpenReadWrite(a.s.packPath(p.id), vfs.WriteCategoryUnspecified)
	if err != nil {
		p.edit.Lock()
		defer p.edit.Unlock()
		a.s.forget(p)
		return err
	}
	a.p, a.file, a.fresh = p, file, true
	a.end, a.filled, a.step, a.count = pack.HeadBytes, 0, fillFirst, 0
	return nil
}

// write puts recs behind those that are there and syncs, once, and once more the
// directory of a new pack. room are bytes of the disk that may be used beside.
func (a *appender) write(recs []*packed, room int64) error {
	out := &a.out
	if a.fresh {
		out.Reset(a.file, 0)
		out.Put(pack.AppendHead(nil, a.p.id))
		out.Zeros(pack.HeadBytes - pack.BlockBytes)
	} else {
		out.Reset(a.file, a.end)
	}
	end := a.end
	var head [pack.RecordHead]byte
	for _, r := range recs {
		r.at = pack.Place{ID: a.p.id, Off: end}
		rec := pack.Record{Place: r.at, Addr: r.addr, Size: int64(len(r.data))}
		out.Put(rec.Append(head[:0]))
		out.Put(r.data)
		out.Put(r.tree)
		end += r.room()
		out.Zeros(end - out.End())
	}
	a.count += len(recs)
	if end > a.filled {
		a.filled = end
		if step := min(a.step, a.target-end); step > 0 && room > 2*fillLast {
			out.Zeros(step)
			a.filled += step
			a.step = min(2*a.step, fillLast)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := a.file.SyncData(); err != nil {
		return err
	}
	if a.fresh {
		if err := a.s.syncDir(packsDir); err != nil {
			return err
		}
		a.fresh = false
	}
	a.end = end
	return nil
}

// fail cleans up behind a batch that failed: after a failed sync nobody knows what
// the disk holds, so the pack takes no more. What was written of recs is marked
// dead, or goes with the file where nothing else is in it; where that fails too,
// WalkVolume finds it.
func (a *appender) fail(recs []*packed, start int64) {
	p := a.p
	if a.fresh {
		err := a.file.Close()
		p.edit.Lock()
		err = errors.Join(err, a.s.dropPack(p))
		if !p.gone {
			p.mu.Lock()
			p.sealed, p.known = true, unknown
			p.mu.Unlock()
		}
		p.edit.Unlock()
		a.p, a.file = nil, nil
		if err != nil {
			a.s.log.Warn("an unfinished pack stays", "event", "pack_abort_failed", "pack", p.id.Volume(), "error", err)
		}
		return
	}
	var err error
	for _, r := range recs {
		err = errors.Join(err, pack.MarkDead(a.file, r.at.Off))
	}
	if err == nil {
		err = a.file.SyncData()
	}
	if err != nil {
		p.mu.Lock()
		p.known = unknown
		p.mu.Unlock()
	}
	a.s.log.Warn("a pack was given up", "event", "pack_failed", "pack", p.id.Volume(), "records", len(recs), "from", start, "marked", err == nil)
	a.seal()
}

// seal ends a pack. Where nothing in it lives it goes.
func (a *appender) seal() {
	p := a.p
	p.edit.Lock()
	defer p.edit.Unlock()
	p.mu.Lock()
	p.sealed = true
	p.mu.Unlock()
	err := errors.Join(p.writeHints(a.file), a.file.Close())
	a.p, a.file = nil, nil
	if a.s.lastGone(p) {
		err = errors.Join(err, a.s.dropPack(p))
	}
	if err != nil { // all that counts was synced before
		a.s.log.Warn("a pack was not sealed well", "event", "pack_seal_failed", "pack", p.id.Volume(), "error", err)
	}
}

// close seals the pack once the batch under way is through.
func (a *appender) close() {
	a.run.Lock()
	defer a.run.Unlock()
	if a.p != nil {
		a.seal()
	}
}

// noRoom is the error where free bytes are not enough.
func noRoom(free, reserve int64) error {
	return fmt.Errorf("%w: %d bytes free, %d of them reserved", store.ErrFull, free, reserve)
}
