// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/metrics"
)

// Keys knows the minting keys.
type Keys interface {
	// MintKey returns the key that kid names. It returns nil and no error
	// where the tenant has no such key that still verifies, and an error where
	// that cannot be told now.
	MintKey(tenant macronode.TenantID, kid string) (*capability.Key, error)
	// KeyGeneration changes before any answer of MintKey other than nil does.
	KeyGeneration() uint64
}

// Tenants knows the tenants. It is asked on every call, so it answers from
// memory.
type Tenants interface {
	// Tenant returns the tenant as it is now, or nil where there is none. The
	// built-in tenants are always there.
	Tenant(id macronode.TenantID) *macronode.Tenant
}

// Revocations knows the revoked capabilities, from memory.
type Revocations interface {
	// Revoked reports whether the link id of a capability of tenant is revoked.
	Revoked(tenant macronode.TenantID, id macronode.CapID) bool
	// KeyRevoked reports whether all capabilities of tenant that the minting key
	// kid made are revoked.
	KeyRevoked(tenant macronode.TenantID, kid string) bool
	// RevocationGeneration changes after each revocation: whoever has read a
	// generation sees, in Revoked, all that came before it.
	RevocationGeneration() uint64
}

// Config is what New needs. Keys, Tenants, Revocations, NodeID and Metrics must
// be set.
type Config struct {
	Keys        Keys
	Tenants     Tenants
	Revocations Revocations
	NodeID      string // what aud caveats name
	// Peer reports whether the node with this id is a peer now; nil: none is.
	Peer    func(nodeID string) bool
	Amnesia bool // the node keeps nothing on disk
	// PolicyDigest returns the pinned policy hash; zeros where there is none.
	PolicyDigest func() [32]byte
	Now          func() time.Time // nil: time.Now
	Metrics      *metrics.Registry
}

// Authenticator implements wall.Authenticator. It is safe for concurrent use.
type Authenticator struct {
	keys         Keys
	tenants      Tenants
	revocations  Revocations
	nodeID       string
	isPeer       func(nodeID string) bool
	amnesia      bool
	policyDigest func() [32]byte
	now          func() time.Time

	cache     *cache
	known     *capability.Known
	floods    *floods
	results   results
	anonymous *macronode.Principal
	// decoy stands in for keys that do not exist, so that a token takes as
	// long to refuse whether its tenant exists or not.
	decoy *capability.Key
}

// New returns an Authenticator. It panics where a part of c is missing: that is
// a mistake of the program, and a node that starts without it would be open.
func New(c Config) *Authenticator {
	if c.Keys == nil || c.Tenants == nil || c.Revocations == nil || c.NodeID == "" || c.Metrics == nil {
		panic("auth: Keys, Tenants, Revocations, NodeID and Metrics are needed")
	}
	if c.PolicyDigest == nil {
		c.PolicyDigest = func() [32]byte { return [32]byte{} }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Peer == nil {
		c.Peer = func(string) bool { return false }
	}
	a := &Authenticator{
		keys: c.Keys, tenants: c.Tenants, revocations: c.Revocations, nodeID: c.NodeID, isPeer: c.Peer, amnesia: c.Amnesia,
		policyDigest: c.PolicyDigest, now: c.Now,
		cache: newCache(), known: capability.NewKnown(), floods: newFloods(c.Now()), results: newResults(c.Metrics),
		anonymous: &macronode.Principal{
			Kind: macronode.Anonymous, Tenant: macronode.AnonymousTenant, MaxBytes: macronode.NoLimit,
		},
		decoy: capability.DerivedKey(&[capability.KeyBytes]byte{}),
	}
	c.Metrics.GaugeFunc("auth_cache_entries", "Verified capabilities held in memory.",
		func() float64 { return float64(a.cache.len()) })
	c.Metrics.GaugeFunc("auth_known_chains", "Verified chains of capabilities held in memory, so that what is narrowed from them costs little.",
		func() float64 { return float64(a.known.Len()) })
	c.Metrics.GaugeFunc("auth_flood_addresses", "Addresses whose failed authentications are being counted.",
		func() float64 { return float64(a.floods.len()) })
	return a
}

// Forget overwrites what is remembered of capabilities. It is for the end of the
// node, when no call runs any more.
func (a *Authenticator) Forget() { a.known.Forget() }

// Authenticate implements wall.Authenticator. On a capability that was seen
// before it does not allocate.
func (a *Authenticator) Authenticate(_ context.Context, c *macronode.Call, b *macronode.Binding, r macronode.Resource) (*macronode.Principal, *macronode.Tenant, error) {
	if c.Peer.Overlay {
		return a.authenticatePeer(c)
	}
	if len(c.Token) == 0 && !c.BadAuth {
		return a.authenticateNobody(c)
	}
	now := a.now()
	if wait := a.floods.wait(&c.Peer, now); wait > 0 {
		a.results.refused(macronode.AuthFlood)
		return nil, nil, &macronode.Error{Kind: macronode.AuthFlood, RetryAfter: wait}
	}
	p, t, err := a.authenticateBearer(c, b, r, now)
	if err != nil {
		kind := macronode.KindOf(err)
		if kind.Info().Status == http401 {
			a.floods.failed(&c.Peer, now)
		}
		a.results.refused(kind)
		return nil, nil, err
	}
	a.results.ok.Inc()
	return p, t, nil
}

// http401 is the status of failed authentications, as opposed to authenticated
// callers who may not do what they ask.
const http401 = 401

func (a *Authenticator) authenticateNobody(c *macronode.Call) (*macronode.Principal, *macronode.Tenant, error) {
	if !c.ClaimedTenant.IsZero() && c.ClaimedTenant != macronode.AnonymousTenant {
		a.results.refused(macronode.Unauthenticated)
		return nil, nil, macronode.Errorf(macronode.Unauthenticated, "acting for a tenant takes a capability of that tenant")
	}
	t := a.tenants.Tenant(macronode.AnonymousTenant)
	if t == nil {
		a.results.refused(macronode.Unavailable)
		return nil, nil, macronode.Errorf(macronode.Unavailable, "tenants are not loaded yet")
	}
	a.results.anonymous.Inc()
	return a.anonymous, t, nil
}

func (a *Authenticator) authenticateBearer(c *macronode.Call, b *macronode.Binding, r macronode.Resource, now time.Time) (*macronode.Principal, *macronode.Tenant, error) {
	if c.BadAuth {
		return nil, nil, macronode.Errorf(macronode.TokenMalformed, "Authorization must be \"Bearer\" and a capability")
	}
	e, t, err := a.verified(c)
	if err != nil {
		return nil, nil, err
	}
	access := capability.Access{
		Now: now.Unix(), Node: a.nodeID, Action: b.Action, Resource: r, Method: b.Method, Service: b.Service,
		Addr: c.Peer.Addr, ClientCert: c.Peer.CertHash, Amnesia: a.amnesia, Policy: a.policyDigest(),
	}
	err = e.chain.Check(&access)
	if err != nil && macronode.KindOf(err).Info().Status == http401 {
		return nil, nil, err
	}
	if !e.cached {
		a.cache.put(e)
	}
	switch {
	case !c.ClaimedTenant.IsZero() && c.ClaimedTenant != t.ID:
		return nil, nil, &macronode.Error{Kind: macronode.TenantMismatch}
	case t.Suspended:
		return nil, nil, &macronode.Error{Kind: macronode.TenantSuspended}
	case err != nil:
		return nil, nil, err
	}
	return &e.principal, t, nil
}

// verified returns the call's token with its chain verified and not revoked,
// and its tenant, which exists.
func (a *Authenticator) verified(c *macronode.Call) (*entry, *macronode.Tenant, error) {
	// Both generations are read before what they speak of.
	keyGen, revGen := a.keys.KeyGeneration(), a.revocations.RevocationGeneration()
	e := a.cache.get(c)
	if e == nil || e.keyGen != keyGen {
		return a.verify(c, keyGen, revGen)
	}
	t := a.tenants.Tenant(e.principal.Tenant)
	if t == nil {
		a.cache.drop(e)
		return nil, nil, &macronode.Error{Kind: macronode.TokenForged}
	}
	if e.revGen.Load() != revGen {
		if a.revoked(e.chain) {
			a.cache.drop(e)
			return nil, nil, &macronode.Error{Kind: macronode.TokenRevoked}
		}
		e.revGen.Store(revGen)
	}
	return e, t, nil
}

// verify does the work that the cache saves.
func (a *Authenticator) verify(c *macronode.Call, keyGen, revGen uint64) (*entry, *macronode.Tenant, error) {
	tok, proofs, err := read(c)
	if err != nil {
		return nil, nil, err
	}
	t := a.tenants.Tenant(tok.Tenant())
	key := a.decoy
	if t != nil {
		k, err := a.keys.MintKey(tok.Tenant(), tok.KeyID())
		if err != nil {
			return nil, nil, macronode.Wrap(macronode.Unavailable, "capabilities cannot be verified now", err)
		}
		if k != nil {
			key = k
		}
	}
	// What verifies with the decoy must not be remembered: the generation of
	// keys need not change before the tenant has a key of that name.
	chain, err := a.known.Verify(tok, &capability.Attempt{
		Key: key, Generation: keyGen, Keep: key != a.decoy, Discharges: proofs.len(), Load: proofs.load,
	})
	// The decoy is no secret, so what verifies with it is forged too.
	if key == a.decoy {
		return nil, nil, &macronode.Error{Kind: macronode.TokenForged}
	}
	if err != nil {
		return nil, nil, err
	}
	if a.revoked(chain) {
		return nil, nil, &macronode.Error{Kind: macronode.TokenRevoked}
	}
	return newEntry(c, chain, keyGen, revGen), t, nil
}

func (a *Authenticator) revoked(v *capability.Verified) bool {
	if a.revocations.KeyRevoked(v.Tenant, v.KeyID) {
		return true
	}
	for _, id := range v.IDs {
		if a.revocations.Revoked(v.Tenant, id) {
			return true
		}
	}
	for _, id := range v.Discharged {
		if a.revocations.Revoked(v.Tenant, id) {
			return true
		}
	}
	return false
}
