// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

// TestTamper: whatever is done to the chain in the store, a start finds it, says so,
// and serves nothing of it.
func TestTamper(t *testing.T) {
	get := func(tx store.Tx, seq uint64) []byte {
		v, err := tx.Get(chain.EntryKey(seq))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	set := func(tx store.Tx, key, v []byte) {
		if err := tx.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	leaf := func(tx store.Tx, seq uint64, text []byte) {
		l := registry.LeafOf(text)
		set(tx, bytes.Replace(chain.EntryKey(seq), []byte("/entry/"), []byte("/leaf/"), 1), l[:])
	}
	for name, spoil := range map[string]func(w *world, tx store.Tx){
		"flip": func(_ *world, tx store.Tx) { v := get(tx, 2); v[len(v)/2] ^= 1; set(tx, chain.EntryKey(2), v) },
		"flip with leaf": func(_ *world, tx store.Tx) {
			v := bytes.Replace(get(tx, 2), []byte(`"title":"t"`), []byte(`"title":"u"`), 1)
			set(tx, chain.EntryKey(2), v)
			leaf(tx, 2, v)
		},
		"drop": func(_ *world, tx store.Tx) {
			if err := tx.Delete(chain.EntryKey(2)); err != nil {
				t.Fatal(err)
			}
		},
		"insert": func(_ *world, tx store.Tx) { set(tx, chain.EntryKey(4), get(tx, 3)); leaf(tx, 4, get(tx, 3)) },
		"swap": func(_ *world, tx store.Tx) {
			a, b := get(tx, 2), get(tx, 3)
			set(tx, chain.EntryKey(2), b)
			set(tx, chain.EntryKey(3), a)
			leaf(tx, 2, b)
			leaf(tx, 3, a)
		},
		"truncate": func(_ *world, tx store.Tx) {
			if err := tx.Delete(chain.EntryKey(3)); err != nil {
				t.Fatal(err)
			}
		},
		"fork": func(w *world, tx store.Tx) { // as the quorum could have signed it, in place of the last entry
			p := w.proposal(registry.Change{Op: registry.OpPut, Descriptor: node("fork")})
			other := w.fork
			e, _, err := other.Next(p, sorted(w.sign(p, registry.Approve, "a", "b")), w.clock.Load())
			if err != nil {
				t.Fatal(err)
			}
			text, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			set(tx, chain.EntryKey(3), text)
			leaf(tx, 3, text)
		},
		"another first entry": func(_ *world, tx store.Tx) { set(tx, []byte("registry/genesis"), get(tx, 1)) },
		"head":                func(_ *world, tx store.Tx) { set(tx, []byte("registry/head"), make([]byte, 40)) },
	} {
		w := newWorld(t)
		w.must(w.commit(w.proposal(w.put(node("n1"))), "a", "b"))
		w.fork = w.s.State()
		w.must(w.commit(w.proposal(w.put(node("n2"))), "a", "b"))
		w.must(w.kv.Update(t.Context(), func(tx store.Tx) error { spoil(w, tx); return nil }))
		w.start()
		if err := w.s.Ready(t.Context()); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "registry") {
			t.Errorf("%s: it is ready: %v", name, err)
		}
		_, err := w.call("registry.head", nil, nil)
		wantKind(t, name, err, macronode.Unavailable)
		wantKind(t, name, errOf(w.call("registry.descriptors", nil, nil)), macronode.Unavailable)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := w.s.Serve(ctx); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: it runs: %v", name, err)
		}
		cancel()
	}
}

func errOf(_ *macronode.Reply, err error) error { return err }

func sorted(list []registry.Signature) []registry.Signature {
	registry.SortSignatures(list)
	return list
}

// TestCompact: older entries go once the signers vouched for them, and what is left
// verifies, is served, and goes on.
func TestCompact(t *testing.T) {
	w := newWorld(t)
	w.keys["d"] = key(t, "d", 1, false)
	w.must(w.commit(w.proposal(w.put(w.signers(2, "b", "c", "d"))), "b", "c", "d"))
	w.must(w.s.compact(t.Context()))
	if w.s.chain.Load().First != 0 {
		t.Fatal("entries went that nobody vouched for")
	}
	mark := w.s.State()
	w.must(w.commit(w.proposal(registry.Change{Op: registry.OpCheckpoint, Size: mark.Size(), Head: mark.Head().String()}), "b", "c"))
	for i := range keepEntries {
		w.must(w.commit(w.proposal(w.put(&registry.Descriptor{V: 1, Kind: registry.KindRegion, Name: "r", Region: &registry.Region{Title: strings.Repeat("x", i+1)}})), "c", "d"))
	}
	want := w.s.State()
	w.must(w.s.compact(t.Context()))
	for _, again := range []string{"at once", "after a start"} {
		c := w.s.chain.Load()
		if c == nil || c.First != mark.Size() || c.State.Head() != want.Head() || c.State.Root() != want.Root() {
			t.Fatalf("%s: %+v, %v", again, c, w.s.Ready(t.Context()))
		}
		wantKind(t, again, errOf(w.call("registry.log", map[string]string{"from": "1"}, nil)), macronode.NotFound)
		if _, err := w.call("registry.log", map[string]string{"from": "0"}, nil); err != nil {
			t.Errorf("%s: the first entry: %v", again, err)
		}
		var out bytes.Buffer
		if _, err := c.Export(t.Context(), w.kv, &out); err != nil {
			t.Fatal(err)
		}
		export := out.Bytes()
		v, err := registry.Verify(bytes.NewReader(export), want.Registry())
		if err != nil || v.First != mark.Size() || v.State.Root() != want.Root() {
			t.Fatalf("%s: %v", again, err)
		}
		other := newWorld(t)
		empty := other.config()
		joined := newEmptyKV(t)
		if _, err := chain.Join(t.Context(), joined, bytes.NewReader(export), want.Registry()); err != nil {
			t.Fatal(err)
		}
		empty.KV = joined
		s, err := New(t.Context(), empty)
		if err != nil || s.State() == nil || s.State().Head() != want.Head() {
			t.Fatalf("%s: a node that joined: %v, %v", again, err, s.Ready(t.Context()))
		}
		w.start()
	}
	w.must(w.commit(w.proposal(w.put(node("n1"))), "b", "d"))
	w.start()
	if w.s.State() == nil || w.s.State().Size() != want.Size()+1 {
		t.Fatal(w.s.Ready(t.Context()))
	}
}
