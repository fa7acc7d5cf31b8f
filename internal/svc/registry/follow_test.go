// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/registry"
)

// wire has other nodes' followers answer.
type wire struct {
	to     map[string]*Follower
	change func(*answer) // what an answer becomes on its way; nil: it stays
}

func (w *wire) Active() (list []string) {
	for id := range w.to {
		list = append(list, id)
	}
	return list
}

func (w *wire) Ask(ctx context.Context, peer string, from uint64) ([]byte, error) {
	r, err := w.to[peer].tell(ctx, &macronode.Admitted{Call: &macronode.Call{Args: []macronode.Arg{{Name: "from", Value: strconv.FormatUint(from, 10)}}},
		Principal: &macronode.Principal{Kind: macronode.PeerNode, Node: "b3:x"}})
	if err != nil || w.change == nil {
		if err != nil {
			return nil, err
		}
		return r.Body, nil
	}
	var a answer
	if err := json.Unmarshal(r.Body, &a); err != nil {
		return nil, err
	}
	w.change(&a)
	return json.Marshal(a)
}

// follower is a node that joined w's registry when it was as it is now.
func follower(t *testing.T, w *world) (*Service, *Follower, *wire) {
	t.Helper()
	var out bytes.Buffer
	_, err := w.s.chain.Load().Export(t.Context(), w.kv, &out)
	w.must(err)
	kv := newEmptyKV(t)
	_, err = chain.Join(t.Context(), kv, bytes.NewReader(out.Bytes()), w.s.State().Registry())
	w.must(err)
	id := newNodeKey(t)
	s, err := New(t.Context(), Config{KV: kv, Audit: &recorder{}, Idem: idem.New(idem.Config{KV: kv}), NodeID: id.id, Key: id})
	w.must(err)
	net := &wire{to: map[string]*Follower{w.node.id: NewFollower(w.s, &wire{})}}
	return s, NewFollower(s, net), net
}

func TestFollow(t *testing.T) {
	w := newWorld(t)
	s, f, _ := follower(t, w)
	if err := f.Heard(t.Context(), w.node.id, w.s.Signed()); !errors.Is(err, ErrKnown) {
		t.Errorf("what is known: %v", err)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		w.must(w.commit(w.proposal(w.put(node(n))), "a", "b"))
	}
	if err := f.Heard(t.Context(), w.node.id, w.s.Signed()); !errors.Is(err, ErrKnown) {
		t.Errorf("what is to be had: %v", err)
	}
	if got := <-f.asked; got != w.node.id {
		t.Errorf("%s is asked", got)
	}
	result, err := f.follow(t.Context(), w.node.id)
	if err != nil || result != headAdopted || s.State().Root() != w.s.State().Root() || !s.chain.Load().Head.Same(w.s.chain.Load().Head) {
		t.Fatalf("%s, %v", result, err)
	}
	if result, err = f.follow(t.Context(), w.node.id); err != nil || result != headSame {
		t.Errorf("%s, %v", result, err)
	}
	// It is durable, and whole.
	again, err := New(t.Context(), s.c)
	if err != nil || again.State() == nil || again.State().Head() != w.s.State().Head() {
		t.Fatalf("%v", err)
	}
	if !slices.Contains(s.c.Audit.(*recorder).kinds(), "registry.adopt") {
		t.Error("what was adopted is not on record")
	}
}

// TestLyingPeer: a peer's answer that is not the writer's chain changes nothing.
func TestLyingPeer(t *testing.T) {
	stranger := newWorld(t)
	for name, change := range map[string]func(w *world, a *answer){
		"an entry is flipped": func(_ *world, a *answer) {
			a.Entries[0] = bytes.Replace(a.Entries[0], []byte(`"title":"t"`), []byte(`"title":"u"`), 1)
		},
		"an entry is missing": func(_ *world, a *answer) { a.Entries = a.Entries[1:] },
		"entries are swapped": func(_ *world, a *answer) { a.Entries[0], a.Entries[1] = a.Entries[1], a.Entries[0] },
		"nothing is shown":    func(_ *world, a *answer) { a.Entries = nil },
		"another's head":      func(_ *world, a *answer) { a.Signed = stranger.s.Signed() },
		"a head of its own": func(w *world, a *answer) { // by a node that is not the writer
			text, err := registry.SignHead(*w.s.chain.Load().Head, newNodeKey(w.t))
			w.must(err)
			a.Signed = text
		},
		"another order": func(w *world, a *answer) { // approved, and in an order that the writer did not make
			first, err := registry.ParseEntry(a.Entries[0])
			w.must(err)
			second, err := registry.ParseEntry(a.Entries[1])
			w.must(err)
			state := w.fork
			a.Entries = a.Entries[:0]
			for _, e := range []*registry.Entry{second, first} {
				made, next, err := state.Next(&e.Proposal, e.Signatures, e.TSMS)
				w.must(err)
				text, err := made.Encode()
				w.must(err)
				a.Entries, state = append(a.Entries, text), next
			}
		},
	} {
		w := newWorld(t)
		s, f, net := follower(t, w)
		w.fork = w.s.State()
		w.must(w.commit(w.proposal(w.put(node("n1"))), "a", "b"))
		w.must(w.commit(w.proposal(w.put(node("n2"))), "a", "b"))
		net.change = func(a *answer) { change(w, a) }
		before := s.State()
		if result, err := f.follow(t.Context(), w.node.id); err == nil {
			t.Errorf("%s: %s, no error", name, result)
		}
		if s.State() != before {
			t.Errorf("%s: it was taken", name)
		}
		net.change = nil
		if result, err := f.follow(t.Context(), w.node.id); err != nil || result != headAdopted {
			t.Errorf("%s, and then the truth: %s, %v", name, result, err)
		}
	}
}

// TestFork: a writer that signs another chain is found out, told of once, and not
// followed.
func TestFork(t *testing.T) {
	w := newWorld(t)
	s, f, _ := follower(t, w)
	image := newEmptyKV(t)
	copyKV(t, image, w.kv)
	w.must(w.commit(w.proposal(w.put(node("n1"))), "a", "b"))
	if _, err := f.follow(t.Context(), w.node.id); err != nil {
		t.Fatal(err)
	}
	before := s.State()
	// The writer was restored from before that, and commits something else.
	w.kv = image
	w.start()
	w.must(w.commit(w.proposal(w.put(node("n2"))), "a", "b"))
	for range 2 {
		if err := f.Heard(t.Context(), w.node.id, w.s.Signed()); err == nil || errors.Is(err, ErrKnown) {
			t.Errorf("a fork: %v", err)
		}
	}
	if s.State() != before {
		t.Error("the fork was followed")
	}
	n := 0
	for _, k := range s.c.Audit.(*recorder).kinds() {
		if k == "registry.fork fork" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d records of the fork, want one", n)
	}
	// Longer than the chain here it is no better.
	w.must(w.commit(w.proposal(w.put(node("n3"))), "a", "b"))
	f = NewFollower(s, &wire{to: map[string]*Follower{w.node.id: NewFollower(w.s, &wire{})}})
	if _, err := f.follow(t.Context(), w.node.id); err == nil || s.State() != before {
		t.Errorf("a longer fork was followed: %v", err)
	}
}

func copyKV(t *testing.T, to, from store.KV) {
	t.Helper()
	err := from.View(t.Context(), func(r store.Reader) error {
		return to.Update(t.Context(), func(tx store.Tx) error {
			var bad error
			err := r.Scan(nil, nil, func(k, v []byte) bool {
				bad = tx.Set(bytes.Clone(k), bytes.Clone(v))
				return bad == nil
			})
			return errors.Join(err, bad)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestStrangerAsks: who is no peer gets nothing.
func TestStrangerAsks(t *testing.T) {
	w := newWorld(t)
	f := NewFollower(w.s, &wire{})
	_, err := f.tell(t.Context(), &macronode.Admitted{Call: &macronode.Call{}, Principal: &macronode.Principal{Kind: macronode.Capability}})
	wantKind(t, "a capability", err, macronode.Denied)
}
