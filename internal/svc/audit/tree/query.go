// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

// Query says which records are wanted. Empty texts and zero times want all.
type Query struct {
	Stream, Kind, Actor, Reason string
	FromMS, ToMS                int64 // ToMS is exclusive
	// From is the first index looked at; with Back it is the last.
	From  uint64
	Back  bool // newest first
	Limit int  // records at most
	// Look bounds how many records are read to find them; 0: 65536.
	Look int
}

// Row is a record with its bytes.
type Row struct {
	Record *tlog.Record
	Entry  []byte
}

const defaultLook = 1 << 16

// Query returns durable records in the order of their index. next is the index to go
// on from; more says whether there may be any.
func (t *Tree) Query(ctx context.Context, q Query) (rows []Row, next uint64, more bool, err error) {
	w := &walk{t: t, q: q, look: q.Look, size: t.Durable()}
	if w.look <= 0 {
		w.look = defaultLook
	}
	if w.q.ToMS == 0 {
		w.q.ToMS = math.MaxInt64
	}
	w.first = t.First()
	if !q.Back {
		q.From = max(q.From, w.first)
	}
	if w.size == w.first || q.Back && q.From < w.first || q.Limit < 1 || !q.Back && q.From >= w.size {
		return nil, max(q.From, w.size), false, nil
	}
	at := q.From
	if q.Back {
		at = min(at, w.size-1)
	}
	for {
		index := at / tlog.TileWidth
		if err := w.bundle(ctx, index, int(at%tlog.TileWidth)); err != nil { //nolint:gosec // below 256
			return nil, 0, false, err
		}
		if w.stopped {
			return w.rows, w.next, true, nil
		}
		index, ok, err := w.after(ctx, index)
		switch {
		case err != nil:
			return nil, 0, false, err
		case !ok && q.Back:
			return w.rows, 0, false, nil
		case !ok:
			return w.rows, w.size, false, nil
		case q.Back:
			at = min(index*tlog.TileWidth+tlog.TileWidth, w.size) - 1
		default:
			at = index * tlog.TileWidth
		}
	}
}

// after is the next bundle to look at: of a stream, the next that has any of it.
func (w *walk) after(ctx context.Context, index uint64) (next uint64, ok bool, err error) {
	w.t.mu.RLock()
	flushed := w.t.flushed / tlog.TileWidth
	w.t.mu.RUnlock()
	last := (w.size - 1) / tlog.TileWidth
	if w.q.Back && index <= w.first/tlog.TileWidth || !w.q.Back && index == last {
		return 0, false, nil
	}
	if w.q.Back {
		next = index - 1
	} else {
		next = index + 1
	}
	if w.q.Stream == "" || next >= flushed {
		return next, true, nil
	}
	found := func(k, _ []byte) bool {
		next, ok = binary.BigEndian.Uint64(k[len(k)-8:]), true
		return false
	}
	err = w.t.cfg.KV.View(ctx, func(r store.Reader) error {
		if w.q.Back {
			return r.ScanDesc(ofKey(w.q.Stream, w.first/tlog.TileWidth), ofKey(w.q.Stream, next+1), found)
		}
		return r.Scan(ofKey(w.q.Stream, next), ofKey(w.q.Stream, flushed), found)
	})
	if !ok && !w.q.Back && flushed <= last {
		return flushed, true, err // what is not flushed yet
	}
	return next, ok, err
}

// walk is a query under way.
type walk struct {
	t       *Tree
	q       Query
	look    int
	size    uint64
	first   uint64
	rows    []Row
	next    uint64
	stopped bool
}

// set is which entries of a bundle are worth reading.
type set [bitmapBytes]byte

func (s *set) has(i int) bool { return s[i/8]>>(i%8)&1 == 1 }
func (s *set) empty() bool {
	n := 0
	for _, b := range s {
		n += bits.OnesCount8(b)
	}
	return n == 0
}

// bundle looks at the entries of one bundle, from the i-th on or back.
func (w *walk) bundle(ctx context.Context, index uint64, i int) error {
	s, err := w.choose(ctx, index)
	if err != nil || s.empty() {
		return err
	}
	step := 1
	if w.q.Back {
		step = -1
	}
	for ; i >= 0 && i < tlog.TileWidth; i += step {
		seq := index*tlog.TileWidth + uint64(i) //nolint:gosec // not negative
		if !s.has(i) || seq >= w.size {
			continue
		}
		if len(w.rows) == w.q.Limit || w.look == 0 {
			w.stopped, w.next = true, seq
			return nil
		}
		w.look--
		entry, err := w.t.Entry(ctx, seq)
		if err != nil {
			return err
		}
		r, err := tlog.Parse(entry)
		if err != nil || r.Seq != seq {
			return fmt.Errorf("%w: record %d", ErrDamaged, seq)
		}
		if w.wants(r) {
			w.rows = append(w.rows, Row{r, entry})
		}
	}
	return ctx.Err()
}

func (w *walk) wants(r *tlog.Record) bool {
	q := &w.q
	return (q.Stream == "" || r.Stream == q.Stream) && (q.Kind == "" || r.Kind == q.Kind) && (q.Actor == "" || r.Actor == q.Actor) &&
		(q.Reason == "" || r.Reason == q.Reason) && r.TSMilli >= q.FromMS && r.TSMilli < q.ToMS
}

// choose tells from metadata which entries of a bundle may be wanted.
func (w *walk) choose(ctx context.Context, index uint64) (s set, err error) {
	w.t.mu.RLock()
	flushed, pend := w.t.flushed, w.t.pending
	w.t.mu.RUnlock()
	if first := index * tlog.TileWidth; first >= flushed {
		for i, e := range pend[first-flushed:] {
			if i == tlog.TileWidth {
				break
			}
			if (w.q.Stream == "" || e.stream == w.q.Stream) && e.time >= w.q.FromMS && e.time < w.q.ToMS {
				s[i/8] |= 1 << (i % 8)
			}
		}
		return s, nil
	}
	err = w.t.cfg.KV.View(ctx, func(r store.Reader) error {
		b, err := readBundle(r, index)
		if err != nil {
			return err
		}
		if earliest, latest := b.times(); latest < w.q.FromMS || earliest >= w.q.ToMS {
			return nil
		}
		if w.q.Stream == "" {
			for i := range s {
				s[i] = 0xff
			}
			return nil
		}
		v, err := r.Get(ofKey(w.q.Stream, index))
		if err == nil && len(v) == len(s) {
			copy(s[:], v)
		}
		return ignoreMissing(err)
	})
	return s, err
}

// Find returns the index of the durable record with this hash: store.ErrNotFound
// where there is none.
func (t *Tree) Find(ctx context.Context, h b3.Addr) (uint64, error) {
	t.mu.RLock()
	for i, e := range t.pending {
		if seq := t.flushed + uint64(i); e.hash == h && seq < t.durable { //nolint:gosec // not negative
			t.mu.RUnlock()
			return seq, nil
		}
	}
	t.mu.RUnlock()
	var maybe []uint64
	err := t.cfg.KV.View(ctx, func(r store.Reader) error {
		return r.Scan(hashKey(h, 0), hashKey(h, math.MaxUint64), func(k, _ []byte) bool {
			maybe = append(maybe, binary.BigEndian.Uint64(k[len(k)-8:]))
			return len(maybe) < tlog.TileWidth
		})
	})
	if err != nil {
		return 0, err
	}
	for _, seq := range maybe {
		entry, err := t.Entry(ctx, seq)
		if errors.Is(err, ErrPruned) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if r, err := tlog.Parse(entry); err == nil && r.Hash == h {
			return seq, nil
		}
	}
	return 0, fmt.Errorf("%w: no record with this hash", store.ErrNotFound)
}
