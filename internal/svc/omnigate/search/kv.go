// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Metadata keeps, for each tenant, what its index must at least be:
//
//	search/t/ tenant(16) -> generation(8) base(8) through(8) complete(1)
const recordPrefix = "search/t/"

// record is which index a tenant has.
type record struct {
	generation uint64
	base       uint64 // of the journal, when it was begun
	through    uint64 // the tenant's own count, when it was last known to be durable
	complete   bool
}

func recordKey(t macronode.TenantID) []byte { return append([]byte(recordPrefix), t[:]...) }

func (r record) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 25), r.generation)
	b = binary.BigEndian.AppendUint64(b, r.base)
	b = binary.BigEndian.AppendUint64(b, r.through)
	if r.complete {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeRecord(v []byte) (r record, err error) {
	if len(v) != 25 || v[24] > 1 {
		return r, fmt.Errorf("search: bad metadata: %w", store.ErrCorrupt)
	}
	return record{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), binary.BigEndian.Uint64(v[16:]), v[24] == 1}, nil
}

// getRecord returns the zero record where there is none.
func getRecord(r store.Reader, t macronode.TenantID) (record, error) {
	v, err := r.Get(recordKey(t))
	if errors.Is(err, store.ErrNotFound) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	return decodeRecord(v)
}

func (f *Facet) record(ctx context.Context, t macronode.TenantID) (r record, err error) {
	err = f.c.KV.View(ctx, func(v store.Reader) error { r, err = getRecord(v, t); return err })
	return r, err
}

func (f *Facet) setRecord(ctx context.Context, t macronode.TenantID, r record) error {
	return f.c.KV.Reclaim(ctx, func(tx store.Tx) error { return tx.Set(recordKey(t), r.encode()) })
}

func (f *Facet) dropRecord(ctx context.Context, t macronode.TenantID) error {
	return f.c.KV.Reclaim(ctx, func(tx store.Tx) error { return tx.Delete(recordKey(t)) })
}
