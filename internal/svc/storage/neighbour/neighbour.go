// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package neighbour is what other parts of the node see of a tenant's objects: that
// they change, what they are, and their first bytes.
package neighbour

import (
	"context"
	"errors"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// Changes is told of a tenant's objects, inside the transaction that changes them;
// an error undoes it. It does no I/O of its own.
type Changes interface {
	// Put: the tenant has the object, perhaps not for the first time.
	Put(tx store.Tx, tenant macronode.TenantID, addr b3.Addr) error
	// Deleted: the tenant does not have it any more.
	Deleted(tx store.Tx, tenant macronode.TenantID, addr b3.Addr) error
	// Purged: the tenant has nothing any more. It may be told more than once.
	Purged(tx store.Tx, tenant macronode.TenantID) error
}

// Unheard is Changes where nobody listens.
type Unheard struct{}

// Put implements Changes.
func (Unheard) Put(store.Tx, macronode.TenantID, b3.Addr) error { return nil }

// Deleted implements Changes.
func (Unheard) Deleted(store.Tx, macronode.TenantID, b3.Addr) error { return nil }

// Purged implements Changes.
func (Unheard) Purged(store.Tx, macronode.TenantID) error { return nil }

// Found is what metadata says of a tenant's object.
type Found struct {
	Addr        b3.Addr
	Size        int64
	ContentType string
	CreatedMS   int64 // unix
}

// View looks at what svc-storage keeps. All members are required.
type View struct {
	KV      store.KV
	Objects store.Objects
	// Damaged is told of bytes that did not verify.
	Damaged func(l store.Loc, cause error)
}

// lookups bounds how often a read starts over because the bytes moved.
const lookups = 4

// Lookup says what the tenant's object is: store.ErrNotFound where it has none. It
// asks no other node.
func (v *View) Lookup(ctx context.Context, tenant macronode.TenantID, addr b3.Addr) (f Found, err error) {
	err = v.KV.View(ctx, func(r store.Reader) error {
		ref, err := refs.Get(r, refs.Owner{Tenant: tenant, Addr: addr})
		f = Found{addr, ref.Size, ref.ContentType, ref.Created}
		return err
	})
	return f, err
}

// Page returns up to limit of the tenant's objects with addresses beyond after, which
// is nil at first, in the order of their addresses. Fewer are the last.
func (v *View) Page(ctx context.Context, tenant macronode.TenantID, after *b3.Addr, limit int) (page []Found, err error) {
	base := refs.TenantKeys(tenant)
	lo := base
	if after != nil {
		lo = append(refs.Owner{Tenant: tenant, Addr: *after}.Key(), 0)
	}
	err = v.KV.View(ctx, func(r store.Reader) error {
		page = page[:0]
		var bad error
		err := r.Scan(lo, refs.After(base), func(key, v []byte) bool {
			var o refs.Owner
			var ref refs.Reference
			if o, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad == nil {
				ref, bad = refs.Decode(v)
			}
			if bad != nil {
				return false
			}
			page = append(page, Found{o.Addr, ref.Size, ref.ContentType, ref.Created})
			return len(page) < limit
		})
		return errors.Join(err, bad)
	})
	return page, err
}

// Tenants calls f with each tenant that stores something, until it returns false.
func (v *View) Tenants(ctx context.Context, f func(macronode.TenantID) bool) error {
	lo := []byte(refs.UsagePrefix)
	return v.KV.View(ctx, func(r store.Reader) error {
		bad := false
		err := r.Scan(lo, refs.After(lo), func(key, _ []byte) bool {
			t, ok := refs.ParseTenant(string(key[len(lo):]))
			bad = !ok
			return ok && f(t)
		})
		if bad {
			err = refs.ErrMeta
		}
		return err
	})
}

// ReadPart reads the first bytes of the tenant's object, at most limit, verified. It is
// for parts of the node that look into objects in the background. Damage is
// counted and kept in quarantine as where a caller meets it.
func (v *View) ReadPart(ctx context.Context, tenant macronode.TenantID, addr b3.Addr, limit int64) ([]byte, error) {
	for range lookups {
		var ref refs.Reference
		err := v.KV.View(ctx, func(r store.Reader) (err error) {
			ref, err = refs.Get(r, refs.Owner{Tenant: tenant, Addr: addr})
			return err
		})
		if err != nil {
			return nil, err
		}
		p := make([]byte, min(ref.Size, limit))
		o, err := v.Objects.Open(ctx, ref.Loc, addr, ref.Size)
		if err == nil {
			_, err = io.ReadFull(io.NewSectionReader(o, 0, ref.Size), p)
			err = errors.Join(err, o.Close())
		}
		switch {
		case err == nil:
			return p, nil
		case errors.Is(err, store.ErrNotFound):
			continue // the bytes moved meanwhile
		case errors.Is(err, store.ErrCorrupt):
			v.Damaged(ref.Loc, err)
		}
		return nil, err
	}
	return nil, store.ErrCorrupt // the reference stays, and its bytes do not come
}
