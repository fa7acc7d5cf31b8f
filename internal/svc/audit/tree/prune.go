// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

// What pruning keeps, beside the tiles, which stay for ever:
//
//	audit/mark/ SIZE        a checkpoint of this size, after when it was: records may be cut off there
//	audit/base              the index of the first record that is left, and up to where metadata was swept
//	audit/basehead/ STREAM  hash of the stream's newest record before it
var (
	baseKey        = []byte("audit/base")
	baseHeadPrefix = []byte("audit/basehead/")
	baseHeadEnd    = []byte("audit/basehead0")
	markPrefix     = []byte("audit/mark/")
	markEnd        = []byte("audit/mark0")
)

const (
	// markRecords and markTime are how often a checkpoint is kept as a mark.
	markRecords = 1024
	markTime    = int64(3600_000) // milliseconds
	// sweepAtOnce is how many bundles lose their metadata in one transaction.
	sweepAtOnce = 16
)

// ErrPruned: the record was cut off; an archive has it. It wraps store.ErrNotFound.
var ErrPruned = fmt.Errorf("audit: the record was pruned: %w", store.ErrNotFound)

// Mark is a checkpoint at which records may be cut off.
type Mark struct {
	Size   uint64
	TimeMS int64 // of its newest record
	Note   []byte
}

func markKey(size uint64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(markPrefix), size)
}

// First is the index of the first record that is left, a multiple of 256.
func (t *Tree) First() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.first
}

// BaseHeads are the hashes of the newest records before First of each stream.
func (t *Tree) BaseHeads(ctx context.Context) (heads map[string]b3.Addr, err error) {
	err = t.cfg.KV.View(ctx, func(r store.Reader) error {
		heads, err = scanHeads(r, baseHeadPrefix, baseHeadEnd)
		return err
	})
	return heads, err
}

// Head is the beginning of an export of what is left, up to size.
func (t *Tree) Head(ctx context.Context, size uint64) (tlog.Head, error) {
	h := tlog.Head{Origin: Origin(t.cfg.Writer), Writer: t.cfg.Writer, First: t.First(), Size: size}
	edge, err := tlog.EdgeOf(h.First, t)
	if err != nil {
		return h, err
	}
	h.Peaks = edge.Peaks()
	h.Heads, err = t.BaseHeads(ctx)
	return h, err
}

// mark adds the checkpoint to a transaction where a mark is due; mu is not held.
func (t *Tree) mark(tx store.Tx, s *tlog.Signed, timeMS int64) error {
	if s.Size < t.marked+markRecords && timeMS < t.markedAt+markTime {
		return nil
	}
	return tx.Set(markKey(s.Size), append(binary.BigEndian.AppendUint64(nil, uint64(timeMS)), s.Note...)) //nolint:gosec // read as int64 again
}

// wasMarked remembers what mark wrote.
func (t *Tree) wasMarked(s *tlog.Signed, timeMS int64) {
	if s.Size >= t.marked+markRecords || timeMS >= t.markedAt+markTime {
		t.marked, t.markedAt = s.Size, timeMS
	}
}

// loadBase reads where the log begins, and its newest mark.
func (t *Tree) loadBase(r store.Reader) error {
	b, err := r.Get(baseKey)
	if err == nil && len(b) != 16 {
		return fmt.Errorf("%w: where the log begins", ErrDamaged)
	}
	if err == nil {
		t.first, t.swept = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	}
	if err := ignoreMissing(err); err != nil {
		return err
	}
	if t.first%tlog.TileWidth != 0 || t.first > t.flushed || t.swept > t.first {
		return fmt.Errorf("%w: it begins at %d, and metadata knows %d", ErrDamaged, t.first, t.flushed)
	}
	return r.ScanDesc(markPrefix, markEnd, func(k, v []byte) bool {
		if m, ok := readMark(k, v); ok {
			t.marked, t.markedAt = m.Size, m.TimeMS
		}
		return false
	})
}

func readMark(k, v []byte) (m Mark, ok bool) {
	if len(k) != len(markPrefix)+8 || len(v) < 8 {
		return m, false
	}
	return Mark{binary.BigEndian.Uint64(k[len(markPrefix):]), int64(binary.BigEndian.Uint64(v)), bytes.Clone(v[8:])}, true //nolint:gosec // written from int64
}

// Prunable is the newest mark up to which all records are older than beforeMS and
// below least; ok is false where nothing can be cut off there.
func (t *Tree) Prunable(ctx context.Context, beforeMS int64, least uint64) (m Mark, ok bool, err error) {
	t.mu.RLock()
	first, flushed := t.first, t.flushed
	t.mu.RUnlock()
	least = min(least, flushed)
	err = t.cfg.KV.View(ctx, func(r store.Reader) error {
		return r.ScanDesc(markKey(first), markKey(least+1), func(k, v []byte) bool {
			m, ok = readMark(k, v)
			ok = ok && m.TimeMS < beforeMS && m.Size/tlog.TileWidth*tlog.TileWidth > first
			return !ok
		})
	})
	return m, ok, err
}

// Cut is what an archive found where the log can be cut.
type Cut struct {
	First uint64 // a multiple of 256
	heads map[string]b3.Addr
}

// Archive writes what is left up to the mark as an export, and returns where the log
// can then be cut. It verifies nothing but the chain; who prunes verifies what was written.
func (t *Tree) Archive(ctx context.Context, m Mark, w io.Writer) (*Cut, error) {
	h, err := t.Head(ctx, m.Size)
	if err != nil {
		return nil, err
	}
	x, err := tlog.NewExporter(w, h)
	if err != nil {
		return nil, err
	}
	cut := &Cut{First: m.Size / tlog.TileWidth * tlog.TileWidth, heads: maps.Clone(h.Heads)}
	chain := tlog.Chain{Whole: true}
	chain.Resume(h.Writer, h.First, h.Heads)
	for seq := h.First; seq < m.Size; seq++ {
		entry, err := t.Entry(ctx, seq)
		if err != nil {
			return nil, err
		}
		r, err := tlog.Parse(entry)
		if err == nil {
			err = chain.Add(r)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrDamaged, seq, err)
		}
		if seq < cut.First {
			cut.heads[r.Stream] = r.Hash
		}
		if err := errors.Join(x.Add(entry), ctx.Err()); err != nil {
			return nil, err
		}
	}
	return cut, x.Close(m.Note)
}

// Prune cuts off what is before the cut, durably: the records go, the tiles stay.
// What an earlier call did not finish is finished.
func (t *Tree) Prune(ctx context.Context, c *Cut) error {
	err := t.cfg.KV.Reclaim(ctx, func(tx store.Tx) error {
		for stream, h := range c.heads {
			if err := tx.Set(append(bytes.Clone(baseHeadPrefix), stream...), h[:]); err != nil {
				return err
			}
		}
		return tx.Set(baseKey, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.First), t.swept))
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.first = c.First
	t.mu.Unlock()
	return t.Sweep(ctx)
}

// Sweep removes what is left of records that were cut off: their metadata first, which
// is found by reading them, then their segments.
func (t *Tree) Sweep(ctx context.Context) error {
	for t.swept < t.First() {
		if err := t.sweepSome(ctx); err != nil {
			return err
		}
	}
	at := t.First()
	if at == 0 {
		return nil
	}
	if at == t.Durable() {
		at--
	}
	place, err := t.placeOf(ctx, at)
	if errors.Is(err, store.ErrNotFound) {
		return nil // of the bundle before nothing is left, and so nothing to drop
	}
	if err != nil {
		return err
	}
	var gone []uint32
	for _, s := range t.cfg.Log.Segments() {
		if s.ID < place.Segment() && !s.Active {
			gone = append(gone, s.ID)
		}
	}
	if gone == nil {
		return nil
	}
	return t.cfg.Log.Drop(gone...)
}

// sweepSome removes the metadata of some bundles, and of the marks in them.
func (t *Tree) sweepSome(ctx context.Context) error {
	first := t.First()
	end := min(first, t.swept+sweepAtOnce*tlog.TileWidth)
	keys := map[string]bool{}
	for seq := t.swept; seq < end; seq++ {
		place, err := t.placeOf(ctx, seq)
		if err != nil {
			return err
		}
		entry, err := t.read(seq, place)
		if err != nil {
			return err
		}
		r, err := tlog.Parse(entry)
		if err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrDamaged, seq, err)
		}
		keys[string(hashKey(r.Hash, seq))] = true
		keys[string(ofKey(r.Stream, seq/tlog.TileWidth))] = true
		// The place of the newest that is cut off says which segments may go.
		if seq/tlog.TileWidth != first/tlog.TileWidth-1 {
			keys[string(bundleKey(seq/tlog.TileWidth))] = true
		}
	}
	before := t.swept / tlog.TileWidth
	err := t.cfg.KV.Reclaim(ctx, func(tx store.Tx) error {
		for k := range keys {
			if err := tx.Delete([]byte(k)); err != nil {
				return err
			}
		}
		if before > 0 { // kept by the call before
			if err := tx.Delete(bundleKey(before - 1)); err != nil {
				return err
			}
		}
		var marks [][]byte
		if err := tx.Scan(markPrefix, markKey(end), func(k, _ []byte) bool {
			marks = append(marks, bytes.Clone(k))
			return true
		}); err != nil {
			return err
		}
		for _, k := range marks {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return tx.Set(baseKey, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, first), end))
	})
	if err == nil {
		t.swept = end
	}
	return err
}
