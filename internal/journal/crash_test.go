// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
)

func openKV(t testing.TB, fs *disk.FS) *pebblekv.KV {
	t.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "/kv", BallastBytes: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func seeds(t *testing.T) int {
	if v := os.Getenv("MACRONODE_CRASH_SEEDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 25
}

// follower is a consumer that keeps what it read in the store, as an index does,
// and counts how it came.
type follower struct {
	mu   sync.Mutex
	seen map[uint64]b3.Addr
}

func stateKey(a b3.Addr) []byte { return append([]byte("state/"), a[:]...) }
func seenKey(a b3.Addr) []byte  { return append([]byte("seen/"), a[:]...) }

// follow consumes until ctx ends or the store fails.
func (f *follower) follow(ctx context.Context, kv store.KV, j *Journal) {
	p, err := j.Enroll(ctx, "f")
	if err != nil {
		return
	}
	cursor := p.Cursor
	for {
		if j.Wait(ctx, cursor) != nil {
			return
		}
		list, err := j.Read(ctx, cursor, 3)
		if err != nil {
			return
		}
		f.mu.Lock()
		for _, c := range list {
			f.seen[c.Seq] = c.Addr
		}
		f.mu.Unlock()
		// First what was made of the changes, in a commit of its own; then the place.
		if kv.Update(ctx, func(tx store.Tx) error {
			for _, c := range list {
				if err := tx.Set(seenKey(c.Addr), nil); err != nil {
					return err
				}
			}
			return nil
		}) != nil {
			return
		}
		cursor = list[len(list)-1].Seq
		if j.Advance(ctx, "f", cursor, nil) != nil {
			return
		}
	}
}

// TestCrash cuts the power while writers change things and a consumer follows. After
// the restart every change that is kept was consumed, or is in the journal.
func TestCrash(t *testing.T) {
	for seed := range seeds(t) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			crash(t, uint64(seed))
		})
	}
}

func crash(t *testing.T, seed uint64) {
	fs := disk.Crashable()
	kv := openKV(t, fs)
	j := open(t, kv, 0)
	f := &follower{seen: map[uint64]b3.Addr{}}
	if _, err := j.Enroll(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var following, writing sync.WaitGroup
	following.Go(func() { f.follow(ctx, kv, j) })
	var mu sync.Mutex
	acked := map[b3.Addr]bool{}
	var told map[b3.Addr]bool
	var after *disk.FS
	at := 5 + int(seed*13)%60
	for w := range 3 {
		writing.Go(func() {
			for i := range 30 {
				addr := b3.Sum(binary.BigEndian.AppendUint64(nil, seed<<32|uint64(w)<<16|uint64(i)))
				err := kv.Update(ctx, func(tx store.Tx) error {
					if err := tx.Set(stateKey(addr), nil); err != nil {
						return err
					}
					return j.Record(tx, Change{Tenant: tenant(byte(w + 1)), Kind: ObjectPut, Addr: addr})
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if acked[addr] = true; len(acked) == at {
					told = make(map[b3.Addr]bool, len(acked))
					for a := range acked {
						told[a] = true
					}
					after = fs.Crash(int(seed%3)*50, seed)
				}
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	cancel()
	following.Wait()
	checkAfter(t, after, told, f)
}

// checkAfter looks at what a crash left.
func checkAfter(t *testing.T, fs *disk.FS, told map[b3.Addr]bool, f *follower) {
	kv := openKV(t, fs)
	j := open(t, kv, 0)
	p, err := j.Enroll(t.Context(), "f")
	if err != nil || p.New {
		t.Fatal("the place is gone", err)
	}
	list := read(t, j, p.Cursor)
	waiting := map[b3.Addr]bool{}
	for _, c := range list {
		waiting[c.Addr] = true
		if had, ok := f.seen[c.Seq]; ok && had != c.Addr {
			t.Errorf("number %d was read as one change before the crash and is another now", c.Seq)
		}
	}
	state := map[b3.Addr]bool{}
	err = kv.View(t.Context(), func(r store.Reader) error {
		clear(state)
		if err := r.Scan([]byte("state/"), []byte("state0"), func(key, _ []byte) bool {
			state[b3.Addr(key[len("state/"):])] = true
			return true
		}); err != nil {
			return err
		}
		for a := range state {
			if _, err := r.Get(seenKey(a)); errors.Is(err, store.ErrNotFound) && !waiting[a] {
				t.Errorf("the change of %s is kept, was not consumed, and is not in the journal", a)
			}
		}
		for a := range waiting {
			if !state[a] {
				t.Errorf("%s is in the journal and did not change", a)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for a := range told {
		if !state[a] {
			t.Errorf("%s was acknowledged and is gone", a)
		}
	}
	before := j.Head()
	record(t, kv, j, put(9))
	if last := read(t, j, before); len(last) != 1 {
		t.Errorf("a change after the crash is not beyond the head: %d", len(last))
	}
}
