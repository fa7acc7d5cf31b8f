// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

// Bounds of the cache, over all shards.
const (
	cacheShards  = 16
	cacheEntries = 8192
	cacheBytes   = 16 << 20 // of tokens as received
)

// entry is a capability that verified. All but the atomics is immutable.
type entry struct {
	wire      macronode.Wire
	token     string   // as received
	proofs    []string // discharges as received; on OAP/1 they are in token
	hash      uint64
	chain     *capability.Verified
	principal macronode.Principal
	keyGen    uint64        // the minting keys' generation it was verified under
	revGen    atomic.Uint64 // the revocations' generation it was last looked up under
	used      atomic.Bool   // since the hand last passed
	cached    bool          // came from the cache
	slot      int           // in its shard's ring; guarded by the shard's mu; -1 when out
}

func newEntry(c *macronode.Call, v *capability.Verified, keyGen, revGen uint64) *entry {
	e := &entry{
		wire: c.Wire, token: string(c.Token), proofs: slices.Clone(c.Discharges), chain: v, keyGen: keyGen,
		principal: macronode.Principal{
			Kind: macronode.Capability, Tenant: v.Tenant, RootID: v.RootID(), LeafID: v.LeafID(),
			MaxBytes: v.MaxBytes, Rates: v.Rates, Expires: v.Expires,
		},
	}
	for i, d := range e.proofs {
		e.proofs[i] = strings.Clone(d) // not as a part of all the headers
	}
	e.revGen.Store(revGen)
	return e
}

// size is the bytes that count against the cache's bound.
func (e *entry) size() int {
	n := len(e.token)
	for _, d := range e.proofs {
		n += len(d)
	}
	return n
}

// cache holds verified capabilities by their bytes as received. Only good ones
// get in, so nobody without a capability can push others out. It is bounded in
// entries and bytes; the hand of a clock picks what leaves.
//
// It is keyed by a seeded hash with the whole token compared: how long the
// comparison takes tells nothing, because it begins only where the hash agrees,
// and the seed is random and secret.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]shard
}

type shard struct {
	mu    sync.RWMutex
	m     map[uint64]*entry
	ring  []*entry
	hand  int
	bytes int
}

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].m = make(map[uint64]*entry)
	}
	return c
}

func (c *cache) shard(hash uint64) *shard { return &c.shards[hash%cacheShards] }

// sum is the hash of a token and its discharges as received.
func (c *cache) sum(token []byte, proofs []string) uint64 {
	if len(proofs) == 0 {
		return maphash.Bytes(c.seed, token)
	}
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.Write(token)
	for _, d := range proofs {
		_ = h.WriteByte(',')
		_, _ = h.WriteString(d)
	}
	return h.Sum64()
}

// get returns the entry of a call's token and discharges, or nil.
func (c *cache) get(call *macronode.Call) *entry {
	if len(call.Token) > capability.MaxSequenceBytes || len(call.Discharges) > capability.MaxDischarges {
		return nil
	}
	h := c.sum(call.Token, call.Discharges)
	s := c.shard(h)
	s.mu.RLock()
	e := s.m[h]
	s.mu.RUnlock()
	if e == nil || e.wire != call.Wire || e.token != string(call.Token) || !slices.Equal(e.proofs, call.Discharges) {
		return nil
	}
	if !e.used.Load() { // most often it is: then the line stays shared
		e.used.Store(true)
	}
	return e
}

// put adds e, in place of one with the same hash if there is one.
func (c *cache) put(e *entry) {
	e.hash = c.sum([]byte(e.token), e.proofs)
	e.cached = true
	s := c.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.m[e.hash]; old != nil {
		s.remove(old)
	}
	for len(s.ring) > 0 && (len(s.ring) >= cacheEntries/cacheShards || s.bytes+e.size() > cacheBytes/cacheShards) {
		s.evict()
	}
	e.slot = len(s.ring)
	s.ring = append(s.ring, e)
	s.m[e.hash] = e
	s.bytes += e.size()
}

// drop removes e if it is still there.
func (c *cache) drop(e *entry) {
	s := c.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[e.hash] == e {
		s.remove(e)
	}
}

func (c *cache) len() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.ring)
		s.mu.RUnlock()
	}
	return n
}

// evict removes the first entry from the hand on that was not used since the
// hand last passed. It ends: a pass clears every mark that it meets.
func (s *shard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		if e := s.ring[s.hand]; !e.used.Swap(false) {
			s.remove(e)
			return
		}
		s.hand++
	}
}

// remove takes e out; the last of the ring moves into its slot.
func (s *shard) remove(e *entry) {
	delete(s.m, e.hash)
	s.bytes -= e.size()
	last := len(s.ring) - 1
	s.ring[e.slot] = s.ring[last]
	s.ring[e.slot].slot = e.slot
	s.ring[last] = nil
	s.ring = s.ring[:last]
	e.slot = -1
}
