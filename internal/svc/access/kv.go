// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	tenantPrefix  = "access/tenant/"
	labelPrefix   = "access/label/"
	gonePrefix    = "access/gone/"
	revokedPrefix = "access/revoked/"
)

func tenantKey(id macronode.TenantID) []byte { return append([]byte(tenantPrefix), id[:]...) }
func labelKey(label string) []byte           { return []byte(labelPrefix + label) }
func goneKey(id macronode.TenantID) []byte   { return append([]byte(gonePrefix), id[:]...) }

// keyMark stands where an id would in the key of a revocation by key id, which
// goes on behind it and so is longer than any of an id.
var keyMark = bytes.Repeat([]byte{0xff}, 16)

func revokedKey(k scoped) []byte {
	b := append([]byte(revokedPrefix), k.tenant[:]...)
	if k.kid != "" {
		return append(append(b, keyMark...), k.kid...)
	}
	return append(b, k.id[:]...)
}

// after is the end of the keys that begin with prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// tenantRecord is a tenant as stored.
type tenantRecord struct {
	Label     string          `json:"label"`
	Suspended bool            `json:"suspended,omitempty"`
	Deleting  bool            `json:"deleting,omitempty"`
	Quota     macronode.Quota `json:"quota"`
	CreatedMS int64           `json:"created_ms"`
}

func (r *tenantRecord) tenant(id macronode.TenantID) *tenant {
	return &tenant{
		Tenant:    macronode.Tenant{ID: id, Label: r.Label, Suspended: r.Suspended, Quota: r.Quota},
		createdMS: r.CreatedMS, deleting: r.Deleting,
	}
}

// revokedRecord is a revocation as stored.
type revokedRecord struct {
	MS int64  `json:"ms"`
	By string `json:"by"`
}

// kvStore is what the service keeps, over store.KV. Methods with a tx run inside
// a transaction, so that idempotency records join it.
type kvStore struct{ kv store.KV }

func (s kvStore) ensureBuiltin(ctx context.Context, nowMS int64) error {
	missing := false
	err := s.kv.View(ctx, func(r store.Reader) error {
		for _, id := range []macronode.TenantID{macronode.SystemTenant, macronode.AnonymousTenant} {
			if _, err := r.Get(tenantKey(id)); errors.Is(err, store.ErrNotFound) {
				missing = true
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.kv.Update(ctx, func(tx store.Tx) error {
		for id, label := range map[macronode.TenantID]string{
			macronode.SystemTenant: macronode.SystemTenantLabel, macronode.AnonymousTenant: macronode.AnonymousTenantLabel,
		} {
			if _, err := tx.Get(tenantKey(id)); err == nil {
				continue
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err := putTenant(tx, id, &tenantRecord{Label: label, Quota: macronode.UnlimitedQuota(), CreatedMS: nowMS}); err != nil {
				return err
			}
		}
		return nil
	})
}

// putTenant writes a record and its label.
func putTenant(tx store.Tx, id macronode.TenantID, r *tenantRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := tx.Set(labelKey(r.Label), id[:]); err != nil {
		return err
	}
	return tx.Set(tenantKey(id), b)
}

// getTenant reads a record; store.ErrNotFound.
func getTenant(r store.Reader, id macronode.TenantID) (*tenantRecord, error) {
	b, err := r.Get(tenantKey(id))
	if err != nil {
		return nil, err
	}
	return decodeTenant(b)
}

func decodeTenant(b []byte) (*tenantRecord, error) {
	r := &tenantRecord{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%w: a tenant's record: %w", store.ErrCorrupt, err)
	}
	return r, nil
}

// isGone reports whether id was a tenant that was deleted.
func isGone(r store.Reader, id macronode.TenantID) (bool, error) {
	_, err := r.Get(goneKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// bury removes what the service itself keeps of a tenant, but for a mark that
// the id is used up.
func (s kvStore) bury(ctx context.Context, x *tenant, nowMS int64) error {
	return s.kv.Reclaim(ctx, func(tx store.Tx) error {
		var dead [][]byte
		lo := append([]byte(revokedPrefix), x.ID[:]...)
		if err := tx.Scan(lo, after(lo), func(k, _ []byte) bool {
			dead = append(dead, bytes.Clone(k))
			return true
		}); err != nil {
			return err
		}
		owner, err := tx.Get(labelKey(x.Label))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if bytes.Equal(owner, x.ID[:]) {
			dead = append(dead, labelKey(x.Label))
		}
		for _, k := range append(dead, tenantKey(x.ID)) {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return tx.Set(goneKey(x.ID), binary.BigEndian.AppendUint64(nil, uint64(nowMS)))
	})
}

// addRevocation writes v, or returns the one that is there.
func addRevocation(tx store.Tx, v dead) (dead, error) {
	k := revokedKey(v.scoped)
	b, err := tx.Get(k)
	if err == nil {
		return decodeRevocation(k, b)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return v, err
	}
	if b, err = json.Marshal(revokedRecord{v.ms, v.by}); err != nil {
		return v, err
	}
	return v, tx.Set(k, b)
}

func decodeRevocation(key, value []byte) (v dead, err error) {
	var r revokedRecord
	name := key[min(len(revokedPrefix), len(key)):]
	if len(name) < 32 || len(name) > 32+64 || len(name) > 32 && !bytes.Equal(name[16:32], keyMark) {
		return v, fmt.Errorf("%w: a revocation's key", store.ErrCorrupt)
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return v, fmt.Errorf("%w: a revocation's record: %w", store.ErrCorrupt, err)
	}
	copy(v.tenant[:], name)
	if v.kid = string(name[32:]); v.kid == "" {
		copy(v.id[:], name[16:])
	}
	v.ms, v.by = r.MS, r.By
	return v, nil
}

// loadAll reads everything at one moment.
func (s kvStore) loadAll(ctx context.Context) (list []*tenant, revs []dead, err error) {
	err = s.kv.View(ctx, func(r store.Reader) error {
		if err := s.scanTenants(r, nil, func(x *tenant) bool { list = append(list, x); return true }); err != nil {
			return err
		}
		return s.scanRevocations(r, []byte(revokedPrefix), nil, func(v dead) bool { revs = append(revs, v); return true })
	})
	return list, revs, err
}

// scanTenants calls f for each tenant whose id is after the given one.
func (s kvStore) scanTenants(r store.Reader, from *macronode.TenantID, f func(*tenant) bool) error {
	lo, hi := []byte(tenantPrefix), after([]byte(tenantPrefix))
	if from != nil {
		lo = append(tenantKey(*from), 0)
	}
	var bad error
	err := r.Scan(lo, hi, func(k, b []byte) bool {
		if len(k) != len(tenantPrefix)+16 {
			bad = fmt.Errorf("%w: a tenant's key", store.ErrCorrupt)
			return false
		}
		rec, err := decodeTenant(b)
		if err != nil {
			bad = err
			return false
		}
		return f(rec.tenant(macronode.TenantID(k[len(tenantPrefix):])))
	})
	return errors.Join(err, bad)
}

// scanRevocations calls f for each revocation below prefix, after the key from.
func (s kvStore) scanRevocations(r store.Reader, prefix, from []byte, f func(dead) bool) error {
	lo := prefix
	if from != nil {
		lo = append(bytes.Clone(from), 0)
	}
	var bad error
	err := r.Scan(lo, after(prefix), func(k, b []byte) bool {
		v, err := decodeRevocation(k, b)
		if err != nil {
			bad = err
			return false
		}
		return f(v)
	})
	return errors.Join(err, bad)
}
