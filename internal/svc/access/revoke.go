// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"encoding/hex"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
)

// maxRevocations bounds what one tenant can make the node keep in memory for it.
// The operator's own are not bounded.
const maxRevocations = 100_000

// Revoke is the body that revokes.
type Revoke struct {
	ID string `json:"id"` // of any link of a capability: 32 hex digits
}

// Revoked is the answer: since when the id is revoked.
type Revoked struct {
	ID        string `json:"id"`
	RevokedMS int64  `json:"revoked_ms"`
}

// Revocation is one entry of the list.
type Revocation struct {
	ID string `json:"id"`
	// Tenant is whose capabilities it binds; empty: everyone's.
	Tenant    string `json:"tenant,omitempty"`
	RevokedMS int64  `json:"revoked_ms"`
	By        string `json:"by"`
}

// RevocationList is a page of revocations. An empty cursor says that it is the
// last.
type RevocationList struct {
	Revocations []Revocation `json:"revocations"`
	Cursor      string       `json:"cursor"`
}

func parseCapID(s string) (id macronode.CapID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return id, false
	}
	return macronode.CapID(b), true
}

// scope is whose capabilities a caller's revocations bind: its own tenant's, or
// for the operator everyone's. An id says nothing of its tenant, and is no
// secret, so without scopes any tenant could kill another's capabilities.
func scope(a *macronode.Admitted) macronode.TenantID {
	if a.Tenant.ID == macronode.SystemTenant {
		return macronode.TenantID{}
	}
	return a.Tenant.ID
}

func (s *Service) revokeCap(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "revoking takes a capability")
	}
	var req Revoke
	if err := decodeJSON(body, &req); err != nil {
		return nil, err
	}
	id, ok := parseCapID(req.ID)
	if !ok {
		return nil, macronode.Errorf(macronode.Invalid, "id is the 32 lower-case hex digits of a capability's id")
	}
	var reply *macronode.Reply
	err := s.revoke(ctx, revocation{tenant: scope(a), id: id, by: a.Actor()}, func(tx store.Tx, v revocation) (err error) {
		if reply, err = jsonReply(200, Revoked{ID: id.String(), RevokedMS: v.ms}); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	return reply, err
}

// revoke makes v durable and effective. also joins the transaction, with the
// revocation that holds: the one that was there, or v.
func (s *Service) revoke(ctx context.Context, v revocation, also func(store.Tx, revocation) error) error {
	if !v.tenant.IsZero() && s.revoked.of(v.tenant) >= maxRevocations {
		return macronode.Errorf(macronode.QuotaObjects, "a tenant has at most %d revocations; have its minting key rotated instead", maxRevocations)
	}
	event := macronode.AuditEvent{Stream: streamOf(v.tenant), Kind: "cap.revoke", Actor: v.by, Subject: "cap/" + v.id.String()}
	if err := s.record(ctx, event); err != nil {
		return err
	}
	v.ms = s.now().UnixMilli()
	var holds revocation
	// A full disk must not keep a capability alive.
	err := s.kv.Reclaim(ctx, func(tx store.Tx) (err error) {
		if holds, err = addRevocation(tx, v); err != nil {
			return err
		}
		if also == nil {
			return nil
		}
		return also(tx, holds)
	})
	if err != nil {
		err = s.storeError(err)
		s.failed(event, err)
		return err
	}
	s.revoked.add(holds)
	s.m.revoked.Inc()
	s.gauges()
	return nil
}

// Revoke revokes an id of any tenant's capability for the node itself, or for a
// peer that said so. by is who revoked, in audit form.
func (s *Service) Revoke(ctx context.Context, id macronode.CapID, by string) error {
	return s.revoke(ctx, revocation{id: id, by: by}, nil)
}

func (s *Service) listRevocations(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "revocations take a capability")
	}
	limit, err := pageLimit(a)
	if err != nil {
		return nil, err
	}
	// The operator sees all, a tenant its own.
	prefix := []byte(revokedPrefix)
	if own := scope(a); !own.IsZero() {
		prefix = append(prefix, own[:]...)
	}
	from, err := revokedCursor(prefix, a.Arg("cursor"))
	if err != nil {
		return nil, err
	}
	page := RevocationList{Revocations: []Revocation{}}
	var last scoped
	err = s.kv.View(ctx, func(r store.Reader) error {
		return s.store.scanRevocations(r, prefix, from, func(v revocation) bool {
			if len(page.Revocations) == limit {
				page.Cursor = hex.EncodeToString(revokedKey(last)[len(revokedPrefix):])
				return false
			}
			last = scoped{v.tenant, v.id}
			out := Revocation{ID: v.id.String(), RevokedMS: v.ms, By: v.by}
			if !v.tenant.IsZero() {
				out.Tenant = v.tenant.String()
			}
			page.Revocations = append(page.Revocations, out)
			return true
		})
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return jsonReply(200, page)
}

// revokedCursor returns the key that a cursor names, which lies below prefix;
// nil for an empty cursor.
func revokedCursor(prefix []byte, cursor string) ([]byte, error) {
	if cursor == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(cursor)
	key := append([]byte(revokedPrefix), b...)
	if err != nil || len(b) != 32 || !bytes.HasPrefix(key, prefix) {
		return nil, badCursor()
	}
	return key, nil
}
