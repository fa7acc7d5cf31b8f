// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// TestKill kills the node with -9 in the middle of a load of puts, deletes and
// puts again of what is there or was deleted, most of it small, again and again:
// what was acknowledged is there and right, what was acknowledged as deleted is
// gone, and nothing half-written is visible.
// MACRONODE_KILL_ROUNDS sets the number of rounds.
func TestKill(t *testing.T) {
	rounds := envInt(t, "MACRONODE_KILL_ROUNDS", 10)
	n := startDev(t, t.TempDir())
	world := newWorld("dev")
	for round := range rounds {
		world.load(t, n, uint64(round))
		n.start()
		world.check(t, n)
		if t.Failed() {
			t.Fatalf("round %d\n%s", round, n.log)
		}
	}
	t.Logf("%d rounds, %d objects put, %d deleted, %d put again", rounds, world.puts, world.deletes, world.again)
	if world.puts < rounds || world.deletes == 0 || world.again == 0 {
		t.Error("the load was none")
	}
}

// seeded is an object that can be made again.
type seeded struct {
	seed uint64
	size int
	// state is what the node acknowledged last; unsure: an answer was lost.
	state
	// gone: it was asked for and not there. From then on the list is enough.
	gone bool
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

// world is what the node must hold for a tenant.
type world struct {
	tenant               string
	mu                   sync.Mutex
	bytes                map[b3.Addr]seeded
	puts, deletes, again int
}

func newWorld(tenant string) *world {
	return &world{tenant: tenant, bytes: make(map[b3.Addr]seeded)}
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
var sizes = []int{0, 1, 1023, 1024, 16383, 16384, 16385, 65536, 131071, 131072, 131073, 200_000, 1 << 20}

// anySize is small for two of three.
func anySize(rnd *rand.Rand) int {
	if rnd.IntN(3) > 0 {
		return 1 + rnd.IntN(8<<10)
	}
	return sizes[rnd.IntN(len(sizes))]
}

func (w *world) step(ctx context.Context, c *client.Client, rnd *rand.Rand) error {
	switch rnd.IntN(10) {
	case 0, 1:
		if addr, s, ok := w.pick(present); ok {
			return w.drop(ctx, c, addr, s)
		}
	case 2:
		if addr, s, ok := w.pick(present); ok {
			return w.repeat(ctx, c, addr, s)
		}
	case 3:
		if _, s, ok := w.pick(absent); ok {
			return w.put(ctx, c, s)
		}
	}
	s := seeded{seed: rnd.Uint64(), size: anySize(rnd), state: absent}
	if s.size == 0 { // one address for all: other workers may be at it
		return patiently(ctx, func() error {
			_, err := c.Put(ctx, bytes.NewReader(nil), client.PutOptions{})
			return err
		})
	}
	return w.put(ctx, c, s)
}

// patiently repeats a call while the node sheds load, which it may do where its
// processors are short: nothing was done then. All else is the caller's, who
// dialled without retries to see it.
func patiently(ctx context.Context, call func() error) error {
	for {
		err := call()
		var p *client.Error
		if !errors.As(err, &p) || p.Code != "overload" {
			return err
		}
		select {
		case <-time.After(p.RetryAfter):
		case <-ctx.Done():
			return err
		}
	}
}

// put stores an object that is not there.
func (w *world) put(ctx context.Context, c *client.Client, s seeded) error {
	p := content(s.seed, s.size)
	addr := b3.Sum(p)
	w.mu.Lock()
	s.state, s.gone = unsure, false
	w.bytes[addr] = s
	w.mu.Unlock()
	err := patiently(ctx, func() error {
		_, err := c.Put(ctx, bytes.NewReader(p), client.PutOptions{})
		return err
	})
	w.settle(addr, present, absent, err)
	if err == nil {
		w.mu.Lock()
		w.puts++
		w.mu.Unlock()
	}
	return err
}

// repeat puts what is there already, and stays there whatever becomes of that. It
// says which address: then not even a full quota refuses it.
func (w *world) repeat(ctx context.Context, c *client.Client, addr b3.Addr, s seeded) error {
	err := patiently(ctx, func() error {
		_, err := c.Put(ctx, bytes.NewReader(content(s.seed, s.size)), client.PutOptions{Addr: addr})
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	s.state = present
	w.bytes[addr] = s
	w.again++
	return err
}

// drop deletes an object that is there.
func (w *world) drop(ctx context.Context, c *client.Client, addr b3.Addr, s seeded) error {
	err := patiently(ctx, func() error { return c.Delete(ctx, addr) })
	w.settle(addr, absent, present, err)
	if err == nil {
		w.mu.Lock()
		w.deletes++
		w.mu.Unlock()
	}
	return err
}

// pick takes an object of the given state and makes it unsure, so that nobody else
// takes it.
func (w *world) pick(want state) (b3.Addr, seeded, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, s := range w.bytes {
		if s.state == want {
			s.state = unsure
			w.bytes[addr] = s
			return addr, s, true
		}
	}
	return b3.Addr{}, seeded{}, false
}

// settle notes the outcome: to where it was done, from where it was refused. No
// answer, or a fault of the node, leaves it unsure.
func (w *world) settle(addr b3.Addr, to, from state, err error) {
	var refusal *client.Error
	switch {
	case err == nil:
	case errors.As(err, &refusal) && (refusal.Status/100 == 4 || refusal.Status == 507):
		to = from
	default:
		to = unsure
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.bytes[addr]
	s.state = to
	w.bytes[addr] = s
}

// count returns how many objects are in the state.
func (w *world) count(want state) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.bytes {
		if s.state == want {
			n++
		}
	}
	return n
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
		if s.gone && !there {
			continue
		}
		var got bytes.Buffer
		_, err := c.Get(t.Context(), addr, &got, client.GetOptions{})
		if there && (err != nil || !bytes.Equal(got.Bytes(), content(s.seed, s.size))) {
			t.Errorf("%s: %v, %d of %d bytes", addr, err, got.Len(), s.size)
		}
		if !there && err == nil {
			t.Errorf("%s is not listed and can be read", addr)
		}
		s.state, s.gone = absent, !there
		if there {
			s.state = present
		}
		w.bytes[addr] = s
	}
	var usage struct {
		StoredBytes int64 `json:"stored_bytes"`
		Objects     int64 `json:"objects"`
	}
	if err := json.Unmarshal([]byte(n.operate("tenant", "usage", w.tenant, "--output", "json").must(t, 0).out), &usage); err != nil {
		t.Fatal(err)
	}
	if usage.StoredBytes != stored || usage.Objects != objects {
		t.Errorf("usage says %d objects of %d bytes, the list %d of %d", usage.Objects, usage.StoredBytes, objects, stored)
	}
}
