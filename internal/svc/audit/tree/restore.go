// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/tlog"
)

// ErrNotRestored: an export that cannot make the log whole. Nothing was changed.
var ErrNotRestored = errors.New("audit: the log cannot be restored from this export")

// Restore makes a damaged log anew from an export and what is whole of it. It takes no
// record that the export's signed checkpoint, or for what follows it the chain and the
// newest signed checkpoint of the log itself, does not vouch for.
type Restore struct {
	KV       store.KV
	Old, New store.Log     // New is empty, and holds the log afterwards
	Versions [][]tlog.Key  // that have signed its checkpoints, by version of the key
	Export   io.ReadSeeker // of this log

	first uint64
	heads map[string]b3.Addr
	last  *tlog.Signed // newest checkpoint; nil: none
	front *tlog.Frontier
	chain tlog.Chain
}

// Restored is what a log was made of.
type Restored struct {
	First, Size uint64 // of the log
	Exported    uint64 // records that came from the export
	Kept        uint64 // records behind it that were whole in the log
}

// Build writes New and changes nothing else.
func (r *Restore) Build(ctx context.Context) (Restored, error) {
	var out Restored
	var writer string
	err := r.KV.View(ctx, func(kv store.Reader) (err error) {
		writer, err = r.read(kv)
		return err
	})
	if err != nil {
		return out, err
	}
	v, keys, err := r.verify()
	if err != nil {
		return out, err
	}
	switch h := v.Head; {
	case h.Writer != writer || v.Signed.Origin != Origin(writer):
		return out, fmt.Errorf("%w: it is of the log of %.80s, this one is %.80s's", ErrNotRestored, h.Writer, writer)
	case h.First > r.first || h.Size < r.first:
		return out, fmt.Errorf("%w: it holds records %d to %d, the log begins at %d", ErrNotRestored, h.First, h.Size, r.first)
	}
	if r.front, err = tlog.NewFrontier(v.Head.First, v.Head.Peaks); err != nil {
		return out, err
	}
	// Verified again while it is written: a file may change.
	if _, err := r.Export.Seek(0, io.SeekStart); err != nil {
		return out, err
	}
	if v, err = tlog.VerifyExport(r.Export, keys, func(rec *tlog.Record) error {
		entry, err := rec.Entry()
		if err == nil {
			err = errors.Join(r.take(rec, entry), ctx.Err())
		}
		return err
	}); err != nil {
		return out, notRestored(err)
	}
	out = Restored{First: r.first, Exported: r.front.Size() - r.first}
	r.chain.Whole = true
	r.chain.Resume(writer, v.Head.Size, v.Heads)
	if err := r.keep(ctx); err != nil {
		return out, err
	}
	out.Size = r.front.Size()
	out.Kept = out.Size - v.Head.Size
	if r.last != nil && r.last.Size > out.Size {
		return out, fmt.Errorf("%w: records %d to %d are signed for, and are neither in it nor whole in the log: a newer export is needed", ErrNotRestored, out.Size, r.last.Size-1)
	}
	return out, r.New.Sync(ctx)
}

// read learns of metadata what the log must be.
func (r *Restore) read(kv store.Reader) (writer string, err error) {
	b, err := kv.Get(writerKey)
	if err != nil {
		return "", fmt.Errorf("%w: metadata does not say whose log it is: %w", ErrNotRestored, err)
	}
	t := Tree{flushed: tlog.MaxTreeSize}
	if err := t.loadBase(kv); err != nil {
		return "", err
	}
	r.first = t.first
	if r.heads, err = scanHeads(kv, baseHeadPrefix, baseHeadEnd); err != nil {
		return "", err
	}
	note, err := kv.Get(checkpointKey)
	if errors.Is(err, store.ErrNotFound) {
		return string(b), nil
	}
	if err != nil {
		return "", err
	}
	for _, keys := range r.Versions {
		if r.last, err = tlog.OpenLog(note, keys); err == nil {
			return string(b), nil
		}
	}
	return "", fmt.Errorf("%w: the log's own newest checkpoint does not verify: %w", ErrNotRestored, err)
}

// verify reads the whole export with the keys that signed it.
func (r *Restore) verify() (v *tlog.Verified, keys []tlog.Key, err error) {
	err = errors.New("no key of the log is known")
	for _, keys = range r.Versions {
		if _, err := r.Export.Seek(0, io.SeekStart); err != nil {
			return nil, nil, err
		}
		if v, err = tlog.VerifyExport(r.Export, keys, nil); err == nil {
			return v, keys, nil
		}
		if !errors.Is(err, tlog.ErrCheckpoint) {
			break
		}
	}
	return nil, nil, notRestored(err)
}

func notRestored(err error) error {
	if errors.Is(err, ErrNotRestored) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotRestored, err)
}

// take puts a record at the end of the new log, and holds the tree against the newest
// checkpoint.
func (r *Restore) take(rec *tlog.Record, entry []byte) error {
	if rec.Seq >= r.first {
		if _, err := r.New.StageOne(true, entry, nil); err != nil {
			return err
		}
	}
	r.front.Add(tlog.LeafHash(entry), nil)
	if r.last != nil && r.front.Size() == r.last.Size && r.front.Root() != r.last.Root {
		return fmt.Errorf("%w: with it the tree of the first %d records is not the one that the node signed last", ErrNotRestored, r.last.Size)
	}
	return nil
}

// keep takes what is whole of the old log behind the export, up to the first gap.
func (r *Restore) keep(ctx context.Context) error {
	err := r.Old.Scan(0, func(_ store.Pos, entry []byte) error {
		rec, err := tlog.Parse(entry)
		if err != nil || rec.Seq < r.front.Size() {
			return ctx.Err() // damaged, or the export had it
		}
		if r.chain.Add(rec) != nil {
			return errEnough
		}
		return errors.Join(r.take(rec, bytes.Clone(entry)), ctx.Err())
	}, func(store.Pos, int64) {})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Commit makes metadata forget what it knows of the records, which the next Open reads
// from the log again, tiles and places with it. New takes the old log's place then.
func (r *Restore) Commit(ctx context.Context) error {
	return r.KV.Reclaim(ctx, func(tx store.Tx) error {
		heads, err := readHeads(tx)
		if err != nil {
			return err
		}
		for stream := range heads {
			if err := tx.Delete(headKey(stream)); err != nil {
				return err
			}
		}
		for stream, h := range r.heads {
			if err := tx.Set(headKey(stream), h[:]); err != nil {
				return err
			}
		}
		return tx.Set(stateKey, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(nil, format), r.first))
	})
}

// WriterOf is whose log metadata belongs to.
func WriterOf(ctx context.Context, kv store.KV) (writer string, err error) {
	err = kv.View(ctx, func(r store.Reader) error {
		b, err := r.Get(writerKey)
		writer = string(b)
		return err
	})
	return writer, err
}
