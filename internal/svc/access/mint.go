// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access/strict"
)

// NewCap is the body that mints a capability. A missing member adds no caveat.
type NewCap struct {
	// Tenant is an id or label; missing: the caller's own tenant.
	Tenant    string    `json:"tenant,omitempty"`
	Actions   *[]string `json:"actions,omitempty"`
	Resources *[]string `json:"resources,omitempty"`
	Methods   *[]string `json:"methods,omitempty"`
	Confine   *[]string `json:"confine,omitempty"`    // service names
	IPNets    *[]string `json:"ipnets,omitempty"`     // CIDR
	ExpiresS  *int64    `json:"expires_s,omitempty"`  // seconds from now
	NotBefore *int64    `json:"not_before,omitempty"` // unix seconds
	MaxBytes  *int64    `json:"max_bytes,omitempty"`
	Rate      *NewRate  `json:"rate,omitempty"`
}

// NewRate is a rate caveat to be.
type NewRate struct {
	PerS  int64 `json:"per_s"`
	Burst int64 `json:"burst"`
}

// Minted is the answer to a mint.
type Minted struct {
	Token  string `json:"token"`
	Tenant string `json:"tenant"`
	RootID string `json:"root_id"`
	LeafID string `json:"leaf_id"`
	KID    string `json:"kid"`
}

// maxExpires bounds expires_s: a hundred years.
const maxExpires = 100 * 366 * 24 * 3600

// caveats turns the request into caveats, in a fixed order.
func (r *NewCap) caveats(nowS int64) ([]capability.Caveat, error) {
	var cs []capability.Caveat
	if r.NotBefore != nil {
		cs = append(cs, capability.NotBefore(*r.NotBefore))
	}
	if r.ExpiresS != nil {
		if *r.ExpiresS < 1 || *r.ExpiresS > maxExpires {
			return nil, macronode.Errorf(macronode.Invalid, "expires_s is 1 to %d", int64(maxExpires))
		}
		cs = append(cs, capability.ExpiresAt(nowS+*r.ExpiresS))
	}
	for _, l := range []struct {
		items *[]string
		make  func(...string) capability.Caveat
	}{
		{r.Actions, capability.OnActions}, {r.Resources, capability.OnResources},
		{r.Methods, capability.ByMethods}, {r.Confine, capability.ConfinedTo},
	} {
		if l.items != nil {
			cs = append(cs, l.make(*l.items...))
		}
	}
	if r.IPNets != nil {
		var nets []netip.Prefix
		for _, text := range *r.IPNets {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, macronode.Errorf(macronode.Invalid, "ipnets holds networks like 192.0.2.0/24")
			}
			nets = append(nets, p)
		}
		cs = append(cs, capability.FromNets(nets...))
	}
	if r.MaxBytes != nil {
		cs = append(cs, capability.AtMostBytes(*r.MaxBytes))
	}
	if r.Rate != nil {
		cs = append(cs, capability.AtRate(r.Rate.PerS, r.Rate.Burst))
	}
	for _, c := range cs {
		if err := c.Err(); err != nil {
			return nil, macronode.Errorf(macronode.Invalid, "%s", macronode.AsError(err).Detail)
		}
	}
	return cs, nil
}

func (s *Service) mintCap(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "minting takes a capability")
	}
	var req NewCap
	if err := strict.Decode(body, &req); err != nil {
		return nil, err
	}
	x, err := s.mintsFor(a, req.Tenant)
	if err != nil {
		return nil, err
	}
	cs, err := req.caveats(s.now().Unix())
	if err != nil {
		return nil, err
	}
	if x.ID == a.Tenant.ID {
		own, err := inherited(a)
		if err != nil {
			return nil, err
		}
		cs = slices.Concat(own, cs)
	}
	tok, v, err := s.mint(ctx, a.Actor(), x.ID, cs)
	if err != nil {
		return nil, err
	}
	reply, err := jsonReply(201, Minted{
		Token: tok.Text(), Tenant: x.ID.String(), RootID: v.RootID().String(), LeafID: v.LeafID().String(), KID: tok.KeyID(),
	})
	if err != nil {
		return nil, err
	}
	reply.Header = macronode.Header{"Cache-Control": {"no-store"}}
	if claim != nil {
		if err := s.kv.Update(ctx, func(tx store.Tx) error { return claim.Keep(tx, reply) }); err != nil {
			return nil, s.storeError(err)
		}
	}
	return reply, nil
}

// mintsFor returns the tenant that a may mint for and named. A tenant that names
// another than itself learns nothing about it.
func (s *Service) mintsFor(a *macronode.Admitted, ref string) (*tenant, error) {
	own := s.tenants.get(a.Tenant.ID)
	if ref == "" || own != nil && (ref == own.Label || ref == own.ID.String()) {
		if own == nil || own.deleting {
			return nil, noTenant()
		}
		return own, nil
	}
	if a.Tenant.ID != macronode.SystemTenant {
		return nil, macronode.Errorf(macronode.TenantMismatch, "a tenant mints for itself alone")
	}
	x := s.tenants.find(ref)
	if x == nil || x.deleting {
		return nil, noTenant()
	}
	return x, nil
}

// inherited returns the caveats of the capability that mints, which come first
// in what it mints for its own tenant, so that minting never widens.
func inherited(a *macronode.Admitted) ([]capability.Caveat, error) {
	tok, err := ownToken(a)
	if err != nil {
		return nil, err
	}
	cs := tok.Caveats()
	for _, c := range cs {
		// A bucket belongs to one token. A second token would have a second
		// bucket, and many tokens any rate.
		if c.Type() == capability.ThirdParty {
			// What its discharge says would be lost, and the caveat itself opens
			// in the chain alone in which it was made.
			return nil, macronode.Errorf(macronode.CaveatDenied, "a capability with a third-party caveat cannot mint; narrow it instead")
		}
		if c.Type() == capability.Rate {
			return nil, macronode.Errorf(macronode.CaveatDenied, "a capability with a rate caveat cannot mint; narrow it instead")
		}
	}
	return cs, nil
}

// mint makes a capability and records it before anyone has it.
func (s *Service) mint(ctx context.Context, actor string, t macronode.TenantID, cs []capability.Caveat) (*capability.Token, *capability.Verified, error) {
	if t == macronode.AnonymousTenant {
		return nil, nil, macronode.Errorf(macronode.Invalid, "tenant anonymous has no capabilities")
	}
	r, err := s.mintable(ctx, t)
	if err == nil && r == nil {
		if err = s.mints.CreateMint(ctx, MintKeyName(t)); err == nil {
			r, err = s.keys.Ring(t)
		}
		// The tenant may have been buried since it was looked up; then nobody
		// else would remove the key.
		if err == nil && s.tenants.get(t) == nil {
			err = s.mints.DeleteMint(ctx, MintKeyName(t))
		}
	}
	if err != nil {
		return nil, nil, macronode.Wrap(macronode.Unavailable, "the minting key cannot be used now", err)
	}
	if r == nil {
		return nil, nil, noTenant()
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	tok, err := capability.Mint(r.Key[0], t, r.KID[0], nonce, cs...)
	if err != nil {
		return nil, nil, macronode.Errorf(macronode.Invalid, "%s", macronode.AsError(err).Detail)
	}
	v, err := tok.Verify(r.Key[0])
	if err != nil {
		return nil, nil, macronode.Wrap(macronode.Internal, "", err)
	}
	err = s.record(ctx, macronode.AuditEvent{
		Stream: streamOf(t), Kind: "cap.mint", Actor: actor, Subject: "cap/" + v.RootID().String(),
		Attrs: map[string]any{"leaf_id": v.LeafID().String(), "kid": tok.KeyID(), "caveats": int64(len(cs)), "expires": v.Expires},
	})
	if err != nil {
		return nil, nil, err
	}
	s.m.minted.Inc()
	return tok, v, nil
}

// streamOf is the audit chain of what concerns a tenant's capabilities.
func streamOf(t macronode.TenantID) string {
	if t.IsZero() || t == macronode.SystemTenant {
		return "node"
	}
	return "tenant/" + t.String()
}

// MintFor mints a capability for the node itself: the operator's and a first
// tenant's. NotFound where there is no such tenant.
func (s *Service) MintFor(ctx context.Context, t macronode.TenantID, cs ...capability.Caveat) (*capability.Token, error) {
	if !s.tenants.exists(t) {
		return nil, noTenant()
	}
	tok, _, err := s.mint(ctx, "node", t, cs)
	return tok, err
}
