// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/revocation"
)

// maxListBody bounds a signed page of revocations: a thousand of them, in base64.
const maxListBody = 512 << 10

// Imported is the answer to an import.
type Imported struct {
	Revocations int `json:"revocations"` // in the page
	New         int `json:"new"`         // of them, unknown until now
}

// exportRevocations answers a page of the list, signed with the node's key.
func (s *Service) exportRevocations(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "revocations take a capability")
	}
	limit, err := pageLimit(a)
	if err != nil {
		return nil, err
	}
	if s.signer == nil {
		return nil, macronode.Errorf(macronode.Unavailable, "the node's key is not to be had")
	}
	own := scope(a)
	page := revocation.Page{IssuedMS: s.now().UnixMilli(), After: a.Arg("cursor")}
	if !own.IsZero() {
		page.Scope = own.String()
	}
	list, next, err := s.RevocationPage(ctx, own, page.After, limit)
	if err != nil {
		return nil, err
	}
	page.Cursor = next
	for _, r := range list {
		page.Entries = append(page.Entries, revocation.Entry(r))
	}
	key, err := s.signer()
	if err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the node's key cannot be used now", err)
	}
	envelope, err := revocation.Sign(&page, key)
	if err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the list cannot be signed now", err)
	}
	text, err := envelope.Encode()
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: 200, ContentType: "application/vnd.dsse.envelope.v1+json", Body: text}, nil
}

// importRevocations adopts a page that this node signed earlier: what a restore
// from a snapshot had lost.
func (s *Service) importRevocations(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if a.Tenant.ID != macronode.SystemTenant || a.Principal.Kind != macronode.Capability {
		return nil, macronode.Errorf(macronode.Denied, "importing revocations takes an operator's capability")
	}
	page, err := revocation.Parse(body, s.nodeID)
	if errors.Is(err, revocation.ErrNotVerified) {
		return nil, macronode.Errorf(macronode.Invalid, "%s", err.Error())
	}
	if err != nil {
		return nil, err
	}
	made, err := s.Adopt(ctx, page, a.Actor())
	if err != nil {
		return nil, err
	}
	s.told(made)
	reply, err := jsonReply(200, Imported{len(page.Entries), len(made)})
	if err == nil && claim != nil {
		err = s.storeError(s.kv.Update(ctx, func(tx store.Tx) error { return claim.Keep(tx, reply) }))
	}
	return reply, err
}

// Adopt adds the revocations of a verified page that are not there, durable and
// in effect when it returns, and returns those. None is ever taken away: a
// revocation stands whatever list it is missing from. Those of a tenant that was
// deleted here mean nothing any more.
func (s *Service) Adopt(ctx context.Context, page *revocation.Page, by string) (made []revocation.Entry, err error) {
	event := macronode.AuditEvent{Stream: "node", Kind: "cap.import", Actor: by, Subject: "node/revocations",
		Attrs: map[string]any{"entries": int64(len(page.Entries)), "issued_ms": page.IssuedMS}}
	if err := s.record(ctx, event); err != nil {
		return nil, err
	}
	var hold []dead
	err = s.kv.Reclaim(ctx, func(tx store.Tx) error {
		hold, made = hold[:0], made[:0]
		for _, e := range page.Entries {
			v, err := entryOf(e)
			if err != nil {
				return err
			}
			if gone, err := isGone(tx, v.tenant); err != nil {
				return err
			} else if gone {
				continue
			}
			_, err = tx.Get(revokedKey(v.scoped))
			if errors.Is(err, store.ErrNotFound) {
				made = append(made, e)
			} else if err != nil {
				return err
			}
			if v, err = addRevocation(tx, v); err != nil {
				return err
			}
			hold = append(hold, v)
		}
		return nil
	})
	if err != nil {
		err = s.storeError(err)
		s.failed(event, err)
		return nil, err
	}
	for _, v := range hold {
		s.revoked.add(v)
	}
	s.gauges()
	return made, nil
}

// entryOf reads an entry, whose form was checked.
func entryOf(e revocation.Entry) (v dead, err error) {
	v = dead{scoped: scoped{kid: e.KID}, ms: e.RevokedMS, by: e.By}
	if e.Tenant != "" {
		if v.tenant, err = macronode.ParseTenantID(e.Tenant); err != nil {
			return v, err
		}
	}
	if e.KID == "" {
		b, err := hex.DecodeString(e.ID)
		if err != nil {
			return v, err
		}
		v.id = macronode.CapID(b)
	}
	return v, nil
}
