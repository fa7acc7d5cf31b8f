// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mintkeys holds the minting keys of tenants in memory, in step with the
// key service: which versions verify, and which one mints.
package mintkeys

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

// Good is how many versions of a minting key verify: the current and
// the two before it.
const Good = 3

// Name is the key service's name of a tenant's minting key.
func Name(t macronode.TenantID) string { return "mint-" + strings.ToLower(t.String()) }

// Ring is the minting keys of one tenant that are good, newest first. A version
// that is missing has no key. Values are immutable.
type Ring struct {
	Newest uint64
	KID    [Good]string
	Key    [Good]*capability.Key
}

// KID is the key id of a version.
func KID(version uint64) string { return "v" + strconv.FormatUint(version, 10) }

// Store is what is needed of the key service. Names are those of Name. Implementations are safe for concurrent use.
type Store interface {
	// CreateMint makes the 32-byte minting key where there is none, and
	// returns once it is durable.
	CreateMint(ctx context.Context, name string) error
	// NewestMint returns the number of the key's newest version, from memory;
	// an error of kind NotFound where there is no such key.
	NewestMint(name string) (uint64, error)
	// RotateMint adds a version, and returns once it is durable.
	RotateMint(ctx context.Context, name string) error
	// WithMint calls f with the secret of a version; f does not keep it. An
	// error of kind NotFound where there is no such version.
	WithMint(name string, version uint64, f func(secret []byte) error) error
	// DeleteMint drops all versions. A missing key is no error.
	DeleteMint(ctx context.Context, name string) error
	// Epoch changes with every change of a key, at about the time the change is
	// visible. No call waits for it.
	Epoch() uint64
}

// How held keys are compared with the key service.
const (
	// ComparePeriod is how long a rotation may take to be noticed here. A mint,
	// and a token of a version that is not known, notice it at once.
	ComparePeriod = 500 * time.Millisecond
	// CompareAgain is how many periods after a change of the key service keys
	// are compared: its count may change before the key does.
	CompareAgain = 3
	// CompareAlways is after how many periods keys are compared in any case.
	CompareAlways = 20
)

// Keys holds the minting keys that were asked for, derived. Deriving, and asking
// a key service that may be writing to its disk, is what a look-up must not
// cost; that keys lie in ordinary memory is the price. They are dropped, and the
// generation changes, when the key service has other ones; the next garbage
// collection wipes them.
type Keys struct {
	store  Store
	exists func(macronode.TenantID) bool
	gen    atomic.Uint64

	mu    sync.RWMutex
	rings map[macronode.TenantID]*Ring // guarded by mu; bounded by the tenants there are
}

// Init sets k up over the key service; exists tells whether there is such a
// tenant. It is called once, before any other method.
func (k *Keys) Init(store Store, exists func(macronode.TenantID) bool) {
	k.store, k.exists, k.rings = store, exists, map[macronode.TenantID]*Ring{}
}

// Watch compares what is held with the key service until ctx ends.
func (k *Keys) Watch(ctx context.Context) {
	ticker := time.NewTicker(ComparePeriod)
	defer ticker.Stop()
	epoch, idle := k.store.Epoch(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if e := k.store.Epoch(); e != epoch {
			epoch, idle = e, 0
		}
		if idle < CompareAgain || idle%CompareAlways == 0 {
			k.Compare()
		}
		idle++
	}
}

// Compare drops the keys of which the key service has another newest version.
func (k *Keys) Compare() {
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
func (k *Keys) current(t macronode.TenantID, r *Ring) bool {
	newest, err := k.store.NewestMint(Name(t))
	return err == nil && newest == r.Newest
}

// drop forgets r. The generation has changed before anyone is told other keys.
func (k *Keys) drop(t macronode.TenantID, r *Ring) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rings[t] == r {
		delete(k.rings, t)
		k.gen.Add(1)
	}
}

// Lookup returns the key that kid names; nil where there is none that is good.
func (k *Keys) Lookup(t macronode.TenantID, kid string) (*capability.Key, error) {
	r, err := k.Ring(t)
	if err != nil || r == nil {
		return nil, err
	}
	if key := r.find(kid); key != nil || k.current(t, r) {
		return key, nil
	}
	k.drop(t, r)
	if r, err = k.Ring(t); err != nil || r == nil {
		return nil, err
	}
	return r.find(kid), nil
}

func (r *Ring) find(kid string) *capability.Key {
	for i := range r.KID {
		if r.KID[i] == kid {
			return r.Key[i]
		}
	}
	return nil
}

// NewestRing is Ring with the version that the key service has now, for minting.
func (k *Keys) NewestRing(t macronode.TenantID) (*Ring, error) {
	r, err := k.Ring(t)
	if err != nil || r == nil || k.current(t, r) {
		return r, err
	}
	k.drop(t, r)
	return k.Ring(t)
}

// Ring returns a tenant's keys; nil where it has none yet. They were the key
// service's when they were first read, and are compared from then on.
func (k *Keys) Ring(t macronode.TenantID) (*Ring, error) {
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
func (k *Keys) hold(t macronode.TenantID, r *Ring) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.exists(t) || !k.current(t, r) {
		return false
	}
	k.rings[t] = r
	return true
}

func (k *Keys) read(t macronode.TenantID) (*Ring, error) {
	name := Name(t)
	newest, err := k.store.NewestMint(name)
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Ring{Newest: newest}
	for i := range min(Good, newest) {
		v := newest - i
		err := k.store.WithMint(name, v, func(secret []byte) error {
			if len(secret) != capability.KeyBytes {
				return errors.New("access: a minting key is not 32 bytes")
			}
			r.Key[i] = capability.NewKey((*[capability.KeyBytes]byte)(secret))
			// A key that is dropped may be in use; the collector knows when it
			// no longer is.
			runtime.SetFinalizer(r.Key[i], (*capability.Key).Wipe)
			return nil
		})
		if notFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.KID[i] = KID(v)
	}
	if r.Key[0] == nil { // deleted meanwhile
		return nil, nil
	}
	return r, nil
}

// Forget drops a tenant's keys.
func (k *Keys) Forget(t macronode.TenantID) {
	k.mu.Lock()
	delete(k.rings, t)
	k.mu.Unlock()
	k.gen.Add(1)
}

// Wipe overwrites and drops every key.
func (k *Keys) Wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.rings {
		for _, key := range r.Key {
			if key != nil {
				key.Wipe()
			}
		}
	}
	clear(k.rings)
	k.gen.Add(1)
}

func notFound(err error) bool { return err != nil && macronode.KindOf(err) == macronode.NotFound }

// Generation changes before Lookup gives another answer than nil.
func (k *Keys) Generation() uint64 { return k.gen.Load() }
