// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

// goodVersions is how many versions of a minting key verify: the current and
// the two before it.
const goodVersions = 3

// MintKeyName is the key service's name of a tenant's minting key.
func MintKeyName(t macronode.TenantID) string { return "mint-" + strings.ToLower(t.String()) }

// ring is the minting keys of one tenant that are good, newest first. A version
// that is missing has no key. Values are immutable.
type ring struct {
	newest uint64
	kid    [goodVersions]string
	key    [goodVersions]*capability.Key
}

func kidOf(version uint64) string { return "v" + strconv.FormatUint(version, 10) }

// keys holds the minting keys that were asked for, derived. Deriving is what a
// look-up must not cost; that they lie in ordinary memory is the price. They are
// dropped, and the generation changes, when the key service has other ones.
type keys struct {
	ks     KeyStore
	exists func(macronode.TenantID) bool
	epoch  atomic.Uint64 // of the key service, when rings were last compared
	gen    atomic.Uint64

	mu    sync.RWMutex
	rings map[macronode.TenantID]*ring // guarded by mu; bounded by the tenants there are
}

func (k *keys) init(ks KeyStore, exists func(macronode.TenantID) bool) {
	k.ks, k.exists, k.rings = ks, exists, map[macronode.TenantID]*ring{}
	k.epoch.Store(ks.Epoch())
}

// generation compares what is held with the key service if that has changed.
func (k *keys) generation() uint64 {
	if k.ks.Epoch() != k.epoch.Load() {
		k.compare()
	}
	return k.gen.Load()
}

func (k *keys) compare() {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Read first: a change made while rings are compared is seen next time.
	epoch := k.ks.Epoch()
	if epoch == k.epoch.Load() {
		return
	}
	stale := false
	for t, r := range k.rings {
		if newest, err := k.ks.NewestMint(MintKeyName(t)); err != nil || newest != r.newest {
			delete(k.rings, t)
			stale = true
		}
	}
	if stale {
		k.gen.Add(1)
	}
	k.epoch.Store(epoch)
}

// lookup returns the key that kid names; nil where there is none that is good.
func (k *keys) lookup(t macronode.TenantID, kid string) (*capability.Key, error) {
	r, err := k.ring(t)
	if err != nil || r == nil {
		return nil, err
	}
	for i := range r.kid {
		if r.kid[i] == kid && r.key[i] != nil {
			return r.key[i], nil
		}
	}
	return nil, nil
}

// ring returns a tenant's keys; nil where it has none yet.
func (k *keys) ring(t macronode.TenantID) (*ring, error) {
	k.generation()
	k.mu.RLock()
	r := k.rings[t]
	k.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	for {
		if !k.exists(t) {
			return nil, nil
		}
		epoch := k.ks.Epoch()
		r, err := k.read(t)
		if err != nil || r == nil {
			return nil, err
		}
		// Only what is held is compared later, so what was read while keys
		// changed may not be used: its passing would go unnoticed.
		k.mu.Lock()
		same := k.ks.Epoch() == epoch
		if same {
			k.rings[t] = r
		}
		k.mu.Unlock()
		if same {
			return r, nil
		}
	}
}

func (k *keys) read(t macronode.TenantID) (*ring, error) {
	name := MintKeyName(t)
	newest, err := k.ks.NewestMint(name)
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &ring{newest: newest}
	for i := range min(goodVersions, newest) {
		v := newest - i
		err := k.ks.WithMint(name, v, func(secret []byte) error {
			if len(secret) != capability.KeyBytes {
				return errors.New("access: a minting key is not 32 bytes")
			}
			r.key[i] = capability.NewKey((*[capability.KeyBytes]byte)(secret))
			return nil
		})
		if notFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.kid[i] = kidOf(v)
	}
	if r.key[0] == nil { // deleted meanwhile
		return nil, nil
	}
	return r, nil
}

// forget drops a tenant's keys.
func (k *keys) forget(t macronode.TenantID) {
	k.mu.Lock()
	delete(k.rings, t)
	k.mu.Unlock()
	k.gen.Add(1)
}

// wipe overwrites and drops every key.
func (k *keys) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rings {
		for _, key := range r.key {
			if key != nil {
				key.Wipe()
			}
		}
	}
	clear(k.rings)
	k.gen.Add(1)
}

func notFound(err error) bool { return err != nil && macronode.KindOf(err) == macronode.NotFound }
