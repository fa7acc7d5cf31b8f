// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/registry"
)

// Founded reports whether there is a registry in the store.
func Founded(ctx context.Context, kv store.KV) (bool, error) {
	there := false
	err := kv.View(ctx, func(r store.Reader) error {
		_, err := r.Get([]byte(genesisKey))
		if there = err == nil; errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return there, err
}

// Found makes a new registry where there is none: its first signer is that key, one
// of one, and this node is its writer. It returns the registry's id.
func Found(ctx context.Context, kv store.KV, first bundle.Anchor, nodeID string, now time.Time) (b3.Addr, error) {
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return b3.Addr{}, err
	}
	e, err := registry.Genesis(nonce, now.UnixMilli(), "a new registry", []registry.Descriptor{{V: 1, Kind: registry.KindSigners, Name: registry.SignersName,
		Signers: &registry.Signers{Threshold: 1, Signers: []bundle.Anchor{first}, Writer: nodeID}}})
	if err != nil {
		return b3.Addr{}, err
	}
	return begin(ctx, kv, e)
}

// begin stores a first entry.
func begin(ctx context.Context, kv store.KV, e *registry.Entry) (b3.Addr, error) {
	text, err := e.Encode()
	if err != nil {
		return b3.Addr{}, err
	}
	state, err := registry.Begin(e)
	if err != nil {
		return b3.Addr{}, err
	}
	return state.Registry(), kv.Update(ctx, func(tx store.Tx) error { return Append(tx, e, text, nil, state) })
}

// Join makes the store follow a registry that is elsewhere: export is what it says of
// itself (ronctl registry export), and verifies whole before anything is stored. want
// is its id.
func Join(ctx context.Context, kv store.KV, export io.ReadSeeker, want b3.Addr) (b3.Addr, error) {
	v, err := registry.Verify(export, want)
	if err != nil {
		return b3.Addr{}, err
	}
	if v.Head == nil {
		return b3.Addr{}, errors.New("the export has no signed head")
	}
	if there, err := Founded(ctx, kv); err != nil || there {
		return b3.Addr{}, errors.Join(err, errors.New("there is a registry here already"))
	}
	if _, err := export.Seek(0, io.SeekStart); err != nil {
		return b3.Addr{}, err
	}
	dec := json.NewDecoder(bufio.NewReader(io.LimitReader(export, registry.MaxExportBytes)))
	var s *registry.State
	for {
		var l registry.Line
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return b3.Addr{}, err
		}
		if s, err = joinLine(ctx, kv, s, &l); err != nil {
			return b3.Addr{}, err
		}
	}
	if s == nil || s.Head() != v.State.Head() {
		return b3.Addr{}, errors.New("the export changed while it was read")
	}
	return s.Registry(), nil
}

// joinLine stores a line of a verified export, and is the state after it.
func joinLine(ctx context.Context, kv store.KV, s *registry.State, l *registry.Line) (*registry.State, error) {
	switch {
	case l.Base != nil:
		return joinBase(ctx, kv, l.Base)
	case l.Head != nil:
		return s, kv.Update(ctx, func(tx store.Tx) error { return tx.Set([]byte(signedKey), l.Head) })
	}
	e, err := registry.ParseEntry(l.Entry)
	if err != nil {
		return nil, err
	}
	if s == nil {
		if _, err := begin(ctx, kv, e); err != nil {
			return nil, err
		}
		return registry.Begin(e)
	}
	next, err := s.Apply(e)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	return next, kv.Update(ctx, func(tx store.Tx) error { return Append(tx, e, l.Entry, s, next) })
}

// joinBase stores where a chain goes on whose older entries were dropped.
func joinBase(ctx context.Context, kv store.KV, b *registry.Base) (s *registry.State, err error) {
	err = kv.Update(ctx, func(tx store.Tx) error {
		text, err := tx.Get([]byte(genesisKey))
		if err != nil {
			return err
		}
		genesis, err := registry.ParseEntry(text)
		if err != nil {
			return err
		}
		if s, err = registry.Resume(genesis, b); err != nil {
			return err
		}
		for _, text := range b.Anchors {
			e, err := registry.ParseEntry(text)
			if err != nil {
				return err
			}
			if err := tx.Set(seqKey(anchorPrefix, e.Seq), text); err != nil {
				return err
			}
		}
		for seq := range s.Size() {
			l, ok := b.Leaf(seq)
			if !ok {
				return errors.New("the base has too few leaves")
			}
			if err := tx.Set(seqKey(leafPrefix, seq), l[:]); err != nil {
				return err
			}
		}
		if err := Clear(tx, []byte(entryPrefix), After([]byte(entryPrefix))); err != nil {
			return err
		}
		if err := WriteBase(tx, b); err != nil {
			return err
		}
		return tx.Set([]byte(headKey), headValue(s.Size(), s.Head()))
	})
	return s, err
}
