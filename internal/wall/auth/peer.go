// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import "github.com/rustyonions/macronode"

// authenticatePeer finds the peer at the other end of a session between nodes. Its
// key was proven when the session began; that it is a peer is asked anew each
// time, so that who is none any more does nothing more. A capability on a session
// would make one caller of two, so there is none.
func (a *Authenticator) authenticatePeer(c *macronode.Call) (*macronode.Principal, *macronode.Tenant, error) {
	refuse := func(e *macronode.Error) (*macronode.Principal, *macronode.Tenant, error) {
		a.results.refused(e.Kind)
		return nil, nil, e
	}
	switch {
	case c.Wire != macronode.WireOAP || c.Peer.NodeID == "" || !a.isPeer(c.Peer.NodeID):
		return refuse(macronode.Errorf(macronode.Denied, "this node is no peer"))
	case len(c.Token) != 0 || c.BadAuth || len(c.Discharges) != 0:
		return refuse(macronode.Errorf(macronode.TokenMalformed, "a session between nodes carries no capability"))
	}
	// The tenant is whose things are spoken of; about the nodes themselves, none's.
	id := c.ClaimedTenant
	if id.IsZero() {
		id = macronode.SystemTenant
	} else if id == macronode.SystemTenant || id == macronode.AnonymousTenant {
		return refuse(macronode.Errorf(macronode.TenantMismatch, "a peer does nothing for that tenant"))
	}
	t := a.tenants.Tenant(id)
	switch {
	case t == nil:
		return refuse(macronode.Errorf(macronode.NotFound, "there is no such tenant here"))
	case t.Suspended:
		return refuse(&macronode.Error{Kind: macronode.TenantSuspended})
	}
	a.results.ok.Inc()
	return &macronode.Principal{Kind: macronode.PeerNode, Tenant: id, Node: c.Peer.NodeID, MaxBytes: macronode.NoLimit}, t, nil
}
