// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package refs

import (
	"errors"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// maxOwners bounds the value under a loc. Bytes with that many owners are shared
// with no more.
const maxOwners = 1024

// Put makes ref t's hold on the address of o and reports whether t had one: then
// the new bytes take the place of the old, which are queued to be freed where
// nobody else refers to them, and the reference keeps its age and content type.
func Put(tx store.Tx, o Owner, q *macronode.Quota, ref Reference) (existed bool, err error) {
	old, err := Get(tx, o)
	switch {
	case err == nil:
		existed = true
		ref.Created, ref.ContentType = old.Created, old.ContentType
		if err := letGo(tx, old.Loc, o); err != nil {
			return false, err
		}
	case errors.Is(err, store.ErrNotFound):
		u, err := GetUsage(tx, o.Tenant)
		if err != nil {
			return false, err
		}
		if err := u.Fits(q, ref.Size); err != nil {
			return false, err
		}
		if err := addUsage(tx, o.Tenant, ref.Size, 1); err != nil {
			return false, err
		}
	default:
		return false, err
	}
	if err := SetOwners(tx, ref.Loc, []Owner{o}); err != nil {
		return false, err
	}
	return existed, tx.Set(o.Key(), ref.Encode())
}

// Drop undoes Put and returns the reference; store.ErrNotFound where there is none.
func Drop(tx store.Tx, o Owner) (Reference, error) {
	ref, err := Get(tx, o)
	if err != nil {
		return ref, err
	}
	if err := addUsage(tx, o.Tenant, -ref.Size, -1); err != nil {
		return ref, err
	}
	if err := letGo(tx, ref.Loc, o); err != nil {
		return ref, err
	}
	return ref, tx.Delete(o.Key())
}

// Move makes everyone who refers to from refer to to, which holds the same bytes
// and nobody refers to yet, and queues from to be freed. It reports false, and
// changes nothing, where nobody refers to from any more.
func Move(tx store.Tx, from, to store.Loc) (bool, error) {
	owners, err := Owners(tx, from)
	if err != nil || len(owners) == 0 {
		return false, err
	}
	for _, o := range owners {
		if err := point(tx, o, from, to); err != nil {
			return false, err
		}
	}
	if err := SetOwners(tx, to, owners); err != nil {
		return false, err
	}
	return true, free(tx, from)
}

// Share makes o, which refers to from, refer to to, which holds the same bytes
// and has an owner. It reports false, and changes nothing, where one of these no
// longer holds or to has too many owners.
func Share(tx store.Tx, o Owner, from, to store.Loc) (bool, error) {
	ref, err := Get(tx, o)
	if errors.Is(err, store.ErrNotFound) || (err == nil && (ref.Loc != from || from == to)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owners, err := Owners(tx, to)
	if err != nil || len(owners) == 0 || len(owners) >= maxOwners {
		return false, err
	}
	if err := point(tx, o, from, to); err != nil {
		return false, err
	}
	if err := SetOwners(tx, to, append(owners, o)); err != nil {
		return false, err
	}
	return true, letGo(tx, from, o)
}

// point changes where o's bytes are.
func point(tx store.Tx, o Owner, from, to store.Loc) error {
	ref, err := Get(tx, o)
	if errors.Is(err, store.ErrNotFound) || (err == nil && ref.Loc != from) {
		return ErrMeta
	}
	if err != nil {
		return err
	}
	ref.Loc = to
	return tx.Set(o.Key(), ref.Encode())
}

// LetGo queues the bytes at l, which nobody refers to, to be freed.
func LetGo(tx store.Tx, l store.Loc) error { return free(tx, l) }

// letGo takes o from l's owners; the last one's going queues the bytes to be freed.
func letGo(tx store.Tx, l store.Loc, o Owner) error {
	owners, err := Owners(tx, l)
	if err != nil {
		return err
	}
	i := slices.Index(owners, o)
	if i < 0 {
		return ErrMeta
	}
	if len(owners) == 1 {
		return free(tx, l)
	}
	return SetOwners(tx, l, slices.Delete(owners, i, i+1))
}

func free(tx store.Tx, l store.Loc) error {
	if err := tx.Delete(locKey(l)); err != nil {
		return err
	}
	if err := tx.Delete(badKey(l)); err != nil {
		return err
	}
	return tx.Set(FreeKey(l), nil)
}

// Owners returns who refers to l; nobody where it is unknown.
func Owners(r store.Reader, l store.Loc) ([]Owner, error) {
	v, err := r.Get(locKey(l))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseOwners(v)
}

// ParseOwners reads the value under a loc.
func ParseOwners(v []byte) ([]Owner, error) {
	if len(v) == 0 || len(v)%ownerBytes != 0 || len(v) > maxOwners*ownerBytes {
		return nil, ErrMeta
	}
	owners := make([]Owner, 0, len(v)/ownerBytes)
	for ; len(v) > 0; v = v[ownerBytes:] {
		o, err := ParseOwner(v[:ownerBytes])
		if err != nil {
			return nil, err
		}
		owners = append(owners, o)
	}
	return owners, nil
}

// SetOwners makes owners, at least one, those of l.
func SetOwners(tx store.Tx, l store.Loc, owners []Owner) error {
	b := make([]byte, 0, len(owners)*ownerBytes)
	for _, o := range owners {
		b = o.append(b)
	}
	return tx.Set(locKey(l), b)
}

// Known reports whether a reference or the queue knows l.
func Known(r store.Reader, l store.Loc) (bool, error) {
	for _, key := range [][]byte{locKey(l), FreeKey(l)} {
		_, err := r.Get(key)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	return false, nil
}

// addUsage changes t's usage; a result below zero means that the metadata is not
// what this package wrote.
func addUsage(tx store.Tx, t macronode.TenantID, bytes, objects int64) error {
	u, err := GetUsage(tx, t)
	if err != nil {
		return err
	}
	if u.Bytes+bytes < 0 || u.Objects+objects < 0 {
		return ErrMeta
	}
	return SetUsage(tx, t, Usage{u.Bytes + bytes, u.Objects + objects})
}

// SetUsage makes u what t is said to store.
func SetUsage(tx store.Tx, t macronode.TenantID, u Usage) error {
	if u == (Usage{}) {
		return tx.Delete(usageKey(t))
	}
	return tx.Set(usageKey(t), u.encode())
}
