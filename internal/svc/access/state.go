// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

// tenant is what memory knows of one tenant. Values are immutable.
type tenant struct {
	macronode.Tenant
	createdMS int64
	deleting  bool
}

// builtin reports whether id can be neither suspended nor deleted.
func builtin(id macronode.TenantID) bool {
	return id == macronode.SystemTenant || id == macronode.AnonymousTenant
}

// tenantShards keeps small what a change has to copy.
const tenantShards = 64

// tenants is the snapshot that every call reads: maps that are replaced, never
// changed. Writers hold Service.change.
type tenants struct {
	shards [tenantShards]atomic.Pointer[map[macronode.TenantID]*tenant]

	mu     sync.RWMutex
	labels map[string]macronode.TenantID // guarded by mu; deleting ones too
}

func (t *tenants) shard(id macronode.TenantID) *atomic.Pointer[map[macronode.TenantID]*tenant] {
	return &t.shards[id[15]%tenantShards] // the random end of a ULID
}

// get returns a tenant, also one that is being deleted, or nil.
func (t *tenants) get(id macronode.TenantID) *tenant {
	m := t.shard(id).Load()
	if m == nil {
		return nil
	}
	return (*m)[id]
}

// exists reports whether id is a tenant whose capabilities can be good.
func (t *tenants) exists(id macronode.TenantID) bool {
	x := t.get(id)
	return x != nil && !x.deleting
}

// byLabel returns the tenant of a label, also one that is being deleted, or nil.
func (t *tenants) byLabel(label string) *tenant {
	t.mu.RLock()
	id, ok := t.labels[label]
	t.mu.RUnlock()
	if !ok {
		return nil
	}
	return t.get(id)
}

// find returns the tenant that ref names by id or label, or nil. No label reads
// as an id.
func (t *tenants) find(ref string) *tenant {
	if id, err := macronode.ParseTenantID(ref); err == nil {
		return t.get(id)
	}
	return t.byLabel(ref)
}

// put adds or replaces a tenant, whose label never changes.
func (t *tenants) put(x *tenant) {
	p := t.shard(x.ID)
	next := map[macronode.TenantID]*tenant{}
	if m := p.Load(); m != nil {
		next = maps.Clone(*m)
	}
	next[x.ID] = x
	p.Store(&next)
	t.mu.Lock()
	if t.labels == nil {
		t.labels = map[string]macronode.TenantID{}
	}
	t.labels[x.Label] = x.ID
	t.mu.Unlock()
}

// remove forgets a tenant and frees its label.
func (t *tenants) remove(x *tenant) {
	t.mu.Lock()
	if t.labels[x.Label] == x.ID {
		delete(t.labels, x.Label)
	}
	t.mu.Unlock()
	p := t.shard(x.ID)
	if m := p.Load(); m != nil {
		next := maps.Clone(*m)
		delete(next, x.ID)
		p.Store(&next)
	}
}

// replace makes list all there is.
func (t *tenants) replace(list []*tenant) {
	var next [tenantShards]map[macronode.TenantID]*tenant
	for i := range next {
		next[i] = map[macronode.TenantID]*tenant{}
	}
	labels := make(map[string]macronode.TenantID, len(list))
	for _, x := range list {
		next[x.ID[15]%tenantShards][x.ID] = x
		labels[x.Label] = x.ID
	}
	for i := range next {
		t.shards[i].Store(&next[i])
	}
	t.mu.Lock()
	t.labels = labels
	t.mu.Unlock()
}

func (t *tenants) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.labels)
}

// deleting lists the tenants whose deletion is not complete.
func (t *tenants) deleting() (list []*tenant) {
	for i := range t.shards {
		if m := t.shards[i].Load(); m != nil {
			for _, x := range *m {
				if x.deleting {
					list = append(list, x)
				}
			}
		}
	}
	return list
}

// dead says that one link of a capability is dead, or all that a version
// of a tenant's minting key made.
type dead struct {
	scoped
	ms int64
	by string // who revoked, in audit form
}

// scoped is a revocation's name.
type scoped struct {
	tenant macronode.TenantID // whose capabilities it binds; zero: everyone's
	id     macronode.CapID    // zero where kid is set
	kid    string             // of a tenant's minting key; "" where it is an id
}

// revocations are all there are, in memory.
type revocations struct {
	gen atomic.Uint64

	mu       sync.RWMutex
	everyone map[macronode.CapID]int64 // unix ms; guarded by mu
	own      map[scoped]int64          // guarded by mu
	count    map[macronode.TenantID]int
}

func (r *revocations) has(t macronode.TenantID, id macronode.CapID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.everyone[id]; ok {
		return true
	}
	if len(r.own) == 0 {
		return false
	}
	_, ok := r.own[scoped{tenant: t, id: id}]
	return ok
}

// hasKey reports whether all that a tenant's minting key made is revoked.
func (r *revocations) hasKey(t macronode.TenantID, kid string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.own) == 0 {
		return false
	}
	_, ok := r.own[scoped{tenant: t, kid: kid}]
	return ok
}

// add makes a revocation effective. One that is there stays as it is. The
// generation changes afterwards: see auth.Revocations.
func (r *revocations) add(v dead) {
	defer r.gen.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.tenant.IsZero() {
		if r.everyone == nil {
			r.everyone = map[macronode.CapID]int64{}
		}
		if _, ok := r.everyone[v.id]; !ok {
			r.everyone[v.id] = v.ms
		}
		return
	}
	if r.own == nil {
		r.own, r.count = map[scoped]int64{}, map[macronode.TenantID]int{}
	}
	if _, ok := r.own[v.scoped]; !ok {
		r.own[v.scoped] = v.ms
		r.count[v.tenant]++
	}
}

// forget drops the revocations of a tenant that is no more.
func (r *revocations) forget(t macronode.TenantID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count[t] == 0 {
		return
	}
	maps.DeleteFunc(r.own, func(k scoped, _ int64) bool { return k.tenant == t })
	delete(r.count, t)
}

func (r *revocations) of(t macronode.TenantID) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count[t]
}

func (r *revocations) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.everyone) + len(r.own)
}

// EachRevoked calls f with the name of every revocation: whose capabilities it
// binds (zero: everyone's), and a link's id or a key's. f calls nothing of s.
func (s *Service) EachRevoked(f func(tenant macronode.TenantID, id macronode.CapID, kid string)) {
	s.revoked.mu.RLock()
	defer s.revoked.mu.RUnlock()
	for id := range s.revoked.everyone {
		f(macronode.TenantID{}, id, "")
	}
	for n := range s.revoked.own {
		f(n.tenant, n.id, n.kid)
	}
}

// Tenant returns the tenant as it is now, or nil where there is none, or none
// any more. It implements auth.Tenants.
func (s *Service) Tenant(id macronode.TenantID) *macronode.Tenant {
	x := s.tenants.get(id)
	if x == nil || x.deleting {
		return nil
	}
	return &x.Tenant
}

// Find returns the tenant that ref names, by id or label, or nil.
func (s *Service) Find(ref string) *macronode.Tenant {
	x := s.tenants.find(ref)
	if x == nil || x.deleting {
		return nil
	}
	return &x.Tenant
}

// Revoked implements auth.Revocations.
func (s *Service) Revoked(t macronode.TenantID, id macronode.CapID) bool { return s.revoked.has(t, id) }

// KeyRevoked implements auth.Revocations.
func (s *Service) KeyRevoked(t macronode.TenantID, kid string) bool { return s.revoked.hasKey(t, kid) }

// RevocationGeneration implements auth.Revocations.
func (s *Service) RevocationGeneration() uint64 { return s.revoked.gen.Load() }

// MintKey implements auth.Keys.
func (s *Service) MintKey(t macronode.TenantID, kid string) (*capability.Key, error) {
	return s.keys.Lookup(t, kid)
}

// KeyGeneration implements auth.Keys.
func (s *Service) KeyGeneration() uint64 { return s.keys.Generation() }

// ValidLabel reports whether s is [a-z0-9][a-z0-9-]{0,62} and no tenant id.
func ValidLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	// 26 digits are an id, and routes take either.
	_, err := macronode.ParseTenantID(strings.ToUpper(s))
	return err != nil
}
