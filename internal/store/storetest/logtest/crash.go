// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package logtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

// OpenLog opens a log that lives on the file system. Its segments should hold some
// tens of the suites' records, 20 KiB or so.
type OpenLog func(fs *disk.FS) (store.Log, error)

const (
	crashOps    = 200 // in each seed, at least
	logWriters  = 3
	sectorBytes = 512
)

// ledger is what clients of a log were told.
type ledger struct {
	mu      sync.Mutex
	staged  map[store.Pos][]byte // every record that has a place
	durable store.Pos            // what is before it was acknowledged
	doubt   map[uint32]bool      // segments of which a drop has begun
	dropped map[uint32]bool      // and was acknowledged
	ops     atomic.Int64
}

func newLedger() *ledger {
	return &ledger{staged: map[store.Pos][]byte{}, doubt: map[uint32]bool{}, dropped: map[uint32]bool{}}
}

// freeze calls f and returns what was told when f ran: nobody is told anything until
// it returns, and no drop begins. What is staged goes on being noted: the log may have
// written it before its stager took note.
func (g *ledger) freeze(f func()) *ledger {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	return &ledger{staged: g.staged, durable: g.durable, doubt: maps.Clone(g.doubt), dropped: maps.Clone(g.dropped)}
}

// stage stages records, and takes note of them.
func (g *ledger) stage(l store.Log, records ...[]byte) (end store.Pos, err error) {
	g.ops.Add(1)
	places, err := l.Stage(false, records...)
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range places {
		g.staged[p] = records[i]
		end = p + 1
	}
	return end, err
}

func (g *ledger) sync(ctx context.Context, l store.Log, end store.Pos) error {
	g.ops.Add(1)
	if err := l.SyncTo(ctx, end); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.durable = max(g.durable, end)
	return nil
}

func (g *ledger) drop(l store.Log, id uint32) error {
	g.ops.Add(1)
	g.mu.Lock()
	g.doubt[id] = true
	g.mu.Unlock()
	if err := l.Drop(id); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropped[id] = true
	return nil
}

// look reads a record that was staged.
func (g *ledger) look(l store.Log, p store.Pos, want []byte) error {
	g.ops.Add(1)
	got, err := l.Read(p, nil)
	if errors.Is(err, store.ErrNotFound) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.doubt[p.Segment()] {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%x: %d bytes that were not staged there", uint64(p), len(got))
	}
	return nil
}

// run stages, syncs, reads and drops until stop is closed, and returns the first
// error of each writer.
func (g *ledger) run(ctx context.Context, l store.Log, seed uint64, each int, stop <-chan struct{}) []error {
	var wg sync.WaitGroup
	errs := make([]error, logWriters)
	for w := range logWriters {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := 0; i < each && errs[w] == nil; i++ {
				select {
				case <-stop:
					return
				default:
				}
				errs[w] = g.step(ctx, l, r)
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func (g *ledger) step(ctx context.Context, l store.Log, r *rand.Rand) error {
	var records [][]byte
	for range 1 + r.IntN(3) {
		n := r.IntN(600)
		if r.IntN(12) == 0 {
			n = r.IntN(9000)
		}
		records = append(records, binary.BigEndian.AppendUint64(storetest.Bytes(n, r.Uint64()), r.Uint64()))
	}
	end, err := g.stage(l, records...)
	if err != nil {
		return err
	}
	if r.IntN(3) > 0 {
		if err := g.sync(ctx, l, end); err != nil {
			return err
		}
		if err := g.look(l, end-1, records[len(records)-1]); err != nil {
			return err
		}
	}
	if list := l.Segments(); len(list) > 3 && r.IntN(4) == 0 {
		return g.drop(l, list[r.IntN(2)].ID)
	}
	return nil
}

// check finds out whether a log holds all that was told: what was durable, and of the
// rest, in the order of staging, a beginning. What it holds is what is true from then
// on.
func (g *ledger) check(l store.Log) error {
	list, err := scanAll(l, 0)
	if err != nil {
		return err
	}
	found := make(map[store.Pos][]byte, len(list))
	var last store.Pos
	for _, e := range list {
		want, known := g.staged[e.at]
		switch {
		case e.at <= last:
			return fmt.Errorf("%x comes after %x", uint64(e.at), uint64(last))
		case !known:
			return fmt.Errorf("%x: a record of %d bytes that nobody staged", uint64(e.at), len(e.data))
		case !bytes.Equal(want, e.data):
			return fmt.Errorf("%x: %d bytes, %d were staged", uint64(e.at), len(e.data), len(want))
		case g.dropped[e.at.Segment()]:
			return fmt.Errorf("%x was dropped and is there", uint64(e.at))
		}
		found[e.at], last = e.data, e.at
	}
	for p := range g.staged {
		if _, ok := found[p]; ok || g.doubt[p.Segment()] {
			continue
		}
		if p < g.durable {
			return fmt.Errorf("%x is lost, everything before %x was acknowledged", uint64(p), uint64(g.durable))
		}
		if p < last {
			return fmt.Errorf("%x is missing, %x that was staged later is there", uint64(p), uint64(last))
		}
	}
	for p, want := range found {
		if err := g.look(l, p, want); err != nil {
			return err
		}
	}
	g.mu.Lock() // a crash may come now
	defer g.mu.Unlock()
	g.staged, g.durable = found, last+1
	return nil
}

// site is a place in a program that calls the file system: what, and of which file.
func site(op errorfs.Op) string {
	name := op.Path[strings.LastIndexByte(op.Path, '/')+1:]
	switch {
	case strings.HasSuffix(name, ".log"):
		name = "segment"
	case strings.HasPrefix(name, "spare-"):
		name = "spare"
	case op.Path == "/" || !strings.Contains(name, "."):
		name = "directory"
	}
	return kindNames[op.Kind] + " " + name
}

var kindNames = map[errorfs.OpKind]string{
	errorfs.OpCreate: "create", errorfs.OpOpen: "open", errorfs.OpOpenDir: "opendir", errorfs.OpRemove: "remove", errorfs.OpRename: "rename",
	errorfs.OpMkdirAll: "mkdir", errorfs.OpList: "list", errorfs.OpFilePreallocate: "preallocate", errorfs.OpStat: "stat",
	errorfs.OpGetDiskUsage: "usage", errorfs.OpFileRead: "read", errorfs.OpFileReadAt: "read", errorfs.OpFileWrite: "write",
	errorfs.OpFileWriteAt: "write", errorfs.OpFileStat: "stat", errorfs.OpFileSync: "sync", errorfs.OpFileSyncData: "sync",
}

// sites counts what was hit, and where.
type sites struct {
	mu sync.Mutex
	n  map[string]int
}

func (s *sites) add(op errorfs.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[site(op)]++
}

func (s *sites) report(t *testing.T, what string) {
	t.Helper()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.n)) {
		fmt.Fprintf(&b, ", %s %d", name, s.n[name])
	}
	t.Logf("%s%s", what, strings.ReplaceAll(b.String(), ", ", "\n\t"))
}

// tearing is a file system of which a write may reach the disk in part. Where torn
// returns true it writes some of the sectors, calls then, and goes on with the rest.
type tearing struct {
	vfs.FS
	torn func() bool
	rand func(n int) int
	then func()
}

type tearingFile struct {
	vfs.File
	fs tearing
}

func (f tearing) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return tearingFile{file, f}, nil
}

func (f tearing) Unwrap() vfs.FS { return f.FS }

func (f tearingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.fs.torn() {
		chance := f.fs.rand(3)
		for at := int64(0); at < int64(len(p)); {
			end := min((off+at)/sectorBytes*sectorBytes+sectorBytes-off, int64(len(p)))
			if f.fs.rand(3) <= chance {
				if _, err := f.File.WriteAt(p[at:end], off+at); err != nil {
					return 0, err
				}
			}
			at = end
		}
		f.fs.then()
	}
	return f.File.WriteAt(p, off)
}

// LogCrash runs the crash suite of a store.Log: at a random call to the file system,
// often in the middle of a write, what was not synced is lost in part or in whole.
func LogCrash(t *testing.T, open OpenLog) {
	var hit sites
	for _, seed := range storetest.Seeds(t) {
		if err := logCrash(t.Context(), seed, open, &hit); err != nil {
			t.Fatalf("MACRONODE_CRASH_SEED=%d: %v", seed, err)
		}
	}
	hit.report(t, "crashes at")
}

func logCrash(ctx context.Context, seed uint64, open OpenLog, hit *sites) error {
	r := rand.New(rand.NewPCG(seed, 9))
	percent := r.IntN(5) * 25
	base, g := disk.Crashable(), newLedger()
	crashes, ops := 0, int64(0)
	for round := 0; round < 3 || crashes < 1 || ops < crashOps; round++ {
		if round > 100 {
			return fmt.Errorf("%d crashes, %d operations in %d rounds", crashes, ops, round)
		}
		c := &crashing{base: base, ledger: g, percent: percent, seed: seed*100 + uint64(round), stop: make(chan struct{})}
		at := 1 + r.Int64N(160)
		tear := r.IntN(2) == 0
		sectors := rand.New(rand.NewPCG(seed, uint64(round)))
		var calls atomic.Int64
		var armed, tore atomic.Bool
		fs := base.WithBase(func(fs vfs.FS) vfs.FS {
			return tearing{FS: fs, rand: sectors.IntN, torn: func() bool { return armed.Load() && tore.CompareAndSwap(false, true) }, then: func() { c.crash(true) }}
		}).WithFaults(func(op errorfs.Op) error {
			if n := calls.Add(1); n == at || n > at && tear && !c.done.Load() {
				if tear && op.Kind == errorfs.OpFileWriteAt {
					if armed.CompareAndSwap(false, true) {
						hit.add(op)
					}
				} else if !tear {
					hit.add(op)
					c.crash(true)
				}
			}
			return nil
		})
		l, err := open(fs)
		if err != nil {
			return fmt.Errorf("round %d: open: %w", round, err)
		}
		if !c.done.Load() { // else what is true now is not what the image holds
			if err := g.check(l); err != nil {
				return fmt.Errorf("round %d: %w", round, err)
			}
		}
		if errs := g.run(ctx, l, seed*10+uint64(round), 40, c.stop); len(errs) > 0 {
			return errors.Join(errs...)
		}
		c.crash(false)
		if err := l.Close(); err != nil {
			return fmt.Errorf("round %d: close: %w", round, err)
		}
		if c.within {
			crashes++
		}
		ops += g.ops.Load()
		base, g = c.image, c.known
	}
	l, err := open(base)
	if err != nil {
		return err
	}
	return errors.Join(g.check(l), l.Close())
}

// crashing is a crash that is to come.
type crashing struct {
	base    *disk.FS
	ledger  *ledger
	percent int
	seed    uint64
	stop    chan struct{}

	once   sync.Once
	done   atomic.Bool
	within bool // it came while the log was in use
	image  *disk.FS
	known  *ledger
}

func (c *crashing) crash(within bool) {
	c.once.Do(func() {
		c.within = within
		c.known = c.ledger.freeze(func() { c.image = c.base.Crash(c.percent, c.seed) })
		c.done.Store(true)
		close(c.stop)
	})
}
