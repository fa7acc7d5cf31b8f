// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
)

// Bounds of Known, over all shards.
const (
	knownShards = 16
	knownTokens = 4096
	knownBytes  = 8 << 20
)

// Known remembers chains that verified, so that a token narrowed from one of
// them, or from what that was narrowed from, costs one hash for each caveat that
// is new. It answers as Token.Verify does, always: what it remembers is what
// those hashes gave, for the very same bytes under the same generation of keys.
//
// The tags that it remembers are secrets, each good for widening a token. They
// never leave it, a chain enters only once all of a token was verified, and a
// newer generation of keys, or Forget, overwrites them. It is bounded in
// tokens and bytes. It is safe for concurrent use.
type Known struct {
	seed   maphash.Seed
	shards [knownShards]knownShard
}

type knownShard struct {
	mu    sync.RWMutex
	gen   uint64 // of the keys that all of it verified under
	m     map[uint64]knownLink
	ring  []*knownChain
	hand  int
	bytes int
}

// knownLink is a link of a chain: the one after at caveats.
type knownLink struct {
	c  *knownChain
	at int
}

// knownChain is a token that verified. All but used is immutable, until it is
// overwritten under the shard's lock.
type knownChain struct {
	root string   // of the token's bytes: what tags[0] covers
	encs []string // its caveats
	sums []uint64 // of its prefixes
	tags []words
	ids  []macronode.CapID
	size int
	used atomic.Bool // since the hand last passed
}

// NewKnown returns a Known that knows nothing.
func NewKnown() *Known {
	k := &Known{seed: maphash.MakeSeed()}
	for i := range k.shards {
		k.shards[i].m = map[uint64]knownLink{}
	}
	return k
}

// Attempt is how a token is verified.
type Attempt struct {
	Key *Key // of the token's tenant and kid
	// Generation tells apart times at which Key may be another one.
	Generation uint64
	// Keep says that the chain may be remembered. It must not be set where Key
	// is not the tenant's, but stands in for one that does not exist.
	Keep bool
	// Discharges is how many came with the token; Load, where there are any,
	// reads them. It is called once the token itself has verified.
	Discharges int
	Load       func() ([]*Token, error)
}

// Verify is Token.Verify, with what is known. An error of Load is returned as it is.
func (k *Known) Verify(t *Token, a *Attempt) (*Verified, error) {
	var sums [MaxCaveats + 1]uint64
	s := k.prefixes(t, &sums)
	var tags chain
	have, ids := s.recall(t, a.Generation, &sums, &tags)
	if !t.walk(a.Key, &tags, have) {
		return nil, &macronode.Error{Kind: macronode.TokenForged}
	}
	var ds []*Token
	if a.Discharges > 0 {
		// Counted before a byte of them is read.
		if n := t.parties(); n < a.Discharges {
			return nil, noDischarge(isUnneeded)
		} else if n > a.Discharges {
			return nil, noDischarge(isAbsent)
		}
		if a.Discharges > MaxDischarges {
			return nil, noDischarge(areTooMany)
		}
		var err error
		if ds, err = a.Load(); err != nil {
			return nil, err
		}
	}
	v, err := t.judge(&tags, ids, ds)
	if err == nil && a.Keep && have < len(t.caveats)+1 {
		s.remember(t, a.Generation, &sums, &tags, v.IDs)
	}
	return v, err
}

// parties counts the third-party caveats.
func (t *Token) parties() (n int) {
	for i := range t.caveats {
		if t.caveats[i].typ == ThirdParty {
			n++
		}
	}
	return n
}

// Forget overwrites and drops all.
func (k *Known) Forget() {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		s.clear()
		s.mu.Unlock()
	}
}

// Len is how many tokens are remembered.
func (k *Known) Len() (n int) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.RLock()
		n += len(s.ring)
		s.mu.RUnlock()
	}
	return n
}

// prefixes fills in a hash of each prefix of the token's chain and returns the
// shard of its root. The hashes only find; what they find is compared.
func (k *Known) prefixes(t *Token, sums *[MaxCaveats + 1]uint64) *knownShard {
	h := maphash.String(k.seed, t.raw[1:t.rootEnd])
	sums[0] = h
	for i := range t.caveats {
		hi, lo := bits.Mul64(h^maphash.String(k.seed, t.caveats[i].enc), 0x9e3779b97f4a7c15)
		h = hi ^ lo ^ uint64(i)
		sums[i+1] = h
	}
	return &k.shards[sums[0]%knownShards]
}

// recall copies what is known of the longest known prefix of t's chain: how many
// tags, and the ids.
func (s *knownShard) recall(t *Token, gen uint64, sums *[MaxCaveats + 1]uint64, tags *chain) (int, []macronode.CapID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.gen != gen {
		return 0, nil
	}
	for n := len(t.caveats); n >= 0; n-- {
		l, ok := s.m[sums[n]]
		if !ok || l.at != n || !l.c.begins(t, n) {
			continue
		}
		if !l.c.used.Load() {
			l.c.used.Store(true)
		}
		return copy(tags[:], l.c.tags[:n+1]), append([]macronode.CapID(nil), l.c.ids[:n+1]...)
	}
	return 0, nil
}

// begins reports whether t begins with c's root and first n caveats, byte by byte.
func (c *knownChain) begins(t *Token, n int) bool {
	if c.root != t.raw[1:t.rootEnd] {
		return false
	}
	for i := range n {
		if c.encs[i] != t.caveats[i].enc {
			return false
		}
	}
	return true
}

// remember keeps a token that verified.
func (s *knownShard) remember(t *Token, gen uint64, sums *[MaxCaveats + 1]uint64, tags *chain, ids []macronode.CapID) {
	n := len(t.caveats)
	raw := strings.Clone(t.raw)
	c := &knownChain{
		root: raw[1:t.rootEnd], encs: make([]string, n), ids: ids,
		tags: append([]words(nil), tags[:n+1]...), sums: append([]uint64(nil), sums[:n+1]...),
		// An estimate of all that hangs on it.
		size: len(raw) + 256 + (n+1)*(KeyBytes+8+16+16+48),
	}
	at := len(raw) - (2 + KeyBytes) // the tag has a head of two bytes
	for i := n - 1; i >= 0; i-- {
		at -= len(t.caveats[i].enc)
		c.encs[i] = raw[at : at+len(t.caveats[i].enc)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if gen < s.gen {
		return
	}
	if gen > s.gen {
		s.clear()
		s.gen = gen
	}
	if l, ok := s.m[sums[n]]; ok && l.at == n && l.c.begins(t, n) {
		return // another call was faster
	}
	for len(s.ring) > 0 && (len(s.ring) >= knownTokens/knownShards || s.bytes+c.size > knownBytes/knownShards) {
		s.evict()
	}
	s.ring = append(s.ring, c)
	s.bytes += c.size
	for i, sum := range c.sums {
		// A prefix that is known stays with the chain that is known for it.
		if l, ok := s.m[sum]; !ok || l.at != i || !l.c.begins(t, i) {
			s.m[sum] = knownLink{c, i}
		}
	}
}

// evict removes the first chain from the hand on that was not used since the
// hand last passed. It ends: a pass clears every mark that it meets.
func (s *knownShard) evict() {
	for {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		c := s.ring[s.hand]
		if c.used.Swap(false) {
			s.hand++
			continue
		}
		for _, sum := range c.sums {
			if s.m[sum].c == c {
				delete(s.m, sum)
			}
		}
		s.bytes -= c.size
		last := len(s.ring) - 1
		s.ring[s.hand], s.ring[last] = s.ring[last], nil
		s.ring = s.ring[:last]
		clear(c.tags)
		return
	}
}

// clear overwrites and drops all of the shard.
func (s *knownShard) clear() {
	for i, c := range s.ring {
		clear(c.tags)
		s.ring[i] = nil
	}
	clear(s.m)
	s.ring, s.hand, s.bytes = s.ring[:0], 0, 0
}
