// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package parts

import (
	"context"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
)

// RegistryHalves are signers with each half of a key of purpose registry.
func RegistryHalves(keys *kms.Store, ref bundle.Ref) ([]bundle.Signer, error) {
	halves, err := keys.Signers(ref, kms.PurposeRegistry)
	if err != nil {
		return nil, err
	}
	out := make([]bundle.Signer, len(halves))
	for i, h := range halves {
		out[i] = h
	}
	return out, nil
}

// FoundRegistry makes a registry where there is none: the first signer is a key of the
// node's own key service, which is made too, and the node is the writer. The id is
// that of a registry that was made now.
func FoundRegistry(ctx context.Context, kv store.KV, keys *kms.Store, nodeID string) (id b3.Addr, err error) {
	if there, err := chain.Founded(ctx, kv); err != nil || there {
		return id, err
	}
	info, _, err := keys.Create(ctx, kms.Spec{Name: datadir.KeyRegistry, Alg: kms.Ed25519MLDSA65, Purpose: kms.PurposeRegistry})
	if err != nil {
		return id, err
	}
	first := bundle.Anchor{Name: datadir.KeyRegistry, Version: info.Newest().Version}
	halves, err := keys.Signers(bundle.Ref{Kind: bundle.RefKey, Name: datadir.KeyRegistry, Version: first.Version}, kms.PurposeRegistry)
	if err != nil {
		return id, err
	}
	for _, h := range halves {
		switch h.Alg() {
		case bundle.AlgEd25519:
			first.Ed25519 = h.Public()
		case bundle.AlgMLDSA65:
			first.MLDSA65 = h.Public()
		}
	}
	return chain.Found(ctx, kv, first, nodeID, time.Now())
}
