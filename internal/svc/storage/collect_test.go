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
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/collect"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// packedEnv keeps small objects in packs of packBytes.
func packedEnv(t testing.TB, packBytes int64) storagetest.Env {
	e := storagetest.Env{KV: mem.NewKV(mem.KVConfig{}), Objects: mem.NewObjects(mem.ObjectsConfig{PackBytes: packBytes}), Admit: admit}
	t.Cleanup(func() {
		_ = e.KV.Close()
		_ = e.Objects.Close()
	})
	return e
}

// quiet keeps background passes out of a test that does its own.
func quiet(c *storage.Config) { c.CollectEvery, c.ScrubRate = -1, -1 }

func collectNow(t testing.TB, d *storagetest.Driver, body string) collect.Report {
	t.Helper()
	a, err := d.Do(storagetest.Request{Tenant: storagetest.Tenant(0), Op: "admin.collect", Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	var r collect.Report
	if err := json.Unmarshal(a.Body, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func item(r collect.Report, reason string) collect.Item {
	for _, i := range r.Items {
		if i.Reason == reason {
			return i
		}
	}
	return collect.Item{Reason: "none"}
}

func mustGet(t testing.TB, d *storagetest.Driver, tn *macronode.Tenant, body []byte) {
	t.Helper()
	a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: storagetest.Addr(body)})
	if err != nil || !bytes.Equal(a.Body, body) {
		t.Fatalf("get of %d bytes: %v", len(body), err)
	}
}

func mustDrop(t testing.TB, d *storagetest.Driver, tn *macronode.Tenant, body []byte) {
	t.Helper()
	if _, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.delete", Addr: storagetest.Addr(body)}); err != nil {
		t.Fatal(err)
	}
}

func volumes(t testing.TB, o store.Objects) (live, dead int64, n int) {
	t.Helper()
	list, err := o.Volumes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		live, dead = live+v.Live, dead+v.Dead
	}
	return live, dead, len(list)
}

// Packs that are mostly dead are emptied, and everything in them stays readable.
func TestCollectMoves(t *testing.T) {
	d, tn := storagetest.NewDriver(t, packedEnv(t, 100_000), quiet), storagetest.Tenant(1)
	d.Serve()
	var kept, gone [][]byte
	for i := range 400 {
		body := storagetest.Bytes(1000, uint64(i))
		d.MustPut(tn, body)
		if i%5 == 0 {
			kept = append(kept, body)
		} else {
			gone = append(gone, body)
		}
	}
	for _, body := range gone {
		mustDrop(t, d, tn, body)
	}
	storagetest.Eventually(t, func() bool { return d.Stored() == len(kept) })
	_, dead, _ := volumes(t, d.Env.Objects)
	if dead < 250_000 {
		t.Fatalf("%d bytes are dead", dead)
	}
	dry := collectNow(t, d, `{"dry_run":true}`)
	if i := item(dry, collect.Sparse); !dry.DryRun || i.Objects < 60 || i.Bytes != i.Objects*1000 || len(dry.Moves) != 4 {
		t.Fatalf("dry run: %+v", dry)
	}
	if _, still, _ := volumes(t, d.Env.Objects); still != dead {
		t.Fatal("a dry run moved something")
	}
	real := collectNow(t, d, "")
	if item(real, collect.Sparse) != item(dry, collect.Sparse) {
		t.Fatalf("did %+v, would have done %+v", real.Items, dry.Items)
	}
	storagetest.Eventually(t, func() bool { _, dead, _ := volumes(t, d.Env.Objects); return dead < 50_000 })
	for _, body := range kept {
		mustGet(t, d, tn, body)
	}
	storagetest.Eventually(t, func() bool { return d.Stored() == len(kept) })
	d.Index()
	if b, o := d.Usage(tn); b != int64(len(kept))*1000 || o != int64(len(kept)) {
		t.Fatalf("usage %d, %d", b, o)
	}
}

// Tenants share bytes only after a collection, and nothing else of them.
func TestCollectShares(t *testing.T) {
	d := storagetest.NewDriver(t, memEnv(t), quiet)
	d.Serve()
	one, two, three := storagetest.Tenant(1), storagetest.Tenant(2), storagetest.Tenant(3)
	big, small := storagetest.Bytes(200_000, 1), storagetest.Bytes(100, 2)
	for _, tn := range []*macronode.Tenant{one, two, three} {
		d.MustPut(tn, big)
		d.MustPut(tn, small)
	}
	if d.Stored() != 6 {
		t.Fatalf("%d objects are stored: bytes were shared at once", d.Stored())
	}
	if r := collectNow(t, d, `{"share":false}`); item(r, collect.Duplicate).Objects != 0 {
		t.Fatalf("%+v", r)
	}
	if i := item(collectNow(t, d, `{"dry_run":true}`), collect.Duplicate); i.Objects != 2 || i.Bytes != 400_000 {
		t.Fatalf("%+v", i)
	}
	if i := item(collectNow(t, d, ""), collect.Duplicate); i.Objects != 2 || i.Bytes != 400_000 {
		t.Fatalf("%+v", i)
	}
	storagetest.Eventually(t, func() bool { return d.Stored() == 4 })
	for _, tn := range []*macronode.Tenant{one, two, three} {
		mustGet(t, d, tn, big)
		if b, o := d.Usage(tn); b != 200_100 || o != 2 {
			t.Fatalf("usage %d, %d", b, o)
		}
	}
	// A delete, and a put, concern the caller's reference alone.
	mustDrop(t, d, one, big)
	if a, err := d.Do(storagetest.Request{Tenant: two, Op: "object.post", Body: big}); err != nil || a.Status != 200 {
		t.Fatal(err, a)
	}
	storagetest.Eventually(t, func() bool { return d.Stored() == 5 })
	if a, err := d.Do(storagetest.Request{Tenant: one, Op: "object.post", Body: big}); err != nil || a.Status != 201 {
		t.Fatal(err, a)
	}
	mustDrop(t, d, three, big)
	for _, tn := range []*macronode.Tenant{one, two} {
		mustGet(t, d, tn, big)
		mustDrop(t, d, tn, big)
	}
	storagetest.Eventually(t, func() bool { return d.Stored() == 3 })
}

// A copy that is damaged is mended by another tenant's that is not.
func TestCollectHeals(t *testing.T) {
	e := memEnv(t)
	objects := &faultObjects{Objects: e.Objects}
	e.Objects = objects
	d, one, two := storagetest.NewDriver(t, e, quiet), storagetest.Tenant(1), storagetest.Tenant(2)
	d.Serve()
	body := storagetest.Bytes(50_000, 1)
	d.MustPut(one, body)
	objects.damageAll(t, 0) // the first one's
	d.MustPut(two, body)
	if _, err := d.Do(storagetest.Request{Tenant: one, Op: "object.get", Addr: storagetest.Addr(body)}); macronode.KindOf(err) != macronode.Integrity {
		t.Fatal(err)
	}
	collectNow(t, d, "")
	mustGet(t, d, one, body)
	mustGet(t, d, two, body)
}

// call is an operation on one object of one tenant.
type call struct {
	op  string
	key int
}

// model is a set of objects with put, get and delete; a collection is no operation
// of it, so whatever a collection does must not be seen.
var model = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := make(map[int][]porcupine.Operation)
		for _, o := range h {
			k := o.Input.(call).key
			by[k] = append(by[k], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return false },
	Step: func(state, in, out any) (bool, any) {
		there, ok := state.(bool), out.(bool)
		switch in.(call).op {
		case "object.put": // ok: it existed
			return ok == there, true
		case "object.delete": // ok: it was there
			return ok == there, false
		default:
			return ok == there, there
		}
	},
}

// TestCollectIsUnseen: puts, gets and deletes beside collections are linearizable,
// and never answered with damage.
func TestCollectIsUnseen(t *testing.T) {
	d := storagetest.NewDriver(t, packedEnv(t, 20_000), quiet)
	stop := d.Serve()
	tenants := []*macronode.Tenant{storagetest.Tenant(1), storagetest.Tenant(2)}
	var bodies [][]byte
	for i := range 8 {
		bodies = append(bodies, storagetest.Bytes(500+i*1500, uint64(i))) // some are shared, some not
	}
	begun := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	var callers, collector sync.WaitGroup
	done := make(chan struct{})
	collector.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				collectNow(t, d, "")
			}
		}
	})
	for w := range 6 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(w)))
			for range 150 {
				tn, k := r.IntN(2), r.IntN(len(bodies))
				q := storagetest.Request{Tenant: tenants[tn], Op: "object.get", Addr: storagetest.Addr(bodies[k])}
				switch r.IntN(4) {
				case 0:
					q.Op = "object.delete"
				case 1:
					q.Op, q.Body = "object.put", bodies[k]
				}
				in := time.Since(begun).Nanoseconds()
				a, err := d.Do(q)
				out := time.Since(begun).Nanoseconds()
				ok := err == nil
				switch {
				case q.Op == "object.put" && err == nil:
					ok = a.Status == 200
				case err != nil && macronode.KindOf(err) != macronode.NotFound:
					t.Errorf("%s: %v", q.Op, err)
				case q.Op == "object.get" && ok && !bytes.Equal(a.Body, bodies[k]):
					t.Errorf("other bytes")
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: w, Input: call{string(q.Op), tn*100 + k}, Call: in, Output: ok, Return: out})
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	close(done)
	collector.Wait()
	if !porcupine.CheckOperations(model, history) {
		t.Fatal("the answers fit no order of the calls")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// A second pass finds nothing to do, and a stopped one is gone on with.
func TestCollectResumes(t *testing.T) {
	d, tn := storagetest.NewDriver(t, packedEnv(t, 50_000), quiet), storagetest.Tenant(1)
	stop := d.Serve()
	for i := range 300 {
		d.MustPut(tn, storagetest.Bytes(1000, uint64(i)))
		if i%4 != 0 {
			mustDrop(t, d, tn, storagetest.Bytes(1000, uint64(i)))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Service.Collect(ctx, collect.Options{}); err == nil {
		t.Fatal("a pass went on without its context")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	d.Serve()
	storagetest.Eventually(t, func() bool { return d.Stored() == 75 })
	collectNow(t, d, "")
	storagetest.Eventually(t, func() bool { return d.Stored() == 75 })
	if r := collectNow(t, d, ""); item(r, collect.Sparse).Objects+item(r, collect.Unreferenced).Objects != 0 {
		t.Fatalf("again: %+v", r)
	}
	for i := 0; i < 300; i += 4 {
		mustGet(t, d, tn, storagetest.Bytes(1000, uint64(i)))
	}
}

func TestCollectRefuses(t *testing.T) {
	d := storagetest.NewDriver(t, memEnv(t), quiet)
	for _, body := range []string{`{"dry":true}`, `{} {}`, `[]`, `{"dry_run":1}`} {
		_, err := d.Do(storagetest.Request{Tenant: storagetest.Tenant(0), Op: "admin.collect", Body: []byte(body)})
		wantKind(t, err, macronode.Malformed)
	}
}

// Of many uploads that a crash cut off between bytes and reference, all go, in more
// than one round, and what is referred to stays.
func TestManyOrphans(t *testing.T) {
	e := diskEnv(t, disk.Mem(), 64<<20) // all in one volume
	d, tn := storagetest.NewDriver(t, e, func(c *storage.Config) { c.ScrubRate = -1 }), storagetest.Tenant(1)
	kept := 0
	for i := range 10_000 {
		if i%64 == 5 {
			d.MustPut(tn, fmt.Append(nil, "kept ", i))
			kept++
			continue
		}
		w, err := e.Objects.Create(context.Background(), -1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(w, i); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	d.Serve()
	storagetest.Eventually(t, func() bool { return d.Stored() == kept })
	mustGet(t, d, tn, []byte("kept 5"))
}

// What is sealed is swept once, and then settled.
func TestSweepSettles(t *testing.T) {
	e := packedEnv(t, 10_000)
	d, tn := storagetest.NewDriver(t, e, quiet), storagetest.Tenant(1)
	for i := range 35 {
		d.MustPut(tn, storagetest.Bytes(1000, uint64(i)))
	}
	collectNow(t, d, `{"dry_run":true}`)
	if n := settled(t, e.Objects); n != 0 {
		t.Fatalf("a dry run settled %d volumes", n)
	}
	collectNow(t, d, "")
	if n := settled(t, e.Objects); n != 3 {
		t.Fatalf("%d volumes are settled", n)
	}
	if d.Stored() != 35 {
		t.Fatal(d.Stored())
	}
}

func settled(t *testing.T, o store.Objects) (n int) {
	list, err := o.Volumes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if v.Settled {
			n++
		}
	}
	return n
}
