// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// TestKill kills the node with -9 in the middle of a load of puts and deletes,
// again and again: what was acknowledged is there and right, what was
// acknowledged as deleted is gone, and nothing half-written is visible.
// MACRONODE_KILL_ROUNDS sets the number of rounds.
func TestKill(t *testing.T) {
	rounds := envInt(t, "MACRONODE_KILL_ROUNDS", 10)
	n := startDev(t, t.TempDir())
	world := &world{bytes: make(map[b3.Addr]seeded)}
	for round := range rounds {
		world.load(t, n, uint64(round))
		n.start()
		world.check(t, n)
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, n.log)
		}
	}
	t.Logf("%d rounds, %d objects put, %d deleted", rounds, world.puts, world.deletes)
}

// seeded is an object that can be made again.
type seeded struct {
	seed uint64
	size int
	// state is what the node acknowledged last; unsure: an answer was lost.
	state
}

type state uint8

const (
	present state = iota
	absent
	unsure
)

func content(seed uint64, size int) []byte {
	p := make([]byte, size)
	var key [32]byte
	copy(key[:], fmt.Sprintf("%032d", seed))
	rand.NewChaCha8(key).Read(p)
	return p
}

// world is what the node must hold.
type world struct {
	mu            sync.Mutex
	bytes         map[b3.Addr]seeded
	puts, deletes int
}

func (w *world) dial(t *testing.T, n *node) *client.Client {
	t.Helper()
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(n.HTTP, client.Options{Token: strings.TrimSpace(string(token)), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// load writes from eight clients until the node was killed under them.
func (w *world) load(t *testing.T, n *node, round uint64) {
	c := w.dial(t, n)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var done atomic.Int64
	rnd := rand.New(rand.NewPCG(round, 7))
	kill := 50 + rnd.Int64N(400) // after so many acknowledged changes
	var once sync.Once
	for worker := range uint64(8) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(round, worker+100))
			for ctx.Err() == nil {
				if err := w.step(ctx, c, rnd); err != nil {
					return // the node is gone
				}
				if done.Add(1) >= kill {
					once.Do(n.kill)
				}
			}
		})
	}
	wg.Wait()
}

// sizes lie on both sides of every border that the store has.
var sizes = []int{0, 1, 1023, 1024, 16383, 16384, 16385, 65536, 200_000, 1 << 20}

func (w *world) step(ctx context.Context, c *client.Client, rnd *rand.Rand) error {
	if rnd.IntN(5) == 0 {
		if addr, ok := w.pick(present); ok {
			err := c.Delete(ctx, addr)
			w.settle(addr, absent, err)
			return err
		}
	}
	s := seeded{seed: rnd.Uint64(), size: sizes[rnd.IntN(len(sizes))]}
	p := content(s.seed, s.size)
	addr := b3.Sum(p)
	w.mu.Lock()
	if s.size == 0 { // one address for all: other workers may be at it
		w.mu.Unlock()
		_, err := c.Put(ctx, bytes.NewReader(p), client.PutOptions{})
		return err
	}
	s.state = unsure
	w.bytes[addr] = s
	w.mu.Unlock()
	_, err := c.Put(ctx, bytes.NewReader(p), client.PutOptions{})
	w.settle(addr, present, err)
	return err
}

// pick takes an object of the given state and makes it unsure.
func (w *world) pick(want state) (b3.Addr, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, s := range w.bytes {
		if s.state == want {
			s.state = unsure
			w.bytes[addr] = s
			return addr, true
		}
	}
	return b3.Addr{}, false
}

func (w *world) settle(addr b3.Addr, to state, err error) {
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.bytes[addr]
	s.state = to
	w.bytes[addr] = s
	if to == present {
		w.puts++
	} else {
		w.deletes++
	}
}

// check reads everything back and settles what was unsure by what is there.
func (w *world) check(t *testing.T, n *node) {
	t.Helper()
	c := w.dial(t, n)
	defer c.Close()
	listed := make(map[b3.Addr]int64)
	for cursor := ""; ; {
		page, err := c.List(t.Context(), "", cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			listed[o.Addr] = o.Size
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	var stored, objects int64
	for addr, size := range listed {
		stored += size
		objects++
		if _, known := w.bytes[addr]; !known && size != 0 {
			t.Errorf("%s is there and was never put", addr)
		}
	}
	for addr, s := range w.bytes {
		_, there := listed[addr]
		if s.state == present && !there {
			t.Errorf("%s (%d bytes) was acknowledged and is gone", addr, s.size)
		}
		if s.state == absent && there {
			t.Errorf("%s was deleted and is back", addr)
		}
		var got bytes.Buffer
		_, err := c.Get(t.Context(), addr, &got, client.GetOptions{})
		if there && (err != nil || !bytes.Equal(got.Bytes(), content(s.seed, s.size))) {
			t.Errorf("%s: %v, %d of %d bytes", addr, err, got.Len(), s.size)
		}
		if !there && err == nil {
			t.Errorf("%s is not listed and can be read", addr)
		}
		s.state = absent
		if there {
			s.state = present
		}
		w.bytes[addr] = s
	}
	var usage struct {
		StoredBytes int64 `json:"stored_bytes"`
		Objects     int64 `json:"objects"`
	}
	if err := json.Unmarshal([]byte(n.operate("tenant", "usage", "dev", "--output", "json").must(t, 0).out), &usage); err != nil {
		t.Fatal(err)
	}
	if usage.StoredBytes != stored || usage.Objects != objects {
		t.Errorf("usage says %d objects of %d bytes, the list %d of %d", usage.Objects, usage.StoredBytes, objects, stored)
	}
}
