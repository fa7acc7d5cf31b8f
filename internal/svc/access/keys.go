// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// How held keys are compared with the key service.
const (
	// comparePeriod is how long a rotation may take to be noticed here. A mint,
	// and a token of a version that is not known, notice it at once.
	comparePeriod = 500 * time.Millisecond
	// compareAgain is how many periods after a change of the key service keys
	// are compared: its count may change before the key does.
	compareAgain = 3
	// compareAlways is after how many periods keys are compared in any case.
	compareAlways = 20
)

// keys holds the minting keys that were asked for, derived. Deriving, and asking
// a key service that may be writing to its disk, is what a look-up must not
// cost; that keys lie in ordinary memory is the price. They are dropped, and the
// generation changes, when the key service has other ones; the next garbage
// collection wipes them.
type keys struct {
	ks     KeyStore
	exists func(macronode.TenantID) bool
	gen    atomic.Uint64

	mu    sync.RWMutex
	rings map[macronode.TenantID]*ring // guarded by mu; bounded by the tenants there are
}

func (k *keys) init(ks KeyStore, exists func(macronode.TenantID) bool) {
	k.ks, k.exists, k.rings = ks, exists, map[macronode.TenantID]*ring{}
}

// watch compares what is held with the key service until ctx ends.
func (k *keys) watch(ctx context.Context) {
	ticker := time.NewTicker(comparePeriod)
	defer ticker.Stop()
	epoch, idle := k.ks.Epoch(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if e := k.ks.Epoch(); e != epoch {
			epoch, idle = e, 0
		}
		if idle < compareAgain || idle%compareAlways == 0 {
			k.compare()
		}
		idle++
	}
}

// compare drops the keys of which the key service has another newest version.
func (k *keys) compare() {
	k.mu.RLock()
	held := maps.Clone(k.rings)
	k.mu.RUnlock()
	for t, r := range held {
		if !k.current(t, r) {
			k.drop(t, r)
		}
	}
}

// current reports whether r is what the key service has.
func (k *keys) current(t macronode.TenantID, r *ring) bool {
	newest, err := k.ks.NewestMint(MintKeyName(t))
	return err == nil && newest == r.newest
}

// drop forgets r. The generation has changed before anyone is told other keys.
func (k *keys) drop(t macronode.TenantID, r *ring) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rings[t] == r {
		delete(k.rings, t)
		k.gen.Add(1)
	}
}

// lookup returns the key that kid names; nil where there is none that is good.
func (k *keys) lookup(t macronode.TenantID, kid string) (*capability.Key, error) {
	r, err := k.ring(t)
	if err != nil || r == nil {
		return nil, err
	}
	if key := r.find(kid); key != nil || k.current(t, r) {
		return key, nil
	}
	k.drop(t, r)
	if r, err = k.ring(t); err != nil || r == nil {
		return nil, err
	}
	return r.find(kid), nil
}

func (r *ring) find(kid string) *capability.Key {
	for i := range r.kid {
		if r.kid[i] == kid {
			return r.key[i]
		}
	}
	return nil
}

// newest is ring with the version that the key service has now, for minting.
func (k *keys) newest(t macronode.TenantID) (*ring, error) {
	r, err := k.ring(t)
	if err != nil || r == nil || k.current(t, r) {
		return r, err
	}
	k.drop(t, r)
	return k.ring(t)
}

// ring returns a tenant's keys; nil where it has none yet. They were the key
// service's when they were first read, and are compared from then on.
func (k *keys) ring(t macronode.TenantID) (*ring, error) {
	k.mu.RLock()
	r := k.rings[t]
	k.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	for k.exists(t) {
		r, err := k.read(t)
		if err != nil || r == nil {
			return nil, err
		}
		if k.hold(t, r) {
			return r, nil
		}
	}
	return nil, nil
}

// hold keeps r, unless keys changed while it was read.
func (k *keys) hold(t macronode.TenantID, r *ring) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.exists(t) || !k.current(t, r) {
		return false
	}
	k.rings[t] = r
	return true
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
			// A key that is dropped may be in use; the collector knows when it
			// no longer is.
			runtime.SetFinalizer(r.key[i], (*capability.Key).Wipe)
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
