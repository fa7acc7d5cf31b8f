// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
)

// maxRotations bounds how many revoked versions in a row a mint steps over: more
// is a keystore that is much older than the revocations.
const maxRotations = 64

// versionOf is the version that a kid of ours names; 0 where it is none.
func versionOf(kid string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(kid, "v"), 10, 64)
	if err != nil || mintkeys.KID(n) != kid {
		return 0
	}
	return n
}

// mintable is the newest ring whose newest key is not revoked; nil where the
// tenant has no key yet. A revoked newest key is one that was made after a
// keystore from a backup was put in place: it is rotated away.
func (s *Service) mintable(ctx context.Context, t macronode.TenantID) (*mintkeys.Ring, error) {
	for range maxRotations {
		r, err := s.keys.NewestRing(t)
		if err != nil || r == nil || !s.revoked.hasKey(t, r.KID[0]) {
			return r, err
		}
		if err := s.mints.RotateMint(ctx, MintKeyName(t)); err != nil {
			return nil, err
		}
	}
	return nil, macronode.Errorf(macronode.Unavailable, "all minting keys that could be made are revoked")
}

// revokeKeys revokes all that one version of a tenant's minting key made, or all
// of the tenant's capabilities that there are.
func (s *Service) revokeKeys(ctx context.Context, a *macronode.Admitted, req *Revoke, claim *idem.Claim) (*macronode.Reply, error) {
	if req.KID == "" && req.Tenant == "" {
		return nil, macronode.Errorf(macronode.Invalid, "name an id, a kid or a tenant")
	}
	if req.Tenant == "" && a.Tenant.ID == macronode.SystemTenant {
		return nil, macronode.Errorf(macronode.Invalid, "a kid is a tenant's: name the tenant too")
	}
	x, err := s.mintsFor(a, req.Tenant)
	if err != nil {
		return nil, err
	}
	kids, rotate, err := s.keysToRevoke(x.ID, req.KID)
	if err != nil {
		return nil, err
	}
	if x.ID == macronode.SystemTenant {
		if err := s.notItself(a, kids); err != nil {
			return nil, err
		}
	}
	// First a new key, so that whoever mints meanwhile does so with that; then
	// the old ones.
	if rotate {
		if err := s.mints.RotateMint(ctx, MintKeyName(x.ID)); err != nil {
			return nil, macronode.Wrap(macronode.Unavailable, "no new minting key can be made now, so nothing was revoked", err)
		}
		if _, err := s.keys.NewestRing(x.ID); err != nil {
			return nil, macronode.Wrap(macronode.Unavailable, "the minting key cannot be used now", err)
		}
	}
	answer := Revoked{Tenant: x.ID.String(), KIDs: kids, RevokedMS: s.now().UnixMilli()}
	if len(kids) == 0 { // the tenant never had a capability
		return jsonReply(200, answer)
	}
	var names []scoped
	for _, kid := range kids {
		names = append(names, scoped{tenant: x.ID, kid: kid})
	}
	var reply *macronode.Reply
	err = s.revoke(ctx, names, a.Actor(), func(tx store.Tx, ms int64) (err error) {
		answer.RevokedMS = ms
		if reply, err = jsonReply(200, answer); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	return reply, err
}

// keysToRevoke is kid, or without one every key of the tenant that still
// verifies and is not revoked, the newest last; rotate says that the newest one
// is among them, so that minting takes another.
func (s *Service) keysToRevoke(t macronode.TenantID, kid string) (kids []string, rotate bool, err error) {
	r, err := s.keys.NewestRing(t)
	if err != nil {
		return nil, false, macronode.Wrap(macronode.Unavailable, "the minting keys cannot be told now", err)
	}
	if kid != "" {
		v := versionOf(kid)
		if r == nil || v == 0 || v > r.Newest {
			return nil, false, macronode.Errorf(macronode.Invalid, "the tenant has no minting key %q", kid)
		}
		return []string{kid}, v == r.Newest && !s.revoked.hasKey(t, kid), nil
	}
	for i := mintkeys.Good - 1; r != nil && i >= 0; i-- {
		if r.Key[i] != nil && !s.revoked.hasKey(t, r.KID[i]) {
			kids = append(kids, r.KID[i])
		}
	}
	return kids, len(kids) > 0, nil
}

// notItself refuses what would leave the node without an operator: one who
// revokes the key of the capability that asks.
func (s *Service) notItself(a *macronode.Admitted, kids []string) error {
	tok, err := ownToken(a)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		if kid == tok.KeyID() {
			return macronode.Errorf(macronode.Conflict, "that kills the capability that asks, and nobody could make another: rotate the key %s, mint a capability with it, and revoke kid %s with that",
				MintKeyName(macronode.SystemTenant), kid)
		}
	}
	return nil
}

// ownToken is the capability that a call was admitted with. The wall verified
// these bytes; the check is against a caller that is not the wall.
func ownToken(a *macronode.Admitted) (*capability.Token, error) {
	var tok *capability.Token
	var err error
	if a.Wire == macronode.WireOAP {
		var first []byte
		if first, _, err = capability.CutToken(a.Token); err == nil {
			tok, err = capability.Decode(first)
		}
	} else {
		tok, err = capability.ParseBytes(a.Token)
	}
	if err != nil || tok.Tenant() != a.Tenant.ID || tok.LeafID() != a.Principal.LeafID {
		return nil, macronode.Errorf(macronode.Denied, "this takes a capability")
	}
	return tok, nil
}
