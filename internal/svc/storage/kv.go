// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	refPrefix   = "object/r/"
	usagePrefix = "object/u/"
	locPrefix   = "object/l/"
	freePrefix  = "object/free/"
)

const maxLocBytes = 64 // store.Loc

// reference is one tenant's hold on an object.
type reference struct {
	size    int64
	created int64 // unix ms
	loc     store.Loc
	ctype   string
}

// usage is what a tenant stores.
type usage struct{ bytes, objects int64 }

var errMeta = fmt.Errorf("storage: bad metadata: %w", store.ErrCorrupt)

const refVersion = 1

// encode writes version(1) size(8) created(8) len(1) loc, content type.
func (r *reference) encode() []byte {
	b := make([]byte, 0, 18+len(r.loc)+len(r.ctype))
	b = append(b, refVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.created))
	b = append(b, byte(len(r.loc)))
	b = append(b, r.loc...)
	return append(b, r.ctype...)
}

func decodeReference(b []byte) (r reference, err error) {
	if len(b) < 18 || b[0] != refVersion || int(b[17]) > min(len(b)-18, maxLocBytes) || len(b)-18-int(b[17]) > maxContentType {
		return reference{}, errMeta
	}
	r.size = int64(binary.BigEndian.Uint64(b[1:]))
	r.created = int64(binary.BigEndian.Uint64(b[9:]))
	if r.size < 0 {
		return reference{}, errMeta
	}
	end := 18 + int(b[17])
	r.loc = store.Loc(b[18:end])
	if r.ctype = defaultContentType; string(b[end:]) != defaultContentType {
		r.ctype = string(b[end:])
	}
	return r, nil
}

func (u usage) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(u.bytes))
	return binary.BigEndian.AppendUint64(b, uint64(u.objects))
}

// owner is the part of a key that names a reference.
type owner [16 + b3.Size]byte

func ownerOf(t macronode.TenantID, a b3.Addr) (o owner) {
	copy(o[:], t[:])
	copy(o[16:], a[:])
	return o
}

func refKey(t macronode.TenantID, a b3.Addr) []byte {
	b := append(make([]byte, 0, len(refPrefix)+16+b3.Size), refPrefix...)
	return append(append(b, t[:]...), a[:]...)
}

func usageKey(t macronode.TenantID) []byte { return append([]byte(usagePrefix), t[:]...) }
func locKey(l store.Loc) []byte            { return append([]byte(locPrefix), l...) }
func freeKey(l store.Loc) []byte           { return append([]byte(freePrefix), l...) }

// getReference returns store.ErrNotFound where the tenant has no such object.
func getReference(r store.Reader, t macronode.TenantID, a b3.Addr) (reference, error) {
	v, err := r.Get(refKey(t, a))
	if err != nil {
		return reference{}, err
	}
	return decodeReference(v)
}

func getUsage(r store.Reader, t macronode.TenantID) (usage, error) {
	v, err := r.Get(usageKey(t))
	if errors.Is(err, store.ErrNotFound) {
		return usage{}, nil
	}
	if err != nil {
		return usage{}, err
	}
	if len(v) != 16 {
		return usage{}, errMeta
	}
	u := usage{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
	if u.bytes < 0 || u.objects < 0 {
		return usage{}, errMeta
	}
	return u, nil
}

// addUsage changes t's usage; a result below zero means that the metadata is
// not what this package wrote.
func addUsage(tx store.Tx, t macronode.TenantID, bytes, objects int64) error {
	u, err := getUsage(tx, t)
	if err != nil {
		return err
	}
	if u.bytes+bytes < 0 || u.objects+objects < 0 {
		return errMeta
	}
	u.bytes += bytes
	u.objects += objects
	if u == (usage{}) {
		return tx.Delete(usageKey(t))
	}
	return tx.Set(usageKey(t), u.encode())
}

// fits refuses what q does not leave room for. The order is fixed so that two
// equal calls are refused alike.
func (u usage) fits(q *macronode.Quota, bytes int64) error {
	if q.Objects != macronode.NoLimit && u.objects >= q.Objects {
		return macronode.Errorf(macronode.QuotaObjects, "the tenant may store %d objects", q.Objects)
	}
	if bytes > u.room(q) {
		return macronode.Errorf(macronode.QuotaBytes, "the tenant may store %d bytes", q.StoredBytes)
	}
	return nil
}

// room is how many bytes q leaves.
func (u usage) room(q *macronode.Quota) int64 {
	if q.StoredBytes == macronode.NoLimit {
		return math.MaxInt64
	}
	return max(q.StoredBytes-u.bytes, 0)
}

// putReference makes ref t's hold on a and reports whether t had one: then the
// new bytes take the place of the old, which are queued to be freed, and the
// reference keeps its age and content type.
func putReference(tx store.Tx, t *macronode.Tenant, a b3.Addr, ref reference) (existed bool, err error) {
	old, err := getReference(tx, t.ID, a)
	switch {
	case err == nil:
		existed = true
		ref.created, ref.ctype = old.created, old.ctype
		if err := letGo(tx, old.loc); err != nil {
			return false, err
		}
	case errors.Is(err, store.ErrNotFound):
		u, err := getUsage(tx, t.ID)
		if err != nil {
			return false, err
		}
		if err := u.fits(&t.Quota, ref.size); err != nil {
			return false, err
		}
		if err := addUsage(tx, t.ID, ref.size, 1); err != nil {
			return false, err
		}
	default:
		return false, err
	}
	o := ownerOf(t.ID, a)
	if err := tx.Set(locKey(ref.loc), o[:]); err != nil {
		return false, err
	}
	return existed, tx.Set(refKey(t.ID, a), ref.encode())
}

// dropReference undoes putReference; store.ErrNotFound where there is none.
func dropReference(tx store.Tx, t macronode.TenantID, a b3.Addr) error {
	ref, err := getReference(tx, t, a)
	if err != nil {
		return err
	}
	if err := addUsage(tx, t, -ref.size, -1); err != nil {
		return err
	}
	if err := letGo(tx, ref.loc); err != nil {
		return err
	}
	return tx.Delete(refKey(t, a))
}

// letGo queues the bytes at l to be freed.
func letGo(tx store.Tx, l store.Loc) error {
	if err := tx.Delete(locKey(l)); err != nil {
		return err
	}
	return tx.Set(freeKey(l), nil)
}

// after is the first key beyond every key that begins with p.
func after(p []byte) []byte {
	hi := append([]byte(nil), p...)
	for i := len(hi) - 1; i >= 0; i-- {
		hi[i]++
		if hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil
}
