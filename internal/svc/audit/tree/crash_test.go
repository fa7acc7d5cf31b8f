// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/tlog"
)

// strike fails calls of the disk from a certain one on. Stores call it from
// goroutines of their own too.
type strike struct {
	mu    sync.Mutex
	calls int64
	at    int64 // number of the first call that fails; 0: none
	n     int64 // how many fail
	err   error
	// opening: the stores are being opened.
	opening bool
	hits    map[errorfs.OpKind]int
}

func (f *strike) arm(at, n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.at, f.n, f.err = 0, at, n, err
}

func (f *strike) open(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = now
}

func (f *strike) seen() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *strike) inject(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.at == 0 || f.calls < f.at || f.calls >= f.at+f.n {
		return nil
	}
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead && f.err == syscall.ENOSPC {
		return nil // reading needs no space
	}
	if strings.HasPrefix(op.Path, "/meta") && (f.opening || op.Kind.ReadOrWrite() == errorfs.OpIsRead) {
		return nil // there the database panics, which ends the process: a crash
	}
	f.hits[op.Kind]++
	return f.err
}

// sim is a log on a disk that fails and loses power, with what was said of it.
type sim struct {
	tb
	rng    *rand.Rand
	fs     *disk.FS
	strike *strike
	*Tree
	log *seglog.Log
	kv  *pebblekv.KV

	made  [][]byte // entries that Add returned, durable or not
	acked int      // of them, those that Sync made durable
	// signed has the root of each size that the key ever signed, seen or not.
	signed    map[uint64]tlog.Hash
	steady    bool   // the power stays
	published uint64 // size of the newest checkpoint that Publish said is kept
}

func newSim(t tb, seed uint64, hits map[errorfs.OpKind]int) *sim {
	s := &sim{tb: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: disk.Crashable(), strike: &strike{hits: hits}, signed: map[uint64]tlog.Hash{}}
	must(t, s.open())
	return s
}

// open opens everything on the disk as it is.
func (s *sim) open() (err error) {
	fs := s.fs.WithFaults(s.strike.inject)
	s.strike.open(true)
	defer s.strike.open(false)
	s.log, s.kv, s.Tree = nil, nil, nil
	if s.kv, err = pebblekv.Open(pebblekv.Config{FS: fs, Dir: "/meta", MemTableBytes: 64 << 10, BallastBytes: -1}); err != nil {
		return err
	}
	if s.log, _, err = seglog.Open(seglog.Config{FS: fs, Dir: "/audit/log", SegmentBytes: seglog.MinSegmentBytes}); err == nil {
		s.Tree, _, err = Open(context.Background(), Config{Log: s.log, KV: s.kv, Writer: writer}, key())
	}
	if err != nil {
		s.close()
	}
	return err
}

func (s *sim) close() {
	if s.log != nil {
		_ = s.log.Close()
	}
	if s.kv != nil {
		_ = s.kv.Close()
	}
	s.log, s.kv = nil, nil
}

func (s *sim) add() {
	n := len(s.made)
	r := &tlog.Record{TSMilli: 1767225600000 + int64(n), Stream: streams[s.rng.IntN(len(streams))], Kind: "cap.mint", Actor: "node", Subject: fmt.Sprint("object/", s.rng.Uint64()),
		Attrs: tlog.Attrs{"x": strings.Repeat("x", s.rng.IntN(600))}}
	entry, err := s.Add(r, s.rng.IntN(2) == 0)
	if err != nil {
		return // it was not added
	}
	s.made = append(s.made, entry)
}

// sign notes what the key signs: of one size never two trees.
func (s *sim) sign(ctx context.Context, text string) ([]byte, error) {
	c, err := tlog.ParseCheckpoint(text)
	if err != nil {
		s.Fatal(err)
	}
	if root, ok := s.signed[c.Size]; ok && root != c.Root {
		s.Fatalf("two trees of %d records are signed", c.Size)
	}
	s.signed[c.Size] = c.Root
	return sign(ctx, text)
}

// play does n things at random; an error means that the log must be opened again.
func (s *sim) play(n int) error {
	for range n {
		switch x := s.rng.IntN(100); {
		case x < 50:
			for range 1 + s.rng.IntN(20) {
				s.add()
			}
		case x < 75:
			if err := s.Sync(context.Background()); err != nil {
				return err
			}
			s.acked = len(s.made)
		case x < 85:
			if err := s.Flush(context.Background()); err != nil {
				return s.kv.Check(context.Background())
			}
		case x < 97 || s.steady:
			err := s.Publish(context.Background(), []tlog.Key{key()}, s.sign)
			if err == nil {
				s.published = s.Published().Size
			} else if err := s.kv.Check(context.Background()); err != nil {
				return err
			}
		default:
			return errors.New("the power goes")
		}
	}
	return nil
}

// again opens the log after a power cut, or, where only the service failed, on the
// disk as it is, with the next fault armed; where that strikes the opening, once more.
func (s *sim) again() {
	s.Helper()
	s.strike.arm(0, 0, nil)
	for try := range 4 {
		// A database that failed ends the process.
		if try > 0 || s.kv.Check(context.Background()) != nil || s.rng.IntN(3) > 0 {
			fs := s.fs.Crash(s.rng.IntN(101), s.rng.Uint64())
			s.close()
			s.fs = fs
		} else {
			s.close()
		}
		at, n, fails := int64(0), int64(1), error(syscall.EIO)
		if s.rng.IntN(4) > 0 {
			if at = 1 + s.rng.Int64N(80); s.rng.IntN(2) == 0 {
				n, fails = 1+s.rng.Int64N(20), syscall.ENOSPC
			}
		}
		s.strike.arm(at, n, fails)
		err := s.open()
		if err == nil {
			s.look()
			return
		}
		if at == 0 {
			s.Fatalf("an opening without a fault: %v", err)
		}
	}
	s.calm()
}

// calm opens the log without a fault.
func (s *sim) calm() {
	s.Helper()
	s.strike.arm(0, 0, nil)
	fs := s.fs.Crash(50, s.rng.Uint64())
	s.close()
	s.fs = fs
	if err := s.open(); err != nil {
		s.Fatalf("%d records were acknowledged: %v", s.acked, err)
	}
	s.look()
}

// look compares what the log holds with what was said: nothing that was acknowledged is
// lost or another, what was signed is a beginning of it, and what was published stays so.
func (s *sim) look() {
	s.Helper()
	n := int(s.Durable())
	if n < s.acked {
		s.Fatalf("%d records were acknowledged, %d are there", s.acked, n)
	}
	if n > len(s.made) {
		s.Fatalf("%d records were made, %d are there", len(s.made), n)
	}
	// What nobody was promised may be gone; what is there now stays.
	s.made, s.acked = s.made[:n], n
	var front tlog.Frontier
	for i := range n {
		entry, err := s.Entry(context.Background(), uint64(i))
		if err != nil {
			if s.strike.seen() >= s.strike.at && s.strike.at > 0 {
				return // the fault struck the reading; the next opening looks again
			}
			s.Fatal(err)
		}
		if !bytes.Equal(entry, s.made[i]) {
			s.Fatalf("record %d is another", i)
		}
		front.Add(tlog.LeafHash(entry), nil)
		if root, ok := s.signed[uint64(i)+1]; ok && front.Root() != root {
			s.Fatalf("the tree of %d records is not the one that was signed", i+1)
		}
	}
	for size := range s.signed {
		if size > uint64(n) {
			s.Fatalf("a tree of %d records was signed, %d are there", size, n)
		}
	}
	if p := s.Published(); s.published > 0 && (p == nil || p.Size < s.published) {
		s.Fatalf("a checkpoint of %d records was published, and is forgotten", s.published)
	}
}

// end reads and proves everything.
func (s *sim) end() {
	s.Helper()
	s.calm()
	must(s.tb, s.Sync(context.Background()))
	must(s.tb, s.Flush(context.Background()))
	if s.Size() > 0 {
		must(s.tb, s.Publish(context.Background(), []tlog.Key{key()}, s.sign))
	}
	must(s.tb, s.Verify(context.Background(), nil))
	s.close()
}

// TestCrashes: power cuts with torn writes, and errors at any call of the disk, while
// records are added, made durable, signed and indexed.
func TestCrashes(t *testing.T) {
	seeds, hits, signed, records := uint64(40), map[errorfs.OpKind]int{}, 0, 0
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		s := newSim(named{t, strconv.FormatUint(seed, 10)}, seed, hits)
		for range 6 {
			_ = s.play(120)
			s.again()
		}
		s.end()
		signed, records = signed+len(s.signed), records+s.acked
	}
	t.Logf("%d seeds, %d records, %d checkpoints; faults by call: %v", seeds, records, signed, hits)
	if len(hits) < 3 || signed < int(seeds) || records < 100*int(seeds) {
		t.Errorf("too little was tried: %d records, %d checkpoints, %v", records, signed, hits)
	}
}

// TestEveryCallFails walks one script with a fault at each of its calls in turn.
func TestEveryCallFails(t *testing.T) {
	hits, step := map[errorfs.OpKind]int{}, int64(1)
	if testing.Short() {
		step = 7
	}
	for at := int64(1); ; at += step {
		s := newSim(named{t, strconv.FormatInt(at, 10)}, 3, hits)
		s.steady = true
		s.strike.arm(at, 1, syscall.EIO)
		if at%2 == 0 {
			s.strike.arm(at, 3, syscall.ENOSPC)
		}
		_ = s.play(100)
		over := s.strike.seen() < at
		s.rng = rand.New(rand.NewPCG(uint64(at), 1))
		s.again()
		s.end()
		if over || at > 600 {
			t.Logf("%d calls; faults by call: %v", at, hits)
			return
		}
	}
}

// named says with which seed a test failed.
type named struct {
	*testing.T
	seed string
}

func (n named) Fatal(args ...any) {
	n.Helper()
	n.T.Fatal(append([]any{"seed " + n.seed + ": "}, args...)...)
}

func (n named) Fatalf(format string, args ...any) {
	n.Helper()
	n.T.Fatalf("seed "+n.seed+": "+format, args...)
}
