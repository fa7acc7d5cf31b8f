// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package refs is what metadata says of objects: who holds which, where the
// bytes are, and what each tenant has stored. It is the one place that knows the
// keys; every function works inside a transaction of its caller.
//
//	object/r/ tenant(16) address(32)  -> reference
//	object/u/ tenant(16)              -> bytes(8) objects(8), big-endian
//	object/l/ loc                     -> the owners: tenant(16) address(32) each
//	object/free/ loc                  -> empty: bytes to be removed
//	object/bad/ loc                   -> quarantine: bytes found damaged
//	object/job/ name                  -> how far a background job has come
//
// Between transactions these hold: a reference's loc has the reference among its
// owners; an owner has a reference with that loc; a loc has owners or waits to be
// removed, never both; a tenant's usage is the sum of its references. Fsck
// checks the same.
package refs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// Prefixes of the keys.
const (
	Prefix      = "object/"
	RefPrefix   = Prefix + "r/"
	UsagePrefix = Prefix + "u/"
	LocPrefix   = Prefix + "l/"
	FreePrefix  = Prefix + "free/"
	BadPrefix   = Prefix + "bad/"
	JobPrefix   = Prefix + "job/"
)

// Limits of what is kept with a reference.
const (
	MaxContentType     = 256
	DefaultContentType = "application/octet-stream"
	maxLocBytes        = 64 // store.Loc
)

// ErrMeta says that metadata is not what this package wrote.
var ErrMeta = fmt.Errorf("storage: bad metadata: %w", store.ErrCorrupt)

// Reference is one tenant's hold on an object.
type Reference struct {
	Size        int64
	Created     int64 // unix ms
	Loc         store.Loc
	ContentType string
}

// Usage is what a tenant stores.
type Usage struct{ Bytes, Objects int64 }

const refVersion = 1

// Encode writes version(1) size(8) created(8) len(1) loc, content type.
func (r *Reference) Encode() []byte {
	b := make([]byte, 0, 18+len(r.Loc)+len(r.ContentType))
	b = append(b, refVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = append(b, byte(len(r.Loc)))
	b = append(b, r.Loc...)
	return append(b, r.ContentType...)
}

// Decode reads what Encode wrote; anything else is ErrMeta.
func Decode(b []byte) (r Reference, err error) {
	if len(b) < 18 || b[0] != refVersion || int(b[17]) > min(len(b)-18, maxLocBytes) || len(b)-18-int(b[17]) > MaxContentType {
		return Reference{}, ErrMeta
	}
	r.Size = int64(binary.BigEndian.Uint64(b[1:]))
	r.Created = int64(binary.BigEndian.Uint64(b[9:]))
	if r.Size < 0 {
		return Reference{}, ErrMeta
	}
	end := 18 + int(b[17])
	r.Loc = store.Loc(b[18:end])
	if r.ContentType = DefaultContentType; string(b[end:]) != DefaultContentType {
		r.ContentType = string(b[end:])
	}
	return r, nil
}

func (u Usage) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(u.Bytes))
	return binary.BigEndian.AppendUint64(b, uint64(u.Objects))
}

func decodeUsage(v []byte) (Usage, error) {
	if len(v) != 16 {
		return Usage{}, ErrMeta
	}
	u := Usage{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
	if u.Bytes < 0 || u.Objects < 0 {
		return Usage{}, ErrMeta
	}
	return u, nil
}

// Owner names a reference.
type Owner struct {
	Tenant macronode.TenantID
	Addr   b3.Addr
}

const ownerBytes = 16 + b3.Size

func (o Owner) append(b []byte) []byte { return append(append(b, o.Tenant[:]...), o.Addr[:]...) }

// ParseOwner reads tenant and address, the end of a reference's key.
func ParseOwner(b []byte) (o Owner, err error) {
	if len(b) != ownerBytes {
		return o, ErrMeta
	}
	copy(o.Tenant[:], b)
	copy(o.Addr[:], b[16:])
	return o, nil
}

// ParseTenant reads the end of a usage's key.
func ParseTenant(s string) (t macronode.TenantID, ok bool) {
	if len(s) != len(t) {
		return t, false
	}
	copy(t[:], s)
	return t, true
}

// Key is the reference's key.
func (o Owner) Key() []byte {
	return o.append(append(make([]byte, 0, len(RefPrefix)+ownerBytes), RefPrefix...))
}

// TenantKeys is the beginning of the keys of all references of t.
func TenantKeys(t macronode.TenantID) []byte { return append([]byte(RefPrefix), t[:]...) }

func usageKey(t macronode.TenantID) []byte { return append([]byte(UsagePrefix), t[:]...) }
func locKey(l store.Loc) []byte            { return append([]byte(LocPrefix), l...) }

// FreeKey is the key under which l waits to be removed.
func FreeKey(l store.Loc) []byte { return append([]byte(FreePrefix), l...) }

// Get returns store.ErrNotFound where the owner has no such object.
func Get(r store.Reader, o Owner) (Reference, error) {
	v, err := r.Get(o.Key())
	if err != nil {
		return Reference{}, err
	}
	return Decode(v)
}

// GetUsage returns what t stores.
func GetUsage(r store.Reader, t macronode.TenantID) (Usage, error) {
	v, err := r.Get(usageKey(t))
	if errors.Is(err, store.ErrNotFound) {
		return Usage{}, nil
	}
	if err != nil {
		return Usage{}, err
	}
	return decodeUsage(v)
}

// Fits refuses what q does not leave room for. The order is fixed so that two
// equal calls are refused alike.
func (u Usage) Fits(q *macronode.Quota, bytes int64) error {
	if q.Objects != macronode.NoLimit && u.Objects >= q.Objects {
		return macronode.Errorf(macronode.QuotaObjects, "the tenant may store %d objects", q.Objects)
	}
	if bytes > u.Room(q) {
		return OverQuota(q)
	}
	return nil
}

// OverQuota is the refusal of bytes that q does not allow.
func OverQuota(q *macronode.Quota) error {
	return macronode.Errorf(macronode.QuotaBytes, "the tenant may store %d bytes", q.StoredBytes)
}

// Room is how many bytes q leaves.
func (u Usage) Room(q *macronode.Quota) int64 {
	if q.StoredBytes == macronode.NoLimit {
		return math.MaxInt64
	}
	return max(q.StoredBytes-u.Bytes, 0)
}

// After is the first key beyond every key that begins with p.
func After(p []byte) []byte { return store.After(p) }
