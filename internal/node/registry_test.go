// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client/register"
	"github.com/rustyonions/macronode/registry"
)

// change commits changes at the writer, with the first signer's key.
func (n *Node) change(tb testing.TB, changes ...registry.Change) {
	tb.Helper()
	r := register.New(n.operator(tb))
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		tb.Fatal(err)
	}
	for i := range changes {
		if it, ok := n.members.State().Get(changes[i].Key()); ok {
			changes[i].Prev = it.Addr.String()
		}
	}
	now := time.Now().UnixMilli()
	p := &registry.Proposal{V: 1, Registry: n.members.State().Registry().String(), Nonce: hex.EncodeToString(nonce[:]), Title: "test", CreatedMS: now, ExpiresMS: now + 60_000, Changes: changes}
	id, err := p.Addr()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := r.Propose(tb.Context(), p, ""); err != nil {
		tb.Fatal(err)
	}
	list, err := r.SignWith(tb.Context(), id, registry.Approve, "KMS:key/registry")
	if err != nil {
		tb.Fatal(err)
	}
	got, err := r.Approve(tb.Context(), id, list)
	if err != nil || got.State != "committed" {
		tb.Fatalf("%+v, %v", got, err)
	}
}

func nodeNamed(name string, n *Node) registry.Change {
	return registry.Change{Op: registry.OpPut, Descriptor: &registry.Descriptor{V: 1, Kind: registry.KindNode, Name: name, Node: &registry.Node{NodeID: n.nodeID, Addr: n.oapAddr()}}}
}

// TestRegistryPeers: nodes that the registry names have sessions; its head reaches all
// of them, from hop to hop; one that it revokes has none any more, whoever else names it.
func TestRegistryPeers(t *testing.T) {
	nodes, opts := siblings(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	if a.members.State().Registry() != b.members.State().Registry() {
		t.Fatal("the copies have other registries")
	}
	// b and c know the writer from their config; all else is the registry's.
	b.name(t, opts[1], a.asPeer())
	c.name(t, opts[2], a.asPeer())
	a.change(t, nodeNamed("a", a), nodeNamed("b", b), nodeNamed("c", c))
	for _, n := range nodes {
		n.awaitPeers(t, 2)
	}
	same := func() bool {
		want := a.members.State()
		return b.members.State().Head() == want.Head() && c.members.State().Head() == want.Head()
	}
	poll(t, "one head", same)
	for _, s := range b.overlay.Statuses() {
		if want := map[string]string{a.nodeID: "config", c.nodeID: "registry"}[s.NodeID]; s.Source != want {
			t.Errorf("%s is a peer by %s, want %s", s.NodeID, s.Source, want)
		}
	}
	start := time.Now()
	a.change(t, registry.Change{Op: registry.OpPut, Descriptor: &registry.Descriptor{V: 1, Kind: registry.KindRegion, Name: "eu", Region: &registry.Region{}}})
	poll(t, "the new head", same)
	t.Logf("the head was everywhere after %v", time.Since(start))

	// A node that follows says so, and serves what it has, as the writer signed it.
	head, err := register.New(b.operator(t)).Head(t.Context())
	if err != nil || head.Writer != a.nodeID || head.NodeID != a.nodeID || head.Size != 3 {
		t.Errorf("%+v, %v", head, err)
	}
	log, err := register.New(b.operator(t)).Log(t.Context(), 0, 16)
	if err != nil || len(log.Entries) != 3 {
		t.Errorf("%+v, %v", log, err)
	}

	// c is revoked: nobody has a session with it, though its config names a, and a's c.
	a.name(t, opts[0], c.asPeer())
	a.change(t, registry.Change{Op: registry.OpRevoke, Kind: registry.KindNode, Name: "c"})
	poll(t, "the end of c's sessions", func() bool {
		return slices.Equal(a.overlay.Active(), []string{b.nodeID}) && slices.Equal(b.overlay.Active(), []string{a.nodeID}) && len(c.overlay.Active()) == 0
	})
	if a.overlay.Known(c.nodeID) || b.overlay.Known(c.nodeID) {
		t.Error("a node that was revoked is known")
	}
	// It stays so after a start.
	end(t, a)
	a = begin(t, opts[0])
	a.awaitPeers(t, 1)
	if a.overlay.Known(c.nodeID) {
		t.Error("a node that was revoked is known after a start")
	}
	if state := a.members.State(); state.Size() != 4 || !state.Revoked(c.nodeID) {
		t.Errorf("after a start the chain has %d entries", state.Size())
	}
}
