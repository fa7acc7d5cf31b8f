// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package minting is the part of the keystore that capabilities are minted with.
package minting

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Keys is a keystore as ron-auth wants it: minting keys by name.
type Keys struct{ Store *kms.Store }

// CreateMint makes the key where there is none; it is durable when it returns.
func (m Keys) CreateMint(ctx context.Context, name string) error {
	_, _, err := m.Store.Create(ctx, kms.Spec{Name: name, Alg: kms.MAC256, Purpose: kms.PurposeMint})
	return err
}

// RotateMint adds a version; it is durable when it returns.
func (m Keys) RotateMint(ctx context.Context, name string) error {
	_, _, _, err := m.Store.Rotate(ctx, kms.Spec{Name: name})
	return err
}

// NewestMint is the number of the newest version; NotFound where there is no such key.
func (m Keys) NewestMint(name string) (uint64, error) {
	k, err := m.Store.Key(name)
	if err != nil {
		return 0, err
	}
	return k.Newest().Version, nil
}

// WithMint calls f with a version's secret, which f does not keep; NotFound where there
// is none.
func (m Keys) WithMint(name string, version uint64, f func(secret []byte) error) error {
	return m.Store.WithSecret(name, version, kms.PurposeMint, f)
}

// DeleteMint drops all versions. A missing key is no error.
func (m Keys) DeleteMint(ctx context.Context, name string) error {
	err := m.Store.Delete(ctx, name)
	if err != nil && macronode.KindOf(err) == macronode.NotFound {
		return nil
	}
	return err
}

// Epoch changes with every change of a key.
func (m Keys) Epoch() uint64 { return m.Store.Epoch() }
