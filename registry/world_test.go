// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

// world is a registry with all keys at hand.
type world struct {
	t       testing.TB
	rng     *rand.ChaCha8
	keys    map[string]*PrivateKey // by "NAME#vN"
	state   *State
	entries []*Entry
	texts   [][]byte
	tree    *Tree
	nonce   uint64
	ms      int64
}

var writerID = b3.Sum([]byte("writer")).String()

func (w *world) key(name string, version uint64, hybrid bool) *PrivateKey {
	w.t.Helper()
	id := fmt.Sprintf("%s#v%d", name, version)
	if k := w.keys[id]; k != nil {
		return k
	}
	k, err := NewKey(name, version, hybrid, w.rng)
	if err != nil {
		w.t.Fatal(err)
	}
	w.keys[id] = k
	return k
}

// signers is a set of keys, as a descriptor.
func signers(threshold int, writer string, keys ...*PrivateKey) *Descriptor {
	s := &Signers{Threshold: threshold, Writer: writer}
	for _, k := range keys {
		s.Signers = append(s.Signers, k.Anchor())
	}
	slices.SortFunc(s.Signers, func(a, b bundle.Anchor) int {
		if a.Name != b.Name {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}
		return int(a.Version) - int(b.Version) //nolint:gosec // small
	})
	return &Descriptor{V: 1, Kind: KindSigners, Name: SignersName, Signers: s}
}

func node(name string) *Descriptor {
	return &Descriptor{V: 1, Kind: KindNode, Name: name, Node: &Node{NodeID: b3.Sum([]byte("node " + name)).String(), Addr: "127.0.0.1:34000"}}
}

// newWorld founds a registry with a (hybrid), b and c, two of whom must agree.
func newWorld(t testing.TB) *world {
	w := &world{t: t, rng: rand.NewChaCha8([32]byte{1}), keys: map[string]*PrivateKey{}, tree: &Tree{}, ms: 1_700_000_000_000}
	e, err := Genesis([16]byte{7}, w.ms, "test", []Descriptor{*signers(2, writerID, w.key("a", 1, true), w.key("b", 1, false), w.key("c", 1, false))})
	if err != nil {
		t.Fatal(err)
	}
	w.take(e)
	return w
}

func (w *world) take(e *Entry) {
	w.t.Helper()
	text, err := e.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.state == nil {
		w.state, err = Begin(e)
	} else {
		w.state, err = w.state.Apply(e)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.tree.Add(LeafOf(text)); err != nil {
		w.t.Fatal(err)
	}
	w.entries, w.texts = append(w.entries, e), append(w.texts, text)
}

// put is the change that makes d what is registered.
func (w *world) put(d *Descriptor) Change {
	c := Change{Op: OpPut, Descriptor: d}
	if it, ok := w.state.Get(d.Key()); ok {
		c.Prev = it.Addr.String()
	}
	return c
}

func (w *world) proposal(changes ...Change) *Proposal {
	w.nonce++
	w.ms += 1000
	return &Proposal{V: 1, Registry: w.state.Registry().String(), Nonce: fmt.Sprintf("%032x", w.nonce), Title: "t", CreatedMS: w.ms, ExpiresMS: w.ms + 1_000_000, Changes: changes}
}

// sign signs a decision with the keys named.
func (w *world) sign(p *Proposal, d Decision, names ...string) (list []Signature) {
	w.t.Helper()
	id, err := p.Addr()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range names {
		more, err := Sign(w.state.Registry(), id, d, w.keys[n].Halves()...)
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, more...)
	}
	SortSignatures(list)
	return list
}

// commit commits changes that the named keys approve.
func (w *world) commit(names []string, changes ...Change) *Entry {
	w.t.Helper()
	e, err := w.try(names, changes...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.take(e)
	return e
}

func (w *world) try(names []string, changes ...Change) (*Entry, error) {
	w.t.Helper()
	p := w.proposal(changes...)
	e, _, err := w.state.Next(p, w.sign(p, Approve, names...), w.ms)
	return e, err
}

// export is the chain in lines, with the head where there is one.
func (w *world) export(head []byte, base *Base, from int) []byte {
	w.t.Helper()
	var out []byte
	line := func(l Line) {
		b, err := json.Marshal(l)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(append(out, b...), '\n')
	}
	for i, text := range w.texts {
		if i == 1 && base != nil {
			line(Line{Base: base})
		}
		if i == 0 || i >= from {
			line(Line{Entry: text})
		}
	}
	if head != nil {
		line(Line{Head: head})
	}
	return out
}

var ab, bc = []string{"a#v1", "b#v1"}, []string{"b#v1", "c#v1"}
