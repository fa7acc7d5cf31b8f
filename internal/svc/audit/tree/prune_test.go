// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/tlog"
)

// fill adds records, each with its index as time, and a checkpoint now and then.
func (b *bench) fill(t tb, n int) {
	t.Helper()
	ctx := context.Background()
	for i := range n {
		seq := len(b.entries)
		r := &tlog.Record{TSMilli: int64(seq), Stream: streams[seq%len(streams)], Kind: "k", Attrs: tlog.Attrs{"n": int64(seq)}}
		entry, err := b.Add(r, false)
		must(t, err)
		b.entries = append(b.entries, bytes.Clone(entry))
		b.records = append(b.records, r)
		if i == n-1 || seq%317 == 316 {
			must(t, b.Sync(ctx))
			must(t, b.Publish(ctx, []tlog.Key{key()}, sign))
			must(t, b.Flush(ctx))
		}
	}
}

// cutAt archives and prunes what is older than a time, and returns the archive.
func (b *bench) cutAt(t tb, beforeMS int64) (Mark, []byte) {
	t.Helper()
	ctx := context.Background()
	m, ok, err := b.Prunable(ctx, beforeMS, math.MaxUint64)
	must(t, err)
	if !ok {
		t.Fatalf("nothing before %d can be cut off", beforeMS)
	}
	var out bytes.Buffer
	cut, err := b.Archive(ctx, m, &out)
	must(t, err)
	must(t, b.Prune(ctx, cut))
	return m, out.Bytes()
}

// whole is that everything that is left is there, in every way to ask for it, and of
// what was cut off nothing but the tiles.
func (b *bench) whole(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	first, size := b.First(), uint64(len(b.entries))
	must(t, b.Verify(ctx, nil))
	for seq := range size {
		entry, err := b.Entry(ctx, seq)
		switch {
		case seq < first && !errors.Is(err, ErrPruned):
			t.Fatalf("record %d: %v, the log begins at %d", seq, err, first)
		case seq >= first && (err != nil || !bytes.Equal(entry, b.entries[seq])):
			t.Fatalf("record %d: %v", seq, err)
		}
		found, err := b.Find(ctx, b.records[seq].Hash)
		if seq < first && !errors.Is(err, store.ErrNotFound) || seq >= first && (err != nil || found != seq) {
			t.Fatalf("record %d by its hash: %d, %v", seq, found, err)
		}
	}
	// The tiles of old records still prove.
	c := b.Published()
	for _, seq := range []uint64{0, first / 2, first, size - 1} {
		p, err := tlog.ProveInclusion(seq, c.Size, b)
		must(t, err)
		must(t, p.Check(c.Checkpoint, b.entries[seq]))
	}
	_, err := b.Bundle(ctx, 0, tlog.TileWidth)
	if first > 0 && !errors.Is(err, ErrPruned) {
		t.Fatalf("a bundle that was cut off: %v", err)
	}
	for _, back := range []bool{false, true} {
		for _, stream := range append([]string{""}, streams...) {
			n := 0
			q := Query{Stream: stream, Back: back, Limit: 100}
			if back {
				q.From = tlog.MaxTreeSize
			}
			for {
				rows, next, more, err := b.Query(ctx, q)
				must(t, err)
				for _, r := range rows {
					if r.Record.Seq < first || stream != "" && r.Record.Stream != stream {
						t.Fatalf("record %d of %s", r.Record.Seq, r.Record.Stream)
					}
				}
				n += len(rows)
				if !more {
					break
				}
				q.From = next
			}
			want := 0
			for _, r := range b.records[first:] {
				if stream == "" || r.Stream == stream {
					want++
				}
			}
			if n != want {
				t.Fatalf("%d records of %q, back %v: want %d", n, stream, back, want)
			}
		}
	}
	// What is left verifies as an export.
	var out bytes.Buffer
	h, err := b.Head(ctx, c.Size)
	must(t, err)
	x, err := tlog.NewExporter(&out, h)
	must(t, err)
	for seq := first; seq < c.Size; seq++ {
		must(t, x.Add(b.entries[seq]))
	}
	must(t, x.Close(c.Note))
	if _, err := tlog.VerifyExport(&out, []tlog.Key{key()}, nil); err != nil {
		t.Fatal(err)
	}
}

func small(t testing.TB) *bench {
	b := &bench{cfg: Config{Log: mem.NewLog(4 << 20), KV: mem.NewKV(mem.KVConfig{}), Writer: writer}}
	b.open(t)
	return b
}

func TestPrune(t *testing.T) {
	b := small(t)
	b.fill(t, 4000)
	if _, ok, err := b.Prunable(t.Context(), 200, math.MaxUint64); ok || err != nil {
		t.Errorf("%v, %v: no mark is so old", ok, err)
	}
	if _, ok, err := b.Prunable(t.Context(), 4000, 300); ok || err != nil {
		t.Errorf("%v, %v: a reader is not so far", ok, err)
	}
	segments := len(b.cfg.Log.Segments())
	var before uint64
	var end uint64
	for round, ms := range []int64{1500, 3000, 6500} {
		if round == 2 {
			b.fill(t, 4000)
		}
		m, archive := b.cutAt(t, ms)
		if m.TimeMS >= ms || m.Size%tlog.TileWidth == 0 {
			t.Fatalf("a mark at %d, %d", m.Size, m.TimeMS)
		}
		v, err := tlog.VerifyExport(bytes.NewReader(archive), []tlog.Key{key()}, nil)
		must(t, err)
		// Archives follow each other without a gap.
		if v.Head.First != before || v.Head.First > end || v.Head.Size != m.Size {
			t.Fatalf("an archive of %d to %d behind one that ends at %d", v.Head.First, v.Head.Size, end)
		}
		before, end = b.First(), m.Size
		if before != m.Size/tlog.TileWidth*tlog.TileWidth {
			t.Fatalf("it begins at %d", before)
		}
		b.whole(t)
		b.open(t)
		b.whole(t)
	}
	if n := len(b.cfg.Log.Segments()); n >= segments {
		t.Errorf("%d segments, before there were %d", n, segments)
	}
	b.fill(t, 10)
	b.whole(t)
	// Of what was cut off metadata knows nothing but tiles and heads.
	err := b.cfg.KV.View(t.Context(), func(r store.Reader) error {
		n := 0
		for _, prefix := range []string{"audit/bundle/", "audit/by/", "audit/of/", "audit/mark/"} {
			err := r.Scan([]byte(prefix), []byte(prefix+"\xff"), func(k, _ []byte) bool {
				seq := uint64(0)
				for _, c := range k[len(k)-8:] {
					seq = seq<<8 | uint64(c)
				}
				if prefix == "audit/bundle/" || prefix == "audit/of/" {
					seq *= tlog.TileWidth
				}
				if seq+tlog.TileWidth < b.First() {
					n++
				}
				return true
			})
			if err != nil {
				return err
			}
		}
		if n > 0 {
			return fmt.Errorf("%d keys of records that are gone", n)
		}
		return nil
	})
	must(t, err)
}

// dying is metadata that fails from its nth change on.
type dying struct {
	store.KV
	left int
}

func (d *dying) Reclaim(ctx context.Context, f func(store.Tx) error) error {
	if d.left--; d.left < 0 {
		return errors.New("dead")
	}
	return d.KV.Reclaim(ctx, f)
}

// noDrop is a log that drops nothing: the process ended before.
type noDrop struct{ store.Log }

func (noDrop) Drop(...uint32) error { return errors.New("dead") }

// Wherever pruning ends, the log is whole, before or behind the cut, and the next start
// finishes it.
func TestPruneKilled(t *testing.T) {
	for n := range 6 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := small(t)
			b.fill(t, 6000)
			kv, log := b.cfg.KV, b.cfg.Log
			if n == 5 {
				b.cfg.Log = noDrop{log}
			} else {
				b.cfg.KV = &dying{kv, n}
			}
			b.open(t)
			m, ok, err := b.Prunable(t.Context(), 5900, math.MaxUint64)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			cut, err := b.Archive(t.Context(), m, &bytes.Buffer{})
			must(t, err)
			if err := b.Prune(t.Context(), cut); (err == nil) != (n == 3 || n == 4) && n != 5 || n == 5 && err == nil {
				t.Fatalf("%v", err)
			}
			b.cfg.KV, b.cfg.Log = kv, log
			b.open(t)
			if first := b.First(); n == 0 && first != 0 || n > 0 && first != cut.First {
				t.Fatalf("it begins at %d", first)
			}
			must(t, b.Verify(t.Context(), nil))
			must(t, b.Sweep(t.Context()))
			b.whole(t)
			b.open(t)
			b.whole(t)
		})
	}
}
