// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// cacheSlots bounds the cache; with the longest keys it holds about 24 MiB, in
// practice a tenth of that.
const cacheSlots = 8192

// maxKeyText bounds the text of one key: longer requests are not cached.
const maxKeyText = 1024

// cache keeps decisions of one set. A key has one slot; what came before is
// overwritten. The seed is the process's secret, so nobody can aim at a slot.
//
// Entries are never changed once stored, and a hit compares the whole key, so
// no request can be given the answer to another.
type cache struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[cacheEntry]
}

type cacheEntry struct {
	key    cacheKey
	answer Answer
	at     time.Time
}

// cacheKey is everything a decision can depend on; what the rules that can
// apply do not read stays zero.
type cacheKey struct {
	// Always.
	action int
	kind   macronode.PrincipalKind
	rkind  macronode.ResourceKind
	tenant macronode.TenantID
	label  string
	// By reads.
	root                           macronode.CapID
	node                           string
	resource                       string
	bytes                          int64
	ip                             netip.Addr
	tls                            bool
	hour                           int8
	subject, path, method, service string
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed()} }

func (c *cache) slot(k *cacheKey) *atomic.Pointer[cacheEntry] {
	return &c.slots[maphash.Comparable(c.seed, *k)%cacheSlots]
}

func (k *cacheKey) fill(r *wall.PolicyRequest, action int, want reads) {
	k.action, k.kind, k.rkind = action, r.Principal.Kind, r.Resource.Kind
	k.tenant, k.label = r.Tenant.ID, r.Tenant.Label
	if want == 0 {
		return
	}
	if want&readsPrincipal != 0 {
		switch k.kind {
		case macronode.Capability:
			k.root = r.Principal.RootID
		case macronode.PeerNode:
			k.node = r.Principal.Node
		}
	}
	if want&readsResource != 0 {
		k.resource = r.Resource.ID
	}
	if want&readsBytes != 0 {
		k.bytes = r.Bytes
	}
	if want&readsIP != 0 {
		k.ip = plainAddr(r.IP)
	}
	if want&readsTLS != 0 {
		k.tls = r.TLS
	}
	if want&readsHour != 0 {
		k.hour = int8(r.Time.UTC().Hour())
	}
	if want&readsSubject != 0 {
		k.subject = r.Subject
	}
	if want&readsPath != 0 {
		k.path = r.Path
	}
	if want&readsMethod != 0 {
		k.method = r.Method
	}
	if want&readsService != 0 {
		k.service = r.Service
	}
}

func (k *cacheKey) keepable() bool {
	return len(k.label)+len(k.node)+len(k.resource)+len(k.subject)+len(k.path)+len(k.method)+len(k.service) <= maxKeyText
}

// clone copies the texts, which may be parts of a request's buffers.
func (k *cacheKey) clone() cacheKey {
	c := *k
	for _, s := range []*string{&c.label, &c.node, &c.resource, &c.subject, &c.path, &c.method, &c.service} {
		*s = strings.Clone(*s)
	}
	return c
}
