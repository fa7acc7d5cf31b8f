// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
)

// kept is objects in metadata, so that they survive what the index has to survive.
type kept struct{ kv store.KV }

func keptKey(a b3.Addr) []byte { return append([]byte("body/"), a[:]...) }

func (k kept) body(ctx context.Context, a b3.Addr) (b []byte, err error) {
	err = k.kv.View(ctx, func(r store.Reader) error { b, err = r.Get(keptKey(a)); return err })
	return b, err
}

func (k kept) Lookup(ctx context.Context, _ macronode.TenantID, a b3.Addr) (Object, error) {
	b, err := k.body(ctx, a)
	return Object{a, int64(len(b)), "text/plain", 1}, err
}

func (k kept) ReadPart(ctx context.Context, _ macronode.TenantID, a b3.Addr, limit int64) ([]byte, error) {
	b, err := k.body(ctx, a)
	return b[:min(int64(len(b)), limit)], err
}

func (k kept) Page(ctx context.Context, _ macronode.TenantID, after *b3.Addr, limit int) (list []Object, err error) {
	lo := []byte("body/")
	if after != nil {
		lo = append(keptKey(*after), 0)
	}
	err = k.kv.View(ctx, func(r store.Reader) error {
		list = list[:0]
		return r.Scan(lo, []byte("body0"), func(key, v []byte) bool {
			list = append(list, Object{b3.Addr(key[len("body/"):]), int64(len(v)), "text/plain", 1})
			return len(list) < limit
		})
	})
	return list, err
}

func (k kept) Tenants(_ context.Context, f func(macronode.TenantID) bool) error {
	f(tenant(1))
	return nil
}

// openKept opens a store with a facet over it in dir, and runs it.
func openKept(t testing.TB, dir string) (*pebblekv.KV, *world) {
	t.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: disk.Real(), Dir: dir + "/kv", BallastBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	w := &world{t: t, kv: kv, dir: dir + "/search"}
	w.start(func(c *Config) { c.Objects, c.Names = kept{kv}, nil })
	return kv, w
}

func keptText(i int) []byte {
	return fmt.Appendf(nil, "common item%d %s", i, bytes.Repeat([]byte("filling "), i%50))
}

const keptItems = 1500

// TestKillChild is what TestKill runs and kills: it puts objects, or takes some away, and
// says each time that it has.
func TestKillChild(t *testing.T) {
	dir, from := os.Getenv("SEARCH_KILL_DIR"), os.Getenv("SEARCH_KILL_FROM")
	if dir == "" {
		return
	}
	kv, w := openKept(t, dir)
	n, err := strconv.Atoi(from)
	if err != nil {
		t.Fatal(err)
	}
	for i := n; i < keptItems; i++ {
		text := keptText(i)
		addr := b3.Sum(text)
		if err := kv.Update(context.Background(), func(tx store.Tx) error {
			if err := tx.Set(keptKey(addr), text); err != nil {
				return err
			}
			if err := w.journal.Record(tx, journal.Change{Tenant: tenant(1), Kind: journal.ObjectPut, Addr: addr}); err != nil || i%10 != 9 {
				return err
			}
			gone := b3.Sum(keptText(i - 5))
			if err := tx.Delete(keptKey(gone)); err != nil {
				return err
			}
			return w.journal.Record(tx, journal.Change{Tenant: tenant(1), Kind: journal.ObjectDeleted, Addr: gone})
		}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("done %d\n", i)
	}
	for { // until it is killed
		<-time.After(time.Hour)
	}
}

// TestKill kills the process amid ingestion, again and again. In the end the index is what
// the stores are, in the first generation: a kill is no damage.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for round := 0; round < 5 && next < keptItems; round++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), "SEARCH_KILL_DIR="+dir, fmt.Sprintf("SEARCH_KILL_FROM=%d", next))
		out := &progress{until: next + 150 + 97*round, reached: make(chan struct{})}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-out.reached:
		case <-time.After(60 * time.Second):
			t.Error("the child does not come on")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if last := out.last; last < 0 || t.Failed() {
			t.Fatalf("round %d: the child said nothing: %.300q", round, out.all.String())
		}
		next = out.last + 1
	}
	kv, w := openKept(t, dir)
	var want []b3.Addr
	list, err := kept{kv}.Page(context.Background(), tenant(1), nil, keptItems)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		want = append(want, o.Addr)
	}
	r := w.mustAsk(tenant(1), "common", "wait_ms", "8000")
	if r.Total != uint64(len(want)) || !r.Complete || r.Generation != 1 {
		t.Fatalf("%d found, %d are stored; complete %t, generation %d", r.Total, len(want), r.Complete, r.Generation)
	}
	have := map[b3.Addr]bool{}
	for _, a := range want {
		have[a] = true
	}
	for cursor := ""; ; {
		r := w.mustAsk(tenant(1), "common", "sort", "size", "cursor", cursor)
		for _, h := range r.Hits {
			a, err := b3.Parse(h.Addr)
			if err != nil || !have[a] {
				t.Fatalf("%s is found and not stored, or twice (%v)", h.Addr, err)
			}
			delete(have, a)
		}
		if cursor = r.Cursor; cursor == "" {
			break
		}
	}
	if len(have) > 0 {
		t.Fatalf("%d stored objects are not found", len(have))
	}
}

// progress reads what the child says.
type progress struct {
	all     bytes.Buffer
	last    int
	until   int
	reached chan struct{}
	closed  bool
}

func (p *progress) Write(b []byte) (int, error) {
	p.all.Write(b)
	lines := bytes.Split(p.all.Bytes(), []byte("\n"))
	p.last = -1
	for _, l := range lines[:len(lines)-1] {
		if _, err := fmt.Sscanf(string(l), "done %d", &p.last); err != nil {
			continue
		}
	}
	if (p.last >= p.until || p.last == keptItems-1) && !p.closed {
		p.closed = true
		close(p.reached)
	}
	return len(b), nil
}
