// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// purgeBatch bounds one transaction of Purge, which other writers wait for.
const purgeBatch = 256

func errNoObject() error {
	return macronode.Errorf(macronode.NotFound, "there is no such object")
}

func (s *Service) drop(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	claim, replay, err := s.idem.Begin(ctx, a, idem.Hash(addr.String()))
	if err != nil || replay != nil {
		return replay, s.claimError(err)
	}
	defer claim.Release()
	reply := &macronode.Reply{Status: 204}
	hold, err := s.ledger.Open(ctx, a.Tenant.ID)
	if err != nil {
		return nil, s.metaError(err)
	}
	defer hold.Release()
	var gone refs.Reference
	var refusal error // the closure's own: then the commit is known not to be
	err = s.kv.Reclaim(ctx, func(tx store.Tx) error {
		if gone, refusal = refs.Drop(tx, refs.Owner{Tenant: a.Tenant.ID, Addr: addr}); refusal == nil {
			refusal = s.changes.Deleted(tx, a.Tenant.ID, addr)
		}
		if refusal == nil {
			refusal = claim.Keep(tx, reply)
		}
		return refusal
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, s.claimError(claim.Fail(ctx, a, errNoObject()))
	case err != nil:
		if refusal == nil {
			hold.Unsure()
		}
		return nil, s.metaError(err)
	}
	hold.Settle(-gone.Size, -1)
	s.replaced()
	s.elsewhere.Dropped(a.Tenant.ID, addr)
	return reply, nil
}

// Purge drops everything that the tenant stores, in transactions of bounded
// size. It may be repeated, and must be where calls of the tenant could still
// be under way. The bytes go in the background.
func (s *Service) Purge(ctx context.Context, tenant macronode.TenantID) error {
	hold, err := s.ledger.Open(ctx, tenant)
	if err != nil {
		return s.metaError(err)
	}
	defer hold.Release()
	for {
		var gone refs.Usage
		var dropped []b3.Addr
		err := s.kv.Reclaim(ctx, func(tx store.Tx) (err error) {
			gone, dropped, err = dropSome(tx, tenant)
			if err == nil && gone.Objects < purgeBatch {
				err = s.changes.Purged(tx, tenant)
			}
			return err
		})
		if err != nil {
			hold.Unsure()
			return s.metaError(err)
		}
		hold.Settle(-gone.Bytes, -gone.Objects)
		s.replaced()
		for _, addr := range dropped {
			s.elsewhere.Dropped(tenant, addr)
		}
		if gone.Objects < purgeBatch {
			return nil
		}
	}
}

// dropSome drops up to purgeBatch of a tenant's references and returns their sum
// and their addresses.
func dropSome(tx store.Tx, tenant macronode.TenantID) (gone refs.Usage, dropped []b3.Addr, err error) {
	lo := refs.TenantKeys(tenant)
	keys := make([][]byte, 0, purgeBatch)
	err = tx.Scan(lo, refs.After(lo), func(key, _ []byte) bool {
		keys = append(keys, append([]byte(nil), key[len(refs.RefPrefix):]...))
		return len(keys) < purgeBatch
	})
	if err != nil {
		return gone, nil, err
	}
	for _, key := range keys {
		o, err := refs.ParseOwner(key)
		if err != nil {
			return gone, nil, err
		}
		ref, err := refs.Drop(tx, o)
		if err != nil {
			return gone, nil, err
		}
		gone.Bytes += ref.Size
		gone.Objects++
		dropped = append(dropped, o.Addr)
	}
	return gone, dropped, nil
}
