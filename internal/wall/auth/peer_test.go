// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
)

// A peer is who proved its key on a session between nodes and is a peer now, shows
// no capability, and speaks of one tenant that exists here.
func TestPeer(t *testing.T) {
	w := newWorld()
	w.tenants[macronode.SystemTenant] = &macronode.Tenant{ID: macronode.SystemTenant, Label: "system"}
	suspended := macronode.TenantID{0: 1, 15: 2}
	w.tenants[suspended] = &macronode.Tenant{ID: suspended, Suspended: true}
	const friend = "b3:friend"
	peers := map[string]bool{friend: true}
	a := New(Config{Keys: w, Tenants: w, Revocations: w, NodeID: "b3:node", Metrics: metrics.New(false), Peer: func(id string) bool { return peers[id] }})
	b := &macronode.Binding{Op: "overlay.gossip", Action: "overlay:peer"}
	session := func(change func(*macronode.Call)) *macronode.Call {
		c := &macronode.Call{Wire: macronode.WireOAP, Peer: macronode.Peer{TLS: true, Overlay: true, NodeID: friend}}
		if change != nil {
			change(c)
		}
		return c
	}
	tok := mint(t, keyOne, alice, "v1")
	for name, c := range map[string]struct {
		call *macronode.Call
		want macronode.Kind
	}{
		"another node":        {session(func(c *macronode.Call) { c.Peer.NodeID = "b3:other" }), macronode.Denied},
		"nobody":              {session(func(c *macronode.Call) { c.Peer.NodeID = "" }), macronode.Denied},
		"over HTTP":           {session(func(c *macronode.Call) { c.Wire = macronode.WireHTTP }), macronode.Denied},
		"with a capability":   {session(func(c *macronode.Call) { c.Token = tok.CBOR() }), macronode.TokenMalformed},
		"with a discharge":    {session(func(c *macronode.Call) { c.Discharges = []string{"x"} }), macronode.TokenMalformed},
		"for no tenant here":  {session(func(c *macronode.Call) { c.ClaimedTenant = mallory }), macronode.NotFound},
		"for the operator":    {session(func(c *macronode.Call) { c.ClaimedTenant = macronode.SystemTenant }), macronode.TenantMismatch},
		"for a suspended one": {session(func(c *macronode.Call) { c.ClaimedTenant = suspended }), macronode.TenantSuspended},
		"for anonymous":       {session(func(c *macronode.Call) { c.ClaimedTenant = macronode.AnonymousTenant }), macronode.TenantMismatch},
	} {
		if p, _, err := a.Authenticate(t.Context(), c.call, b, macronode.Resource{}); macronode.KindOf(err) != c.want || p != nil {
			t.Errorf("%s: %v %v", name, p, err)
		}
	}
	for _, tenant := range []macronode.TenantID{{}, alice} {
		p, got, err := a.Authenticate(t.Context(), session(func(c *macronode.Call) { c.ClaimedTenant = tenant }), b, macronode.Resource{})
		want := tenant
		if tenant.IsZero() {
			want = macronode.SystemTenant
		}
		if err != nil || p.Kind != macronode.PeerNode || p.Node != friend || p.Tenant != want || got.ID != want || p.MaxBytes != macronode.NoLimit {
			t.Errorf("%+v %v", p, err)
		}
	}
	// Who is a peer no more is none at once, on the session that it has.
	delete(peers, friend)
	if _, _, err := a.Authenticate(t.Context(), session(nil), b, macronode.Resource{}); macronode.KindOf(err) != macronode.Denied {
		t.Error(err)
	}
	// A certificate alone makes nobody a peer.
	peers[friend] = true
	c := session(nil)
	c.Peer.Overlay = false
	if p, _, err := a.Authenticate(t.Context(), c, b, macronode.Resource{}); err != nil || p.Kind != macronode.Anonymous {
		t.Errorf("%+v %v", p, err)
	}
	// Without anybody to ask there are no peers.
	none := New(Config{Keys: w, Tenants: w, Revocations: w, NodeID: "b3:node", Metrics: metrics.New(false)})
	if _, _, err := none.Authenticate(t.Context(), session(nil), b, macronode.Resource{}); macronode.KindOf(err) != macronode.Denied {
		t.Error(err)
	}
}
