// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// cacheSlots bounds the cache; with the longest keys it holds about 24 MiB, in
// practice a tenth of that.
const cacheSlots = 8192

// cache keeps decisions of one set. A key has one slot; what came before is
// overwritten. The seed is the process's secret, so nobody can aim at a slot.
//
// Entries are never changed once stored, and a hit compares the whole key, so
// no request can be given the answer to another.
type cache struct {
	seed  maphash.Seed
	mask  uint64 // of the hash; a test narrows it, so that keys collide
	slots [cacheSlots]atomic.Pointer[cacheEntry]
}

type cacheEntry struct {
	key    form.Key
	answer Answer
	at     time.Time
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed(), mask: cacheSlots - 1} }

func (c *cache) slot(k *form.Key) *atomic.Pointer[cacheEntry] {
	return &c.slots[maphash.Comparable(c.seed, *k)&c.mask%cacheSlots]
}
