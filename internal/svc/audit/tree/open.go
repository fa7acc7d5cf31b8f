// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

// Found is what opening a tree came upon.
type Found struct {
	Size uint64 // records
	Tail uint64 // of them, those that were read and checked again
}

// Open returns the tree that the stores hold, empty at first. The tail of the log is
// read and checked: each record's hash, place and chain, and that the tree has the root
// of the newest checkpoint, which one of keys signed. ErrDamaged says where something
// does not hold; nothing is repaired.
func Open(ctx context.Context, cfg Config, keys ...tlog.Key) (*Tree, Found, error) {
	t := &Tree{cfg: cfg, front: &tlog.Frontier{}, upper: map[tlog.Tile][]byte{}, grown: make(chan struct{})}
	if err := t.identify(ctx); err != nil {
		return nil, Found{}, err
	}
	var note []byte
	var last store.Pos
	err := cfg.KV.View(ctx, func(r store.Reader) (err error) {
		if t.flushed, err = readState(r); err != nil {
			return err
		}
		if err := t.loadBase(r); err != nil {
			return err
		}
		if t.heads, err = readHeads(r); err != nil {
			return err
		}
		if note, err = r.Get(checkpointKey); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		last, err = t.load(r)
		return err
	})
	if err != nil {
		return nil, Found{}, err
	}
	t.durable = t.flushed
	if err := t.replay(last); err != nil {
		return nil, Found{}, err
	}
	if err := t.checkpoint(note, keys); err != nil {
		return nil, Found{}, err
	}
	t.proofs = tlog.NewCached(t)
	return t, Found{Size: t.durable, Tail: t.durable - t.flushed}, nil
}

// identify learns whose log it is: its first node_id stands in all of its records
// and names it, also after the node's key was rotated.
func (t *Tree) identify(ctx context.Context) error {
	return t.cfg.KV.Update(ctx, func(tx store.Tx) error {
		b, err := tx.Get(writerKey)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return tx.Set(writerKey, []byte(t.cfg.Writer))
		case err != nil:
			return err
		case string(b) != t.cfg.Writer && !slices.Contains(t.cfg.Earlier, string(b)):
			return fmt.Errorf("%w: it is the log of %.80q, another node", ErrDamaged, b)
		}
		t.cfg.Writer = string(b)
		return nil
	})
}

func readState(r store.Reader) (uint64, error) {
	b, err := r.Get(stateKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(b) != stateBytes || binary.BigEndian.Uint16(b) != format:
		return 0, fmt.Errorf("audit: metadata of format %x, this version reads %d", b[:min(len(b), 2)], format)
	}
	n := binary.BigEndian.Uint64(b[2:])
	if n > tlog.MaxTreeSize || n%tlog.TileWidth != 0 {
		return 0, fmt.Errorf("%w: metadata of %d records", ErrDamaged, n)
	}
	return n, nil
}

// load reads the edge of the tree that was flushed, and where its last entry is.
func (t *Tree) load(r store.Reader) (last store.Pos, err error) {
	if t.flushed == 0 {
		return 0, nil
	}
	tiles := flushedTiles{r}
	if t.front, err = tlog.EdgeOf(t.flushed, tiles); err != nil {
		return 0, err
	}
	for level := 1; t.flushed>>(8*level) > 0; level++ {
		hashes := t.flushed >> (8 * level)
		name := tlog.Tile{Level: level, Index: hashes / tlog.TileWidth, Width: int(hashes % tlog.TileWidth)} //nolint:gosec // below 256
		if name.Width == 0 {
			continue
		}
		data, err := tiles.ReadTile(name)
		if err != nil {
			return 0, err
		}
		t.upper[tlog.Tile{Level: name.Level, Index: name.Index}] = bytes.Clone(data)
	}
	if t.flushed == t.first {
		return 0, nil // all that was flushed is cut off
	}
	b, err := readBundle(r, t.flushed/tlog.TileWidth-1)
	if err != nil {
		return 0, err
	}
	return b.place(tlog.TileWidth - 1), nil
}

// flushedTiles are those in metadata.
type flushedTiles struct{ r store.Reader }

func (f flushedTiles) ReadTile(name tlog.Tile) ([]byte, error) {
	data, err := f.r.Get(tileKey(name.Level, name.Index))
	if errors.Is(err, store.ErrNotFound) || err == nil && len(data) < name.Width*hashBytes {
		return nil, fmt.Errorf("%w: tile %s is missing", ErrDamaged, name.Path())
	}
	if err != nil {
		return nil, err
	}
	return data[:name.Width*hashBytes], nil
}

// replay takes what the log holds beyond last, the place of the newest flushed
// entry, which is looked at too.
func (t *Tree) replay(last store.Pos) error {
	var damage error
	skipped := t.flushed == t.first
	err := t.cfg.Log.Scan(last, func(at store.Pos, entry []byte) error {
		if damage != nil {
			return damage
		}
		r, err := tlog.Parse(entry)
		if err != nil {
			return fmt.Errorf("%w: record %d, at %d+%d: %w", ErrDamaged, t.front.Size(), at.Segment(), at.Offset(), err)
		}
		if !skipped {
			skipped = true
			return t.newest(r, at, last)
		}
		if last == 0 && r.Seq < t.flushed {
			return nil // cut off, and in the segment of what is left
		}
		if err := t.follows(r); err != nil {
			return fmt.Errorf("%w: at %d+%d: %w", ErrDamaged, at.Segment(), at.Offset(), err)
		}
		t.take(r, bytes.Clone(entry), at)
		if len(t.pending) < maxPending {
			return nil
		}
		t.durable = t.front.Size()
		return t.Flush(context.Background())
	}, func(at store.Pos, n int64) {
		if damage == nil {
			damage = fmt.Errorf("%w: record %d or later, %d bytes at %d+%d", ErrDamaged, t.front.Size(), n, at.Segment(), at.Offset())
		}
	})
	if err == nil {
		err = damage
	}
	if err == nil && !skipped {
		err = fmt.Errorf("%w: record %d and all behind it are missing", ErrDamaged, t.flushed-1)
	}
	t.durable = t.front.Size()
	return err
}

// newest checks the newest flushed entry against metadata.
func (t *Tree) newest(r *tlog.Record, at, last store.Pos) error {
	if at != last || r.Seq != t.flushed-1 || r.Writer != t.cfg.Writer || t.heads[r.Stream] != r.Hash {
		return fmt.Errorf("%w: record %d is not at %d+%d", ErrDamaged, t.flushed-1, last.Segment(), last.Offset())
	}
	return nil
}

// follows reports why r is not the record that comes next.
func (t *Tree) follows(r *tlog.Record) error {
	switch {
	case r.Writer != t.cfg.Writer:
		return fmt.Errorf("record %d is by %.80s", r.Seq, r.Writer)
	case r.Seq != t.front.Size():
		return fmt.Errorf("record %d where %d was due", r.Seq, t.front.Size())
	case r.Prev != t.heads[r.Stream]:
		return fmt.Errorf("record %d does not follow its stream's", r.Seq)
	}
	return nil
}

// checkpoint compares the tree with the newest checkpoint.
func (t *Tree) checkpoint(note []byte, keys []tlog.Key) error {
	if note == nil {
		return nil
	}
	s, err := tlog.Open(note, keys...)
	if err != nil {
		return fmt.Errorf("%w: the newest checkpoint: %w", ErrDamaged, err)
	}
	switch root, err := tlog.RootOf(min(s.Size, t.durable), t); {
	case err != nil:
		return err
	case s.Origin != Origin(t.cfg.Writer):
		return fmt.Errorf("%w: the newest checkpoint is of %q", ErrDamaged, s.Origin)
	case s.Size > t.durable:
		return fmt.Errorf("%w: record %d and all behind it are missing; a checkpoint covers %d", ErrDamaged, t.durable, s.Size)
	case root != s.Root:
		return fmt.Errorf("%w: the tree of the first %d records is not the one that was signed", ErrDamaged, s.Size)
	}
	t.published = s
	return nil
}

// Verify reads the whole log and compares it with everything that was written of it:
// each record, the tiles, places and streams, and the newest checkpoint. It names the
// first that does not hold. progress, if not nil, is told now and then how far it is.
func (t *Tree) Verify(ctx context.Context, progress func(done, of uint64)) error {
	size := t.Durable()
	head, err := t.Head(ctx, size)
	if err != nil {
		return err
	}
	chain := tlog.Chain{Whole: true}
	chain.Resume(t.cfg.Writer, head.First, head.Heads)
	front, err := tlog.NewFrontier(head.First, head.Peaks)
	if err != nil {
		return err
	}
	var damage error
	err = t.cfg.Log.Scan(0, func(at store.Pos, entry []byte) error {
		if damage != nil || front.Size() == size {
			return errEnough
		}
		seq := front.Size()
		bad := func(err error) error {
			return fmt.Errorf("%w: record %d, at %d+%d: %w", ErrDamaged, seq, at.Segment(), at.Offset(), err)
		}
		r, err := tlog.Parse(entry)
		if err == nil && r.Seq < head.First && seq == head.First {
			return nil // cut off, and in the segment of what is left
		}
		if err == nil {
			err = chain.Add(r)
		}
		if err != nil {
			return bad(err)
		}
		if place, err := t.place(ctx, seq); err != nil || place != at {
			return bad(errors.Join(errors.New("metadata names another place"), err))
		}
		leaf := tlog.LeafHash(entry)
		if err := t.compare(leaf, seq); err != nil {
			return bad(err)
		}
		front.Add(leaf, nil)
		if progress != nil && seq%(16*tlog.TileWidth) == 0 {
			progress(seq, size)
		}
		return ctx.Err()
	}, func(at store.Pos, n int64) {
		if damage == nil {
			damage = fmt.Errorf("%w: record %d or later, %d bytes at %d+%d", ErrDamaged, front.Size(), n, at.Segment(), at.Offset())
		}
	})
	if err == nil || errors.Is(err, errEnough) {
		err = damage
	}
	if err == nil && front.Size() < size {
		err = fmt.Errorf("%w: record %d and all behind it are missing", ErrDamaged, front.Size())
	}
	if err != nil {
		return err
	}
	if root, err := tlog.RootOf(size, t); err != nil || root != front.Root() {
		return errors.Join(fmt.Errorf("%w: the tiles above the leaves are not those of the records", ErrDamaged), err)
	}
	return nil
}

// errEnough ends a scan.
var errEnough = errors.New("audit: enough was read")

func (t *Tree) compare(leaf tlog.Hash, seq uint64) error {
	name := tlog.Tile{Index: seq / tlog.TileWidth, Width: int(seq%tlog.TileWidth) + 1} //nolint:gosec // below 256
	tile, err := t.ReadTile(name)
	if err == nil && !bytes.Equal(tile[len(tile)-hashBytes:], leaf[:]) {
		err = errors.New("the tile has another hash")
	}
	return err
}
