// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

// Keys of metadata. Numbers are big-endian, so that they sort.
//
//	audit/tree             state: format, entries whose metadata is there
//	audit/writer           node_id that the node had when the log was begun
//	audit/checkpoint       the newest checkpoint, signed
//	audit/tile/ LEVEL N    hashes; above the leaves a tile may be a partial one
//	audit/bundle/ N        where 256 entries are, and when they happened
//	audit/head/ STREAM     hash of the stream's newest entry
//	audit/of/ STREAM 0 N   which of a bundle's entries are the stream's, 256 bits
//	audit/by/ HASH8 N      an entry whose record's hash begins so
var (
	stateKey      = []byte("audit/tree")
	checkpointKey = []byte("audit/checkpoint")
	writerKey     = []byte("audit/writer")
	headPrefix    = []byte("audit/head/")
	headEnd       = []byte("audit/head0")
)

const (
	format     = 1
	stateBytes = 2 + 8 // format, entries
	// bundleBytes is a bundle's value: earliest and latest time, then places.
	bundleBytes = 16 + 8*tlog.TileWidth
	bitmapBytes = tlog.TileWidth / 8
	// maxStreamBytes bounds the name of a stream, so that it fits a key.
	maxStreamBytes = 512
)

func tileKey(level int, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("audit/tile/"), byte(level)), index)
}

func bundleKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte("audit/bundle/"), index)
}

func headKey(stream string) []byte { return append(bytes.Clone(headPrefix), stream...) }

func ofKey(stream string, index uint64) []byte {
	b := append(append([]byte("audit/of/"), stream...), 0)
	return binary.BigEndian.AppendUint64(b, index)
}

// hashKey names a record by eight bytes of its hash: enough to find few, which are
// looked at.
func hashKey(h b3.Addr, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("audit/by/"), h[:8]...), seq)
}

// bundle is where 256 entries are.
type bundle []byte

func (b bundle) times() (earliest, latest int64) {
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])) //nolint:gosec // written from int64
}

func (b bundle) place(i int) store.Pos { return store.Pos(binary.BigEndian.Uint64(b[16+8*i:])) }

func (t *Tree) bundle(ctx context.Context, index uint64) (b bundle, err error) {
	err = t.cfg.KV.View(ctx, func(r store.Reader) error {
		b, err = readBundle(r, index)
		return err
	})
	return b, err
}

func readBundle(r store.Reader, index uint64) (bundle, error) {
	b, err := r.Get(bundleKey(index))
	if errors.Is(err, store.ErrNotFound) || err == nil && len(b) != bundleBytes {
		return nil, fmt.Errorf("%w: the places of records %d to %d are missing", ErrDamaged, index*tlog.TileWidth, (index+1)*tlog.TileWidth-1)
	}
	return b, err
}

// Flush writes the metadata of whole bundles that are durable, and forgets what it
// need not hold. It may be called at any time; without it memory grows.
func (t *Tree) Flush(ctx context.Context) error {
	for {
		p := t.piece()
		if p == nil {
			return nil
		}
		if err := t.cfg.KV.Update(ctx, p.write); err != nil {
			return err
		}
		t.forget(p)
	}
}

// piece is the metadata of one bundle.
type piece struct {
	index  uint64
	values map[string][]byte
}

func (p *piece) write(tx store.Tx) error {
	for k, v := range p.values {
		if err := tx.Set([]byte(k), v); err != nil {
			return err
		}
	}
	return tx.Set(stateKey, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, format), (p.index+1)*tlog.TileWidth))
}

// piece makes the next bundle's metadata; nil where none is whole and durable.
func (t *Tree) piece() *piece {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.durable < t.flushed+tlog.TileWidth {
		return nil
	}
	p := &piece{index: t.flushed / tlog.TileWidth, values: map[string][]byte{}}
	set := func(key, value []byte) { p.values[string(key)] = bytes.Clone(value) }
	set(tileKey(0, p.index), t.leaves[:tlog.TileWidth*hashBytes])
	for name, data := range t.upper {
		// Hashes beyond this bundle are of entries that may not be durable.
		n := tlog.WidthIn((p.index+1)*tlog.TileWidth, name.Level, name.Index) * hashBytes
		if n > 0 {
			set(tileKey(name.Level, name.Index), data[:n])
		}
	}
	b := make([]byte, 16, bundleBytes)
	earliest, latest := int64(math.MaxInt64), int64(math.MinInt64)
	for i, e := range t.pending[:tlog.TileWidth] {
		b = binary.BigEndian.AppendUint64(b, uint64(e.at))
		earliest, latest = min(earliest, e.time), max(latest, e.time)
		set(headKey(e.stream), e.hash[:])
		set(hashKey(e.hash, t.flushed+uint64(i)), nil) //nolint:gosec // below 256
		key := string(ofKey(e.stream, p.index))
		if p.values[key] == nil {
			p.values[key] = make([]byte, bitmapBytes)
		}
		p.values[key][i/8] |= 1 << (i % 8)
	}
	binary.BigEndian.PutUint64(b, uint64(earliest))   //nolint:gosec // read as int64 again
	binary.BigEndian.PutUint64(b[8:], uint64(latest)) //nolint:gosec // the same
	set(bundleKey(p.index), b)
	return p
}

// forget drops what p has written.
func (t *Tree) forget(p *piece) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flushed = (p.index + 1) * tlog.TileWidth
	t.leaves = append([]byte(nil), t.leaves[tlog.TileWidth*hashBytes:]...)
	t.pending = append([]pending(nil), t.pending[tlog.TileWidth:]...)
	for name := range t.upper {
		if tlog.WidthIn(t.flushed, name.Level, name.Index) == tlog.TileWidth {
			delete(t.upper, name)
		}
	}
}

// readHeads are of what was flushed.
func readHeads(r store.Reader) (map[string]b3.Addr, error) { return scanHeads(r, headPrefix, headEnd) }

func scanHeads(r store.Reader, prefix, end []byte) (map[string]b3.Addr, error) {
	heads := map[string]b3.Addr{}
	err := r.Scan(prefix, end, func(k, v []byte) bool {
		var a b3.Addr
		copy(a[:], v)
		heads[string(k[len(prefix):])] = a
		return true
	})
	return heads, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
