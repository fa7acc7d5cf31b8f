// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"encoding/hex"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access/strict"
	"github.com/rustyonions/macronode/revocation"
)

// maxRevocations bounds what one tenant can make the node keep in memory for it.
// The operator's own are not bounded.
const maxRevocations = 100_000

// Revoke is the body that revokes: one capability by ID, or all that a tenant's
// minting key made by KID, or all of a tenant's by Tenant alone.
type Revoke struct {
	ID     string `json:"id,omitempty"`     // of any link of a capability: 32 hex digits
	KID    string `json:"kid,omitempty"`    // of a minting key: "v1"
	Tenant string `json:"tenant,omitempty"` // id or label; an operator names it with KID
}

// Revoked is the answer: since when the id, or the key ids, are revoked.
type Revoked struct {
	ID        string   `json:"id,omitempty"`
	Tenant    string   `json:"tenant,omitempty"`
	KIDs      []string `json:"kids,omitempty"`
	RevokedMS int64    `json:"revoked_ms"`
}

// Revocation is one entry of the list: ID or KID is set.
type Revocation struct {
	ID  string `json:"id,omitempty"`
	KID string `json:"kid,omitempty"`
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
	if err := strict.Decode(body, &req); err != nil {
		return nil, err
	}
	if req.ID == "" {
		return s.revokeKeys(ctx, a, &req, claim)
	}
	id, ok := parseCapID(req.ID)
	if !ok || req.KID != "" || req.Tenant != "" {
		return nil, macronode.Errorf(macronode.Invalid, "id is the 32 lower-case hex digits of a capability's id, and stands alone")
	}
	var reply *macronode.Reply
	name := scoped{tenant: scope(a), id: id}
	err := s.revoke(ctx, []scoped{name}, a.Actor(), func(tx store.Tx, ms int64) (err error) {
		if reply, err = jsonReply(200, Revoked{ID: id.String(), RevokedMS: ms}); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	return reply, err
}

// event is what audit hears of a revocation.
func (n *scoped) event(by string) macronode.AuditEvent {
	e := macronode.AuditEvent{Stream: streamOf(n.tenant), Kind: "cap.revoke", Actor: by, Subject: "cap/" + n.id.String()}
	if n.kid != "" {
		e.Subject = "tenant/" + n.tenant.String()
		e.Attrs = map[string]any{"kid": n.kid}
	}
	return e
}

// revoke makes revocations of one tenant (or everyone) durable, then effective.
// also joins the transaction, with the time since which the last of them holds:
// of one that was there, the old one.
func (s *Service) revoke(ctx context.Context, names []scoped, by string, also func(store.Tx, int64) error) error {
	for i := range names {
		n := &names[i]
		if !n.tenant.IsZero() && n.kid == "" && s.revoked.of(n.tenant) >= maxRevocations {
			return macronode.Errorf(macronode.QuotaObjects, "a tenant has at most %d revocations; have its minting key revoked instead", maxRevocations)
		}
		if err := s.record(ctx, n.event(by)); err != nil {
			return err
		}
	}
	ms := s.now().UnixMilli()
	var hold []dead
	// A full disk must not keep a capability alive.
	err := s.kv.Reclaim(ctx, func(tx store.Tx) error {
		hold = hold[:0]
		for _, n := range names {
			v, err := addRevocation(tx, dead{n, ms, by})
			if err != nil {
				return err
			}
			hold = append(hold, v)
		}
		if also == nil {
			return nil
		}
		return also(tx, hold[len(hold)-1].ms)
	})
	if err != nil {
		err = s.storeError(err)
		for i := range names {
			s.failed(names[i].event(by), err)
		}
		return err
	}
	var news []revocation.Entry
	for _, v := range hold {
		s.revoked.add(v)
		s.m.revoked.Inc()
		news = append(news, revocation.Entry(v.shown()))
	}
	s.gauges()
	s.told(news)
	return nil
}

// Revoke revokes an id of any tenant's capability for the node itself, or for a
// peer that said so. by is who revoked, in audit form.
func (s *Service) Revoke(ctx context.Context, id macronode.CapID, by string) error {
	return s.revoke(ctx, []scoped{{id: id}}, by, nil)
}

func (s *Service) listRevocations(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "revocations take a capability")
	}
	limit, err := pageLimit(a)
	if err != nil {
		return nil, err
	}
	entries, cursor, err := s.RevocationPage(ctx, scope(a), a.Arg("cursor"), limit)
	if err != nil {
		return nil, err
	}
	return jsonReply(200, RevocationList{entries, cursor})
}

// RevocationPage reads at most limit revocations: all for the zero scope, else
// the tenant's own. A next cursor that is not empty goes on.
func (s *Service) RevocationPage(ctx context.Context, own macronode.TenantID, cursor string, limit int) ([]Revocation, string, error) {
	prefix := []byte(revokedPrefix)
	if !own.IsZero() {
		prefix = append(prefix, own[:]...)
	}
	from, err := revokedCursor(prefix, cursor)
	if err != nil {
		return nil, "", err
	}
	list, next := []Revocation{}, ""
	var last scoped
	err = s.kv.View(ctx, func(r store.Reader) error {
		return s.store.scanRevocations(r, prefix, from, func(v dead) bool {
			if len(list) == limit {
				next = hex.EncodeToString(revokedKey(last)[len(revokedPrefix):])
				return false
			}
			last = v.scoped
			list = append(list, v.shown())
			return true
		})
	})
	if err != nil {
		return nil, "", s.storeError(err)
	}
	return list, next, nil
}

// shown is a revocation as it is told.
func (v *dead) shown() Revocation {
	out := Revocation{KID: v.kid, RevokedMS: v.ms, By: v.by}
	if v.kid == "" {
		out.ID = v.id.String()
	}
	if !v.tenant.IsZero() {
		out.Tenant = v.tenant.String()
	}
	return out
}

// revokedCursor returns the key that a cursor names, which lies below prefix;
// nil for an empty cursor.
func revokedCursor(prefix []byte, cursor string) ([]byte, error) {
	if cursor == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(cursor)
	key := append([]byte(revokedPrefix), b...)
	if err != nil || len(b) < 32 || len(b) > 32+64 || !bytes.HasPrefix(key, prefix) {
		return nil, badCursor()
	}
	return key, nil
}
