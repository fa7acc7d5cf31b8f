// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mem

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/rustyonions/macronode/internal/store"
)

// Defaults of KVConfig.
const (
	DefaultKVBytes        = 256 << 20
	DefaultKVReserveBytes = 16 << 20
)

// KVConfig bounds a KV. A zero member means its default.
type KVConfig struct {
	// MaxBytes of keys, values and their overhead; Update beyond it is ErrFull.
	MaxBytes int64
	// ReserveBytes beyond MaxBytes are for Reclaim.
	ReserveBytes int64
}

// KV implements store.KV.
type KV struct {
	max, reserve int64
	seed         maphash.Seed
	lock         chan struct{} // one writer; a channel, so that waiting heeds the context
	state        atomic.Pointer[state]
	closeOnce    sync.Once
	closed       chan struct{}
}

// state is one committed moment.
type state struct {
	root  *node
	bytes int64
}

var _ store.KV = (*KV)(nil)

// NewKV returns an empty KV.
func NewKV(c KVConfig) *KV {
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultKVBytes
	}
	if c.ReserveBytes <= 0 {
		c.ReserveBytes = DefaultKVReserveBytes
	}
	k := &KV{
		max: c.MaxBytes, reserve: c.ReserveBytes, seed: maphash.MakeSeed(),
		lock: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	k.state.Store(&state{})
	return k
}

// View implements store.KV.
func (k *KV) View(ctx context.Context, f func(store.Reader) error) error {
	if err := k.Check(ctx); err != nil {
		return err
	}
	t := &tx{root: k.state.Load().root}
	defer func() { t.done = true }()
	return f(t)
}

// Update implements store.KV.
func (k *KV) Update(ctx context.Context, f func(store.Tx) error) error {
	return k.update(ctx, k.max, f)
}

// Reclaim implements store.KV.
func (k *KV) Reclaim(ctx context.Context, f func(store.Tx) error) error {
	return k.update(ctx, k.max+k.reserve, f)
}

func (k *KV) update(ctx context.Context, limit int64, f func(store.Tx) error) error {
	select {
	case k.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-k.closed:
		return store.ErrClosed
	}
	defer func() { <-k.lock }()
	if err := k.Check(ctx); err != nil {
		return err
	}
	old := k.state.Load()
	t := &tx{root: old.root, own: new(owner), seed: k.seed}
	defer func() { t.done = true }()
	if err := f(t); err != nil {
		return err
	}
	now := &state{root: t.root, bytes: old.bytes + t.delta}
	if t.delta > 0 && now.bytes > limit {
		return fmt.Errorf("%w: metadata in memory is bounded to %d bytes", store.ErrFull, limit)
	}
	k.state.Store(now)
	return nil
}

// Check implements store.KV.
func (k *KV) Check(ctx context.Context) error {
	select {
	case <-k.closed:
		return store.ErrClosed
	default:
		return ctx.Err()
	}
}

// Close forgets everything. It waits for the transaction that is under way.
func (k *KV) Close() error {
	k.closeOnce.Do(func() {
		close(k.closed)
		k.lock <- struct{}{}
		k.state.Store(&state{})
		<-k.lock
	})
	return nil
}

// tx is used by one goroutine. With a nil own it only reads.
type tx struct {
	root  *node
	own   *owner
	seed  maphash.Seed
	delta int64
	done  bool
}

func (t *tx) Get(key []byte) ([]byte, error) {
	if t.done {
		return nil, store.ErrClosed
	}
	n := get(t.root, key)
	if n == nil {
		return nil, store.ErrNotFound
	}
	return append([]byte{}, n.value...), nil
}

func (t *tx) Scan(lo, hi []byte, f func(key, value []byte) bool) error {
	return t.scan(ascend, lo, hi, f)
}

func (t *tx) ScanDesc(lo, hi []byte, f func(key, value []byte) bool) error {
	return t.scan(descend, lo, hi, f)
}

func (t *tx) scan(walk func(*node, []byte, []byte, func(*node) bool) bool, lo, hi []byte, f func(key, value []byte) bool) error {
	if t.done {
		return store.ErrClosed
	}
	if t.own != nil {
		t.own = new(owner) // writes by f leave the tree being walked alone
	}
	// The slices are reused, as in the drivers that read from files: who keeps
	// one is found out here, in memory, and not in production.
	var key, value []byte
	walk(t.root, lo, hi, func(n *node) bool {
		key, value = append(key[:0], n.key...), append(value[:0], n.value...)
		return f(key, value)
	})
	return nil
}

func (t *tx) Set(key, value []byte) error {
	if t.done {
		return store.ErrClosed
	}
	if len(key) == 0 || len(key) > store.MaxKeyBytes || len(value) > store.MaxValueBytes {
		return fmt.Errorf("%w: %d and %d bytes", store.ErrTooLarge, len(key), len(value))
	}
	var d int64
	t.root, d = set(t.root, t.own, t.seed, bytes.Clone(key), bytes.Clone(value))
	t.delta += d
	return nil
}

func (t *tx) Delete(key []byte) error {
	if t.done {
		return store.ErrClosed
	}
	if n := get(t.root, key); n != nil {
		t.delta -= n.cost()
		t.root = del(t.root, t.own, key)
	}
	return nil
}
