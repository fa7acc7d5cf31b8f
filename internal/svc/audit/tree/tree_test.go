// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/tlog"
)

const (
	writer = "b3:1111111111111111111111111111111111111111111111111111111111111111"
	origin = "macronode/1111111111111111111111111111111111111111111111111111111111111111"
)

var streams = []string{"node", "tenant/01ARZ3NDEKTSV4RRFFQ69G5FAV", "tenant/01ARZ3NDEKTSV4RRFFQ69G5FAW"}

var secret = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func key() tlog.Key {
	return tlog.Key{Name: origin, Type: tlog.Ed25519, Public: secret.Public().(ed25519.PublicKey)}
}

func sign(_ context.Context, text string) ([]byte, error) {
	return []byte(text + "\n" + tlog.Line(key(), ed25519.Sign(secret, []byte(text)))), nil
}

// bench is a tree with what it must hold.
type bench struct {
	*Tree
	cfg     Config
	entries [][]byte
	records []*tlog.Record
	roots   []tlog.Hash
	front   tlog.Frontier
}

func newBench(t testing.TB) *bench {
	b := &bench{cfg: Config{Log: mem.NewLog(1 << 30), KV: mem.NewKV(mem.KVConfig{}), Writer: writer}, roots: []tlog.Hash{tlog.EmptyRoot}}
	b.open(t)
	return b
}

type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) open(t tb) Found {
	t.Helper()
	tree, found, err := Open(context.Background(), b.cfg, key())
	must(t, err)
	b.Tree = tree
	return found
}

func (b *bench) put(r *tlog.Record, reserve bool) error {
	_, err := b.Add(r, reserve)
	return err
}

func (b *bench) add(t tb, stream string) {
	t.Helper()
	n := len(b.entries)
	r := &tlog.Record{TSMilli: 1767225600000 + int64(n), Stream: stream, Kind: []string{"object.put", "cap.mint"}[n%2], Actor: "node", Subject: fmt.Sprint("object/", n)}
	must(t, b.put(r, false))
	e, err := r.Entry()
	must(t, err)
	b.entries, b.records = append(b.entries, e), append(b.records, r)
	b.front.Add(tlog.LeafHash(e), nil)
	b.roots = append(b.roots, b.front.Root())
}

// check compares the tree with what it must hold.
func (b *bench) check(t tb) {
	t.Helper()
	n := b.Durable()
	root, err := tlog.RootOf(n, b)
	must(t, err)
	if root != b.roots[n] {
		t.Fatalf("the root of %d records is another", n)
	}
	for _, seq := range []uint64{0, n / 3, n / 2, n - 1} {
		if seq >= n {
			continue
		}
		e, err := b.Entry(context.Background(), seq)
		must(t, err)
		if !bytes.Equal(e, b.entries[seq]) {
			t.Fatalf("record %d is another", seq)
		}
		if found, err := b.Find(context.Background(), b.records[seq].Hash); err != nil || found != seq {
			t.Fatalf("record %d by its hash: %d, %v", seq, found, err)
		}
		p, err := tlog.ProveInclusion(seq, n, b.Tiles())
		must(t, err)
		must(t, p.Check(tlog.Checkpoint{Origin: origin, Size: n, Root: root}, e))
		c, err := tlog.ProveConsistency(seq, n, b)
		must(t, err)
		must(t, c.Check(tlog.Checkpoint{Size: seq, Root: b.roots[seq]}, tlog.Checkpoint{Size: n, Root: root}))
	}
	if _, err := b.Find(context.Background(), tlog.Genesis); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a record without a hash: %v", err)
	}
	if _, err := b.Entry(context.Background(), n); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("record %d: %v", n, err)
	}
}

// TestTree does everything in any order, with openings in between, and compares.
func TestTree(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b := newBench(t)
		r.Repeat(map[string]func(*rapid.T){
			"add": func(r *rapid.T) {
				for range rapid.SampledFrom([]int{1, 3, 200, 300}).Draw(r, "n") {
					b.add(r, rapid.SampledFrom(streams).Draw(r, "stream"))
				}
			},
			"sync":  func(r *rapid.T) { must(r, b.Sync(context.Background())) },
			"flush": func(r *rapid.T) { must(r, b.Flush(context.Background())) },
			"publish": func(r *rapid.T) {
				must(r, b.Sync(context.Background()))
				must(r, b.Publish(context.Background(), []tlog.Key{key()}, sign))
				if p := b.Published(); p.Size != uint64(len(b.entries)) || p.Root != b.roots[p.Size] {
					r.Fatalf("published %+v", p.Checkpoint)
				}
			},
			"open": func(r *rapid.T) {
				must(r, b.Sync(context.Background()))
				if f := b.open(r); f.Size != uint64(len(b.entries)) {
					r.Fatalf("%d of %d records", f.Size, len(b.entries))
				}
			},
			"verify": func(r *rapid.T) { must(r, b.Verify(context.Background(), nil)) },
			"query":  func(r *rapid.T) { b.ask(r) },
			"":       func(r *rapid.T) { b.check(r) },
		})
	})
}

// ask compares a query with a plain search.
func (b *bench) ask(r *rapid.T) {
	n := b.Durable()
	q := Query{Limit: rapid.IntRange(1, 40).Draw(r, "limit"), Back: rapid.Bool().Draw(r, "back"), From: rapid.Uint64Range(0, n+3).Draw(r, "from")}
	if rapid.Bool().Draw(r, "of a stream") {
		q.Stream = rapid.SampledFrom(streams).Draw(r, "stream")
	}
	if rapid.Bool().Draw(r, "of a time") {
		q.FromMS = 1767225600000 + rapid.Int64Range(0, int64(n)).Draw(r, "after")
		q.ToMS = q.FromMS + rapid.Int64Range(1, 500).Draw(r, "for")
	}
	if rapid.Bool().Draw(r, "of a kind") {
		q.Kind = "cap.mint"
	}
	var want []*tlog.Record
	for i := range n {
		x := b.records[i]
		if q.Back {
			x = b.records[n-1-i]
		}
		if (q.Back && x.Seq > q.From || !q.Back && x.Seq < q.From) || q.Stream != "" && x.Stream != q.Stream || q.Kind != "" && x.Kind != q.Kind ||
			x.TSMilli < q.FromMS || q.ToMS != 0 && x.TSMilli >= q.ToMS {
			continue
		}
		want = append(want, x)
	}
	var got []Row
	for {
		rows, next, more, err := b.Query(context.Background(), q)
		must(r, err)
		if len(rows) > q.Limit {
			r.Fatalf("%d rows, at most %d", len(rows), q.Limit)
		}
		got = append(got, rows...)
		if !more {
			break
		}
		q.From = next
	}
	if len(got) != len(want) {
		r.Fatalf("%d records, not %d: %+v", len(got), len(want), q)
	}
	for i := range got {
		if got[i].Record.Seq != want[i].Seq || !bytes.Equal(got[i].Entry, b.entries[want[i].Seq]) {
			r.Fatalf("row %d is record %d, not %d", i, got[i].Record.Seq, want[i].Seq)
		}
	}
}

// TestNothingIsSignedEarly: what a crash can take away has no checkpoint.
func TestNothingIsSignedEarly(t *testing.T) {
	b := newBench(t)
	b.add(t, "node")
	called := false
	err := b.Publish(t.Context(), []tlog.Key{key()}, func(ctx context.Context, text string) ([]byte, error) {
		called = true
		return sign(ctx, text)
	})
	if err == nil || called || b.Published() != nil {
		t.Errorf("signed before it was durable: %v", err)
	}
	if _, err := b.Entry(t.Context(), 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("read before it was durable: %v", err)
	}
	if err := b.put(&tlog.Record{Stream: strings.Repeat("s", maxStreamBytes+1)}, false); !errors.Is(err, tlog.ErrInvalid) || b.Size() != 1 {
		t.Errorf("a stream that fits no key: %v", err)
	}
	must(t, b.Sync(t.Context()))
	must(t, b.Publish(t.Context(), []tlog.Key{key()}, sign))
	must(t, b.Publish(t.Context(), []tlog.Key{key()}, func(context.Context, string) ([]byte, error) { return nil, errors.New("asked again") }))
	b.add(t, "node")
	must(t, b.Sync(t.Context()))
	for name, bad := range map[string]func(context.Context, string) ([]byte, error){
		"another text": func(ctx context.Context, text string) ([]byte, error) {
			return sign(ctx, strings.Replace(text, "\n2\n", "\n1\n", 1))
		},
		"nothing": func(context.Context, string) ([]byte, error) { return nil, nil },
		"failed":  func(context.Context, string) ([]byte, error) { return nil, errors.New("no key") },
	} {
		if err := b.Publish(t.Context(), []tlog.Key{key()}, bad); err == nil || b.Published().Size != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamage: each thing that was written of a log is missed, or noticed where it
// says something else.
func TestDamage(t *testing.T) {
	set := func(k, v []byte) func(store.Tx) error { return func(tx store.Tx) error { return tx.Set(k, v) } }
	flipped := func(k []byte, at int) func(store.Tx) error {
		return func(tx store.Tx) error {
			v, err := tx.Get(k)
			if err != nil {
				return err
			}
			v[at] ^= 1
			return tx.Set(k, v)
		}
	}
	drop := func(k []byte) func(store.Tx) error { return func(tx store.Tx) error { return tx.Delete(k) } }
	for name, c := range map[string]struct {
		hurt  func(store.Tx) error
		late  bool // Open need not notice, Verify must
		names string
	}{
		"a leaf of the last bundle":  {hurt: flipped(tileKey(0, 3), 31), late: true, names: "record 768"},
		"a leaf long ago":            {hurt: flipped(tileKey(0, 1), 40), late: true, names: "record 257"},
		"a tile is gone":             {hurt: drop(tileKey(0, 1)), late: true, names: "tile/0/001"},
		"the tile above":             {hurt: flipped(tileKey(1, 0), 70), names: "first 1100 records"},
		"the tile above is gone":     {hurt: drop(tileKey(1, 0)), names: "tile/1/000"},
		"a place long ago":           {hurt: flipped(bundleKey(1), 16+8*5+7), late: true, names: "record 261"},
		"the last place":             {hurt: flipped(bundleKey(3), bundleBytes-1), names: "record 1023"},
		"the last places are gone":   {hurt: drop(bundleKey(3)), names: "768 to 1023"},
		"a stream's head":            {hurt: flipped(headKey("node"), 3), names: "record"},
		"fewer than there are":       {hurt: set(stateKey, []byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 0}), names: "record"},
		"more than there are":        {hurt: set(stateKey, []byte{0, 1, 0, 0, 0, 0, 0, 0, 8, 0}), names: "tile"},
		"no multiple of a bundle":    {hurt: set(stateKey, []byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 1}), names: "257 records"},
		"another format":             {hurt: set(stateKey, []byte{0, 2, 0, 0, 0, 0, 0, 0, 1, 0}), names: "format"},
		"the checkpoint":             {hurt: flipped(checkpointKey, 100), names: "checkpoint"},
		"the checkpoint's signature": {hurt: flipped(checkpointKey, 250), names: "checkpoint"},
	} {
		b := newBench(t)
		for i := range 1100 {
			b.add(t, streams[i%3])
		}
		must(t, b.Sync(t.Context()))
		must(t, b.Flush(t.Context()))
		must(t, b.Publish(t.Context(), []tlog.Key{key()}, sign))
		must(t, b.cfg.KV.Update(t.Context(), c.hurt))
		tree, _, err := Open(t.Context(), b.cfg, key())
		if c.late && err == nil {
			err = tree.Verify(t.Context(), nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.names) || name != "another format" && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLostEnd: a log that ends before what a checkpoint covers, or before what
// was flushed, is damaged.
func TestLostEnd(t *testing.T) {
	b := newBench(t)
	for range 300 {
		b.add(t, "node")
	}
	must(t, b.Sync(t.Context()))
	must(t, b.Publish(t.Context(), []tlog.Key{key()}, sign))
	short := b.cfg
	short.Log = mem.NewLog(1 << 30)
	for _, e := range b.entries[:299] {
		_, err := short.Log.StageOne(false, e, nil)
		must(t, err)
	}
	must(t, short.Log.Sync(t.Context()))
	if _, _, err := Open(t.Context(), short, key()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "record 299") {
		t.Error(err)
	}
	must(t, b.Flush(t.Context()))
	short.Log = mem.NewLog(1 << 30)
	if _, _, err := Open(t.Context(), short, key()); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	// The node's key was rotated: the log goes on as it was begun. Without that, it is
	// another node's.
	b = newBench(t)
	b.add(t, "node")
	must(t, b.Sync(t.Context()))
	other := b.cfg
	other.Writer = strings.Replace(writer, "b3:1", "b3:2", 1)
	if _, _, err := Open(t.Context(), other, key()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "another node") {
		t.Error(err)
	}
	other.Earlier = []string{writer}
	tree, _, err := Open(t.Context(), other, key())
	must(t, err)
	r := tlog.Record{Stream: "node"}
	if _, err := tree.Add(&r, false); err != nil || r.Writer != writer || tree.Writer() != writer {
		t.Errorf("%v: a record by %s", err, r.Writer)
	}
}

// TestForeignTail: records that are whole by themselves, and do not belong here.
func TestForeignTail(t *testing.T) {
	for name, edit := range map[string]func(r *tlog.Record){
		"does not follow": func(r *tlog.Record) { r.Prev = tlog.Genesis },
		"where 2 was due": func(r *tlog.Record) { r.Seq = 3 },
		"is by":           func(r *tlog.Record) { r.Writer = strings.Replace(writer, "b3:1", "b3:2", 1) },
	} {
		b := newBench(t)
		b.add(t, "node")
		b.add(t, "node")
		r := *b.records[1]
		r.Seq, r.Prev = 2, b.records[1].Hash
		edit(&r)
		e, err := r.Seal(r.Prev)
		must(t, err)
		_, err = b.cfg.Log.StageOne(false, e, nil)
		must(t, err)
		must(t, b.cfg.Log.Sync(t.Context()))
		if _, _, err := Open(t.Context(), b.cfg, key()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBehind: what waits for metadata is bounded; what must be recorded has more room,
// and a flush makes all of it.
func TestBehind(t *testing.T) {
	b := newBench(t)
	r := tlog.Record{Stream: "node"}
	for range maxPending {
		must(t, b.put(&r, false))
	}
	if err := b.put(&r, false); !errors.Is(err, ErrBehind) || b.Size() != maxPending {
		t.Errorf("%v: %d records", err, b.Size())
	}
	for range maxPending {
		must(t, b.put(&r, true))
	}
	if err := b.put(&r, true); !errors.Is(err, ErrBehind) {
		t.Error(err)
	}
	must(t, b.Sync(t.Context()))
	must(t, b.Flush(t.Context()))
	must(t, b.put(&r, false))
}

// BenchmarkAdd appends records of about 300 bytes.
func BenchmarkAdd(b *testing.B) {
	x := newBench(b)
	r := tlog.Record{TSMilli: 1767225600000, Stream: "node", Kind: "object.put", Actor: "cap:000102030405060708090a0b0c0d0e0f", Subject: "object/abc"}
	b.ReportAllocs()
	for b.Loop() {
		must(b, x.put(&r, false))
		if r.Seq%256 == 255 {
			must(b, x.Sync(b.Context()))
			must(b, x.Flush(b.Context()))
		}
	}
}

// BenchmarkProve proves records of a log of a million by their index.
func BenchmarkProve(b *testing.B) {
	x := newBench(b)
	r := tlog.Record{TSMilli: 1767225600000, Stream: "node"}
	const n = 1 << 18
	for i := range n {
		must(b, x.put(&r, false))
		if i%4096 == 4095 {
			must(b, x.Sync(b.Context()))
			must(b, x.Flush(b.Context()))
		}
	}
	seq := uint64(0)
	for b.Loop() {
		seq = (seq + 7919*13) % n
		_, err := tlog.ProveInclusion(seq, n, x.Tiles())
		must(b, err)
	}
}
