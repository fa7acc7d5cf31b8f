// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// Look says what this node knows of the tenant's object without reading it, and asks
// nobody else: NotFound where it is not here.
func (s *Service) Look(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (Entry, error) {
	r := &read{tenant: tenant, addr: addr}
	if err := s.locate(ctx, r); err != nil {
		return Entry{}, err
	}
	return Entry{addr.String(), r.ref.Size, r.ref.ContentType, r.ref.Created}, nil
}
