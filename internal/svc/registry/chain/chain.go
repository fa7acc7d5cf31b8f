// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package chain keeps the registry's chain in the metadata store: it is replayed when
// it is read, and grows by entries that follow. It decides nothing: what may be
// appended is the public package registry's to say.
package chain

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/registry"
)

const (
	genesisKey   = "registry/genesis"
	headKey      = "registry/head"
	signedKey    = "registry/signed"
	entryPrefix  = "registry/entry/"
	anchorPrefix = "registry/anchor/"
	leafPrefix   = "registry/leaf/"
	basePrefix   = "registry/base/"
)

// basePiece is how much of a base is in one value.
const basePiece = store.MaxValueBytes / 2

// EntryKey is the key of an entry.
func EntryKey(seq uint64) []byte { return seqKey(entryPrefix, seq) }

func seqKey(prefix string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), seq)
}

// After is the end of the keys that begin with prefix, which does not end in ff.
func After(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

// SetSigned keeps the signed head; nil: there is none.
func SetSigned(tx store.Tx, text []byte) error {
	if text == nil {
		return tx.Delete([]byte(signedKey))
	}
	return tx.Set([]byte(signedKey), text)
}

func headValue(size uint64, hash b3.Addr) []byte {
	return append(binary.BigEndian.AppendUint64(nil, size), hash[:]...)
}

// Corrupt is store.ErrCorrupt, saying what.
func Corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: registry: %s", store.ErrCorrupt, fmt.Sprintf(format, args...))
}

// Chain is what the store holds of it. A Chain does not change, but for Tree, which
// grows in place.
type Chain struct {
	State   *registry.State
	Tree    *registry.Tree
	Genesis []byte
	First   uint64         // place of the first entry that is kept; 0: all are
	Signed  []byte         // the signed head; nil: none
	Head    *registry.Head // the same, read
}

// ErrNone says that there is no registry here yet.
var ErrNone = errors.New("there is no registry here")

// Load reads the chain and replays it: every entry's signatures, links and
// state. What does not verify is store.ErrCorrupt, and says where.
func Load(ctx context.Context, kv store.KV) (*Chain, error) {
	c := &Chain{Tree: &registry.Tree{}}
	err := kv.View(ctx, func(r store.Reader) error { return c.read(r) })
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Chain) read(r store.Reader) (err error) {
	if c.Genesis, err = r.Get([]byte(genesisKey)); errors.Is(err, store.ErrNotFound) {
		return ErrNone
	} else if err != nil {
		return err
	}
	genesis, err := registry.ParseEntry(c.Genesis)
	if err != nil {
		return Corrupt("the first entry: %v", err)
	}
	if c.State, err = registry.Begin(genesis); err != nil {
		return Corrupt("the first entry: %v", err)
	}
	base, err := ReadBase(r)
	if err != nil {
		return err
	}
	if base != nil {
		if c.State, err = registry.Resume(genesis, base); err != nil {
			return Corrupt("the base: %v", err)
		}
		c.First = c.State.Size()
	}
	want, err := r.Get([]byte(headKey))
	if err != nil {
		return Corrupt("the head: %v", err)
	}
	if err := c.replay(r); err != nil {
		return err
	}
	if !bytes.Equal(want, headValue(c.State.Size(), c.State.Head())) {
		return Corrupt("the log ends with entry %d, which is not the head", int64(c.State.Size())-1) //nolint:gosec // within MaxSize
	}
	if c.First > 0 && !c.State.Vouched(c.First) {
		return Corrupt("the first %d entries are gone, and the signers have not vouched for them", c.First)
	}
	return c.readSigned(r)
}

// replay applies the entries that are kept, and fills the tree.
func (c *Chain) replay(r store.Reader) error {
	var bad error
	scan := func(prefix string, f func(seq uint64, value []byte) error) error {
		err := r.Scan([]byte(prefix), After([]byte(prefix)), func(k, v []byte) bool {
			if len(k) != len(prefix)+8 {
				bad = Corrupt("a key of %s", prefix)
				return false
			}
			bad = f(binary.BigEndian.Uint64(k[len(prefix):]), v)
			return bad == nil
		})
		return errors.Join(err, bad)
	}
	var leaves []registry.Leaf
	err := scan(leafPrefix, func(seq uint64, v []byte) error {
		if len(v) != len(registry.Leaf{}) || seq != uint64(len(leaves)) || seq >= registry.MaxSize {
			return Corrupt("the leaf of entry %d", len(leaves))
		}
		leaves = append(leaves, registry.Leaf(v))
		return nil
	})
	if err != nil {
		return err
	}
	next := c.First
	err = scan(entryPrefix, func(seq uint64, v []byte) error {
		if seq != next || seq >= uint64(len(leaves)) || registry.LeafOf(v) != leaves[seq] {
			return Corrupt("entry %d is missing, or is not the one that was kept", next)
		}
		next++
		if seq == 0 {
			if !bytes.Equal(v, c.Genesis) {
				return Corrupt("entry 0 is not the first entry")
			}
			return nil
		}
		e, err := registry.ParseEntry(v)
		if err == nil {
			c.State, err = c.State.Apply(e)
		}
		if err != nil {
			return Corrupt("entry %d: %v", seq, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if uint64(len(leaves)) != c.State.Size() {
		return Corrupt("there are %d entries and %d leaves", c.State.Size(), len(leaves))
	}
	for _, l := range leaves {
		if err := c.Tree.Add(l); err != nil {
			return err
		}
	}
	return nil
}

// readSigned reads the signed head. One that is missing is made again; one that is
// of another chain is damage.
func (c *Chain) readSigned(r store.Reader) error {
	text, err := r.Get([]byte(signedKey))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	h, err := registry.ParseHead(text)
	if err != nil {
		return Corrupt("the signed head: %v", err)
	}
	if err := c.State.Ends(h, c.Tree.Root()); err != nil {
		return Corrupt("the signed head: %v", err)
	}
	c.Signed, c.Head = text, h
	return nil
}

// ReadBase is where the chain begins whose older entries were dropped; nil: none were.
// Its leaves are left out.
func ReadBase(r store.Reader) (*registry.Base, error) {
	var text []byte
	err := r.Scan([]byte(basePrefix), After([]byte(basePrefix)), func(_, v []byte) bool {
		text = append(text, v...)
		return true
	})
	if err != nil || text == nil {
		return nil, err
	}
	b := &registry.Base{}
	if err := json.Unmarshal(text, b); err != nil {
		return nil, Corrupt("the base is not JSON")
	}
	last, err := registry.ParseEntry(b.Entry)
	if err != nil {
		return nil, Corrupt("the base: %v", err)
	}
	b.Anchors, err = readAnchors(r, last.Seq)
	return b, err
}

// readAnchors are the entries that changed the signers, up to the one at last.
func readAnchors(r store.Reader, last uint64) (list []json.RawMessage, err error) {
	list = []json.RawMessage{}
	err = r.Scan([]byte(anchorPrefix), seqKey(anchorPrefix, last+1), func(_, v []byte) bool {
		list = append(list, bytes.Clone(v))
		return true
	})
	return list, err
}

// WriteBase puts b in place of the base that there is.
func WriteBase(tx store.Tx, b *registry.Base) error {
	if err := Clear(tx, []byte(basePrefix), After([]byte(basePrefix))); err != nil {
		return err
	}
	kept := *b
	kept.Anchors, kept.Leaves = nil, nil // they have keys of their own
	text, err := json.Marshal(&kept)
	if err != nil {
		return err
	}
	for n := uint32(0); len(text) > 0; n++ {
		piece := text[:min(len(text), basePiece)]
		if err := tx.Set(binary.BigEndian.AppendUint32([]byte(basePrefix), n), piece); err != nil {
			return err
		}
		text = text[len(piece):]
	}
	return nil
}

// Clear deletes the keys of [lo, hi).
func Clear(tx store.Tx, lo, hi []byte) error {
	var keys [][]byte
	if err := tx.Scan(lo, hi, func(k, _ []byte) bool { keys = append(keys, bytes.Clone(k)); return true }); err != nil {
		return err
	}
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ErrMoved says that the head is not the one that a change was made for.
var ErrMoved = errors.New("the head has moved")

// Append writes an entry behind the head that prev is, and moves the head.
func Append(tx store.Tx, e *registry.Entry, text []byte, prev, next *registry.State) error {
	if prev == nil {
		if _, err := tx.Get([]byte(headKey)); err == nil {
			return ErrMoved
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := tx.Set([]byte(genesisKey), text); err != nil {
			return err
		}
	} else {
		head, err := tx.Get([]byte(headKey))
		if err != nil {
			return err
		}
		if !bytes.Equal(head, headValue(prev.Size(), prev.Head())) {
			return ErrMoved
		}
		if prev.SignersAddr() != next.SignersAddr() {
			if err := tx.Set(seqKey(anchorPrefix, e.Seq), text); err != nil {
				return err
			}
		}
	}
	leaf := registry.LeafOf(text)
	if err := tx.Set(seqKey(entryPrefix, e.Seq), text); err != nil {
		return err
	}
	if err := tx.Set(seqKey(leafPrefix, e.Seq), leaf[:]); err != nil {
		return err
	}
	return tx.Set([]byte(headKey), headValue(next.Size(), next.Head()))
}
