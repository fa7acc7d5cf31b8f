// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
)

// purgeBatch bounds one transaction of Purge and of the remover, which other
// writers wait for.
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
	err = s.kv.Reclaim(ctx, func(tx store.Tx) error {
		if err := dropReference(tx, a.Tenant.ID, addr); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, s.claimError(claim.Fail(ctx, a, errNoObject()))
	case err != nil:
		return nil, s.metaError(err)
	}
	s.wake()
	return reply, nil
}

// Purge drops everything that the tenant stores, in transactions of bounded
// size. It may be repeated, and must be where calls of the tenant could still
// be under way. The bytes go in the background.
func (s *Service) Purge(ctx context.Context, tenant macronode.TenantID) error {
	lo := append([]byte(refPrefix), tenant[:]...)
	hi := after(lo)
	for {
		more := false
		err := s.kv.Reclaim(ctx, func(tx store.Tx) error {
			addrs := make([][]byte, 0, purgeBatch)
			err := tx.Scan(lo, hi, func(key, _ []byte) bool {
				addrs = append(addrs, append([]byte(nil), key[len(lo):]...))
				return len(addrs) < purgeBatch
			})
			if err != nil {
				return err
			}
			more = len(addrs) == purgeBatch
			for _, b := range addrs {
				addr, err := addrOf(b)
				if err != nil {
					return err
				}
				if err := dropReference(tx, tenant, addr); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return s.metaError(err)
		}
		s.wake()
		if !more {
			return nil
		}
	}
}
