// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"

	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/store"
)

// KV is metadata behind a breaker.
type KV struct {
	kv store.KV
	b  *breaker.Breaker
}

var _ store.KV = (*KV)(nil)

// NewKV wraps kv.
func NewKV(kv store.KV, b *breaker.Breaker) *KV { return &KV{kv, b} }

// probeKey is deleted by probes and never written.
const probeKey = "breaker/probe"

// ProbeKV tries kv as calls use it: it reads and makes a commit durable, also where
// the disk is full. Nothing is kept.
func ProbeKV(kv store.KV) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := kv.Check(ctx); err != nil {
			return err
		}
		return kv.Reclaim(ctx, func(tx store.Tx) error { return tx.Delete([]byte(probeKey)) })
	}
}

// View implements store.KV.
func (k *KV) View(ctx context.Context, f func(store.Reader) error) (err error) {
	p, err := k.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return k.kv.View(ctx, f)
}

// Update implements store.KV.
func (k *KV) Update(ctx context.Context, f func(store.Tx) error) (err error) {
	p, err := k.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return k.kv.Update(ctx, f)
}

// Reclaim implements store.KV.
func (k *KV) Reclaim(ctx context.Context, f func(store.Tx) error) (err error) {
	p, err := k.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return k.kv.Reclaim(ctx, f)
}

// Check implements store.KV; an open breaker is a reason of its own.
func (k *KV) Check(ctx context.Context) error {
	if err := k.b.Check(); err != nil {
		return err
	}
	return k.kv.Check(ctx)
}

// Close implements store.KV.
func (k *KV) Close() error { return k.kv.Close() }
