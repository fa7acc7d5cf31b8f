// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Tenants calls f with each tenant that has, or had, names until it returns false.
func (s *Service) Tenants(ctx context.Context, f func(macronode.TenantID) bool) error {
	return s.storeError(s.kv.View(ctx, func(r store.Reader) error {
		lo, hi := []byte(keyPrefix), after([]byte(keyPrefix))
		for {
			var t macronode.TenantID
			found := false
			if err := r.Scan(lo, hi, func(k, _ []byte) bool {
				found = copy(t[:], k[len(keyPrefix):]) == len(t)
				return false
			}); err != nil || !found {
				return err
			}
			if !f(t) {
				return nil
			}
			if lo = after(append([]byte(keyPrefix), t[:]...)); lo == nil {
				return nil
			}
		}
	}))
}
