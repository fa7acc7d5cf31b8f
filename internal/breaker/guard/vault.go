// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"

	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Vault is the sealed records of a keystore behind a breaker: what touches the
// place where they lie. Keys that are unsealed in memory work without it.
type Vault struct {
	kms.Vault
	b *breaker.Breaker
}

var _ kms.Vault = (*Vault)(nil)

// NewVault wraps v.
func NewVault(v kms.Vault, b *breaker.Breaker) *Vault { return &Vault{v, b} }

// ProbeVault tries v by unsealing its first record.
func ProbeVault(v kms.Vault) func(context.Context) error {
	return func(context.Context) error {
		names := v.Names()
		if len(names) == 0 {
			return nil
		}
		return v.Load(names[0], func([]byte) error { return nil })
	}
}

func (v *Vault) through(f func() error) (err error) {
	p, err := v.b.Enter()
	if err != nil {
		return err
	}
	defer func() { p.Leave(err) }()
	return f()
}

// Load implements kms.Vault.
func (v *Vault) Load(name string, f func(plain []byte) error) error {
	return v.through(func() error { return v.Vault.Load(name, f) })
}

// Save implements kms.Vault.
func (v *Vault) Save(name string, plain []byte) error {
	return v.through(func() error { return v.Vault.Save(name, plain) })
}

// Remove implements kms.Vault.
func (v *Vault) Remove(name string) error {
	return v.through(func() error { return v.Vault.Remove(name) })
}

// Public implements kms.Vault.
func (v *Vault) Public() (doc []byte, err error) {
	err = v.through(func() error { doc, err = v.Vault.Public(); return err })
	return doc, err
}

// SavePublic implements kms.Vault.
func (v *Vault) SavePublic(doc []byte) error {
	return v.through(func() error { return v.Vault.SavePublic(doc) })
}

// Fetcher reads one document, such as the pinned policy bundle.
type Fetcher interface {
	Fetch(ctx context.Context) ([]byte, error)
}

// Source is a Fetcher behind a breaker.
type Source struct {
	from Fetcher
	b    *breaker.Breaker
}

// NewSource wraps from.
func NewSource(from Fetcher, b *breaker.Breaker) Source { return Source{from, b} }

// Fetch is the Fetcher's, or the breaker's refusal.
func (s Source) Fetch(ctx context.Context) (doc []byte, err error) {
	p, err := s.b.Enter()
	if err != nil {
		return nil, err
	}
	defer func() { p.Leave(err) }()
	return s.from.Fetch(ctx)
}
