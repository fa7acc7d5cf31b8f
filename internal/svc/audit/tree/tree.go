// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

const hashBytes = len(tlog.Hash{})

// ErrDamaged: the log is not what it was. It wraps store.ErrCorrupt, and says
// where.
var ErrDamaged = fmt.Errorf("audit: the log is damaged: %w", store.ErrCorrupt)

// ErrBehind: so much waits for metadata to be written that no more is taken.
var ErrBehind = errors.New("audit: metadata is too far behind the log")

// maxPending bounds the entries whose metadata is not written, some 200 bytes of
// memory each; with reserve there may be twice as many.
const maxPending = 1 << 17

// Config is what a tree is kept in. Both stores are the tree's own, or it has its
// own part of them: keys that begin with "audit/".
type Config struct {
	Log    store.Log
	KV     store.KV
	Writer string // node_id: a log that begins has it in every record
	// Earlier are ids that the node had before its key was rotated: a log that was
	// begun under one of them goes on under it.
	Earlier []string
}

// Origin names the log of a writer in checkpoints and keys.
func Origin(writer string) string { return "macronode/" + strings.TrimPrefix(writer, "b3:") }

// Tree is an audit log. Add, Sync, Flush and Publish are for one goroutine.
type Tree struct {
	cfg Config

	mu      sync.RWMutex
	front   *tlog.Frontier
	heads   map[string]b3.Addr // newest record's hash of each stream
	durable uint64             // entries that survive a crash
	flushed uint64             // entries whose metadata is written; whole bundles
	// Of the entries from flushed on:
	leaves  []byte
	pending []pending
	// upper are the tiles above the leaves that grow, or grew since the last
	// flush, by their names without width.
	upper map[tlog.Tile][]byte

	proofs    *tlog.Cached
	published *tlog.Signed // newest checkpoint; nil before the first
	first     uint64       // the first record that is left
	newestMS  int64        // when the newest record was
	// Of the goroutine that publishes:
	marked   uint64 // size of the newest mark
	markedAt int64
	// Of the goroutine that prunes:
	swept uint64 // records before it have no metadata left
	grown chan struct{}
}

// pending is what metadata will say of an entry.
type pending struct {
	at     store.Pos
	stream string
	time   int64
	hash   b3.Addr
}

// Size is how many records are sequenced. They need not be durable.
func (t *Tree) Size() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.front.Size()
}

// Durable is how many records survive a crash; only they are read.
func (t *Tree) Durable() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.durable
}

// Published is the newest signed checkpoint, nil before the first.
func (t *Tree) Published() *tlog.Signed {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.published
}

// Grown returns a channel that is closed when more is durable or published.
func (t *Tree) Grown() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.grown
}

// Add gives r its index, links it to its stream and stages its entry, which it
// returns. It is
// durable after Sync. With reserve it may use the space that is kept for what must
// be recorded. tlog.ErrTooLarge and tlog.ErrInvalid are about r, ErrBehind and
// others about the log; after any of them nothing was added.
func (t *Tree) Add(r *tlog.Record, reserve bool) ([]byte, error) {
	if len(r.Stream) > maxStreamBytes {
		return nil, fmt.Errorf("%w: a stream's name of %d bytes", tlog.ErrInvalid, len(r.Stream))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.pending); n >= 2*maxPending || n >= maxPending && !reserve {
		return nil, ErrBehind
	}
	r.V, r.Writer, r.Seq = tlog.Version, t.cfg.Writer, t.front.Size()
	entry, err := r.Seal(t.heads[r.Stream])
	if err != nil {
		return nil, err
	}
	at, err := t.cfg.Log.StageOne(reserve, entry, nil)
	if err != nil {
		return nil, err
	}
	t.take(r, entry, at)
	return entry, nil
}

// take extends the state by an entry that has its place. mu is held, or t is not
// shared yet.
func (t *Tree) take(r *tlog.Record, entry []byte, at store.Pos) {
	t.heads[r.Stream] = r.Hash
	t.newestMS = max(t.newestMS, r.TSMilli)
	t.pending = append(t.pending, pending{at, r.Stream, r.TSMilli, r.Hash})
	t.front.Add(tlog.LeafHash(entry), func(level int, n uint64, h tlog.Hash) {
		switch {
		case level == 0:
			t.leaves = append(t.leaves, h[:]...)
		case level%8 == 0:
			name := tlog.Tile{Level: level / 8, Index: n / tlog.TileWidth}
			t.upper[name] = append(t.upper[name], h[:]...)
		}
	})
}

// Sync makes all that was added durable.
func (t *Tree) Sync(ctx context.Context) error {
	size := t.Size()
	if size == t.Durable() {
		return nil
	}
	if err := t.cfg.Log.Sync(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.durable = size
	t.wake()
	return nil
}

func (t *Tree) wake() {
	close(t.grown)
	t.grown = make(chan struct{})
}

// Publish signs the tree as it is, where it grew since the last checkpoint, and
// keeps the checkpoint durably before anybody sees it. All that was added is
// durable: a checkpoint of what a crash can take away would have another tree of
// its size signed later. sign gets the checkpoint's text and returns the whole note,
// signed by keys, all of them.
func (t *Tree) Publish(ctx context.Context, keys []tlog.Key, sign func(ctx context.Context, text string) ([]byte, error)) error {
	t.mu.RLock()
	c := tlog.Checkpoint{Origin: Origin(t.cfg.Writer), Size: t.front.Size(), Root: t.front.Root()}
	durable, last, newest := t.durable, t.published, t.newestMS
	t.mu.RUnlock()
	if c.Size != durable {
		return fmt.Errorf("audit: %d of %d records are durable: nothing is signed", durable, c.Size)
	}
	if last != nil && last.Size == c.Size && !slices.ContainsFunc(keys, func(k tlog.Key) bool { return !last.Has(k) }) {
		return nil
	}
	note, err := sign(ctx, c.Text())
	if err != nil {
		return err
	}
	s, err := tlog.OpenLog(note, keys)
	if err != nil {
		return err
	}
	if s.Checkpoint != c {
		return errors.New("audit: another checkpoint was signed")
	}
	// It takes the last one's place, so a full disk is no hindrance.
	err = t.cfg.KV.Reclaim(ctx, func(tx store.Tx) error {
		if err := t.mark(tx, s, newest); err != nil {
			return err
		}
		return tx.Set(checkpointKey, note)
	})
	if err != nil {
		return err
	}
	t.wasMarked(s, newest)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published = s
	t.wake()
	return nil
}

// Tiles are what proofs are made of, with a cache.
func (t *Tree) Tiles() tlog.Tiles { return t.proofs }

// ReadTile implements tlog.Tiles, of what is durable.
func (t *Tree) ReadTile(name tlog.Tile) ([]byte, error) {
	t.mu.RLock()
	if name.Entries || name.Width < 1 || tlog.WidthIn(t.durable, name.Level, name.Index) < name.Width {
		t.mu.RUnlock()
		return nil, fmt.Errorf("%w: no %s", store.ErrNotFound, name.Path())
	}
	data, ok := t.held(name)
	t.mu.RUnlock()
	if ok {
		return data, nil
	}
	err := t.cfg.KV.View(context.Background(), func(r store.Reader) (err error) {
		data, err = r.Get(tileKey(name.Level, name.Index))
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && len(data) < name.Width*hashBytes {
		return nil, fmt.Errorf("%w: tile %s is missing", ErrDamaged, name.Path())
	}
	if err != nil {
		return nil, err
	}
	return data[:name.Width*hashBytes], nil
}

// held is the tile from memory, copied; mu is held.
func (t *Tree) held(name tlog.Tile) ([]byte, bool) {
	end := name.Width * hashBytes
	if name.Level > 0 {
		data, ok := t.upper[tlog.Tile{Level: name.Level, Index: name.Index}]
		if !ok || len(data) < end {
			return nil, false
		}
		return slices.Clone(data[:end]), true
	}
	first := name.Index * tlog.TileWidth
	if first < t.flushed {
		return nil, false
	}
	data := t.leaves[int(first-t.flushed)*hashBytes:] //nolint:gosec // few are not flushed
	return slices.Clone(data[:end]), true
}

// Entry returns the entry with this index, which is durable: store.ErrNotFound
// where there is none.
func (t *Tree) Entry(ctx context.Context, seq uint64) ([]byte, error) {
	at, err := t.place(ctx, seq)
	if err != nil {
		return nil, err
	}
	return t.read(seq, at)
}

func (t *Tree) read(seq uint64, at store.Pos) ([]byte, error) {
	entry, err := t.cfg.Log.Read(at, nil)
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: record %d, at %d+%d", ErrDamaged, seq, at.Segment(), at.Offset())
	}
	return entry, err
}

func (t *Tree) place(ctx context.Context, seq uint64) (store.Pos, error) {
	if first := t.First(); seq < first {
		return 0, fmt.Errorf("%w: record %d, the log begins at %d", ErrPruned, seq, first)
	}
	return t.placeOf(ctx, seq)
}

// placeOf is place also of a record that was cut off and is not swept yet.
func (t *Tree) placeOf(ctx context.Context, seq uint64) (store.Pos, error) {
	t.mu.RLock()
	durable, flushed := t.durable, t.flushed
	if seq >= flushed && seq < durable {
		at := t.pending[seq-flushed].at
		t.mu.RUnlock()
		return at, nil
	}
	t.mu.RUnlock()
	if seq >= durable {
		return 0, fmt.Errorf("%w: no record %d", store.ErrNotFound, seq)
	}
	b, err := t.bundle(ctx, seq/tlog.TileWidth)
	if err != nil {
		return 0, err
	}
	return b.place(int(seq % tlog.TileWidth)), nil
}

// Bundle returns width entries from the index*256th on, as C2SP tlog-tiles has them.
func (t *Tree) Bundle(ctx context.Context, index uint64, width int) ([]byte, error) {
	if width < 1 || tlog.WidthIn(t.Durable(), 0, index) < width {
		return nil, fmt.Errorf("%w: no bundle %d of %d", store.ErrNotFound, index, width)
	}
	var out []byte
	for i := range width {
		entry, err := t.Entry(ctx, index*tlog.TileWidth+uint64(i)) //nolint:gosec // below 256
		if err != nil {
			return nil, err
		}
		out = tlog.AppendEntry(out, entry)
	}
	return out, nil
}

// Heads are the hashes of the newest records of each stream; a copy.
func (t *Tree) Heads() map[string]b3.Addr {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.heads)
}

// Writer is the node_id that stands in every record.
func (t *Tree) Writer() string { return t.cfg.Writer }
