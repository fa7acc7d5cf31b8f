// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/fileobj"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/fsck"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// smallPacks are full after a few objects.
const smallPacks = 128 << 10

// diskEnv opens the drivers of a node on fs.
func diskEnv(t testing.TB, fs *disk.FS, packBytes int64) storagetest.Env {
	t.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "/kv", BallastBytes: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := fileobj.Open(fileobj.Config{FS: fs, Dir: "/objects", PackBytes: packBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = objects.Close()
		_ = kv.Close()
	})
	return storagetest.Env{KV: kv, Objects: objects, Admit: admit}
}

func TestSuiteOnDisk(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Env { return diskEnv(t, disk.Mem(), smallPacks) })
}

// op is one call of a worker. Each object has one worker, which acts on it in turn.
type op struct {
	addr string
	put  bool
	key  string
}

// ledger is what clients began, and what they were told.
type ledger struct {
	mu     sync.Mutex
	bodies map[string][]byte
	begun  map[string]int // ops per address
	told   map[string]int
	ops    map[string][]op
}

func (l *ledger) begin(o op, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies[o.addr] = body
	l.begun[o.addr]++
	l.ops[o.addr] = append(l.ops[o.addr], o)
}

func (l *ledger) end(o op) (total int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[o.addr]++
	for _, n := range l.told {
		total += n
	}
	return total
}

// tolds copies what was told by now.
func (l *ledger) tolds() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(map[string]int, len(l.told))
	for k, v := range l.told {
		c[k] = v
	}
	return c
}

func (l *ledger) begins() map[string][]op {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(map[string][]op, len(l.ops))
	for k, v := range l.ops {
		c[k] = append([]op(nil), v...)
	}
	return c
}

const (
	crashWorkers = 3
	crashOps     = 25 // a worker
)

// run makes the workers' calls; crash is called in the middle of them.
func (l *ledger) run(t *testing.T, d *storagetest.Driver, tn *macronode.Tenant, seed uint64, crash func()) {
	at := 1 + int(seed*7)%(crashWorkers*crashOps-5)
	var once sync.Once
	var wg sync.WaitGroup
	for w := range crashWorkers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range crashOps {
				n := 1 + r.IntN(5000)
				if r.IntN(8) == 0 {
					n = 60_000 + r.IntN(100_000)
				}
				// A few objects a worker, so that they come, go and come again.
				body := storagetest.Bytes(n/1000+w*10_000+r.IntN(3)*100, uint64(w))
				o := op{addr: storagetest.Addr(body), put: r.IntN(3) > 0, key: fmt.Sprintf("w%d-%d", w, i)}
				l.begin(o, body)
				if err := l.call(d, tn, o, body); err != nil {
					t.Errorf("%+v: %v", o, err)
					return
				}
				if l.end(o) >= at {
					once.Do(crash)
				}
			}
		})
	}
	wg.Wait()
	once.Do(crash)
}

func (l *ledger) call(d *storagetest.Driver, tn *macronode.Tenant, o op, body []byte) error {
	r := storagetest.Request{Tenant: tn, Op: "object.delete", Addr: o.addr, Key: o.key}
	if o.put {
		r.Op, r.Body = "object.put", body
	}
	_, err := d.Do(r)
	if err != nil && macronode.KindOf(err) == macronode.NotFound {
		return nil
	}
	return err
}

// Power is lost at some moment of a load. What was acknowledged is there, what
// was not is there whole or not at all, the accounts agree with what is there,
// nothing else takes space, and retries are answered as the first call was.
func TestCrash(t *testing.T) {
	rounds := uint64(12)
	if testing.Short() {
		rounds = 3
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			tn := storagetest.Tenant(1)
			fs := disk.Crashable()
			d := storagetest.NewDriver(t, diskEnv(t, fs, smallPacks))
			d.Serve()
			if seed%2 == 1 { // a collection may be cut anywhere too
				defer collectAllTheWhile(t, d)()
			}
			l := &ledger{bodies: map[string][]byte{}, begun: map[string]int{}, told: map[string]int{}, ops: map[string][]op{}}
			var after *disk.FS
			var told map[string]int
			var begun map[string][]op
			l.run(t, d, tn, seed, func() {
				told = l.tolds()
				after = fs.Crash([]int{0, 30, 70, 100}[seed%4], seed)
				begun = l.begins()
			})
			env := diskEnv(t, after, smallPacks)
			checkWhole(t, env)
			checkCrash(t, storagetest.NewDriver(t, env), tn, l, told, begun)
		})
	}
}

// collectAllTheWhile does one collection after the other until the returned
// function is called.
func collectAllTheWhile(t *testing.T, d *storagetest.Driver) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if _, err := d.Service.Collect(ctx, collect.Options{Share: true}); err != nil && ctx.Err() == nil {
				t.Errorf("collection: %v", err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// checkWhole checks all that is stored: a crash leaves nothing but bytes that
// nobody refers to.
func checkWhole(t *testing.T, e storagetest.Env) {
	t.Helper()
	r, err := fsck.Check(t.Context(), e.KV, e.Objects, fsck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.Left != r.Counts[fsck.Unreferenced] {
		t.Fatalf("after the crash: %v", r.Findings)
	}
}

func checkCrash(t *testing.T, d *storagetest.Driver, tn *macronode.Tenant, l *ledger, told map[string]int, begun map[string][]op) {
	t.Helper()
	present := map[string]bool{}
	for addr, ops := range begun {
		a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr})
		if err != nil && macronode.KindOf(err) != macronode.NotFound {
			t.Fatalf("%s: %v", addr, err)
		}
		present[addr] = err == nil
		if err == nil && !bytes.Equal(a.Body, l.bodies[addr]) {
			t.Fatalf("%s: other bytes", addr)
		}
		n := told[addr]
		if n == len(ops) && present[addr] != ops[n-1].put {
			t.Fatalf("%s: present %v after %+v", addr, present[addr], ops[n-1])
		}
		// Of the call under way, the change and its idempotency record are
		// one: a retry is a replay exactly where the change was made.
		if n < len(ops) && n+1 == len(ops) {
			o, was := ops[n], n > 0 && ops[n-1].put
			r := storagetest.Request{Tenant: tn, Op: "object.delete", Addr: addr, Key: o.key}
			if o.put {
				r.Op, r.Body = "object.put", l.bodies[addr]
			}
			a, err := d.Do(r)
			replayed := err == nil && a.Header.Get("Idempotency-Replayed") == "true"
			if was != o.put && replayed != (present[addr] == o.put) {
				t.Fatalf("%s: %+v was made: %v, replayed: %v (%v)", addr, o, present[addr] == o.put, replayed, err)
			}
			present[addr] = o.put
		}
		if n > 0 {
			o := ops[n-1]
			r := storagetest.Request{Tenant: tn, Op: "object.delete", Addr: addr, Key: o.key}
			if o.put {
				r.Op, r.Body = "object.put", l.bodies[addr]
			}
			if a, err := d.Do(r); err != nil || a.Header.Get("Idempotency-Replayed") != "true" {
				t.Fatalf("%s: acknowledged %+v is not replayed: %v", addr, o, err)
			}
		}
	}
	checkAccounts(t, d, tn, present)
}

// checkAccounts compares list, usage and stored bytes with what is present.
func checkAccounts(t *testing.T, d *storagetest.Driver, tn *macronode.Tenant, present map[string]bool) {
	t.Helper()
	a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.list", Query: "limit=1000"})
	if err != nil {
		t.Fatal(err)
	}
	var page storage.List
	if err := json.Unmarshal(a.Body, &page); err != nil {
		t.Fatal(err)
	}
	var total int64
	listed := 0
	for _, e := range page.Objects {
		if !present[e.Addr] {
			t.Fatalf("%s is listed and not present", e.Addr)
		}
		total += e.Size
		listed++
	}
	for _, ok := range present {
		if ok {
			listed--
		}
	}
	if b, o := d.Usage(tn); listed != 0 || b != total || o != int64(len(page.Objects)) {
		t.Fatalf("usage is %d bytes, %d objects; listed are %d and %d", b, o, total, len(page.Objects))
	}
	d.Serve()
	storagetest.Eventually(t, func() bool { return d.Stored() == len(page.Objects) })
}
