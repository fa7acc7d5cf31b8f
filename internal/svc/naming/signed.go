// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	names "github.com/rustyonions/macronode/name/document"
)

const (
	// documentPage and documentBytes bound the names of one signed page: how many, and
	// about how much of their meta.
	documentPage  = 500
	documentBytes = 512 << 10
)

// signed answers a page of the tenant's names, signed with the node's key.
func (s *Service) signed(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("cursor"); err != nil {
		return nil, err
	}
	last, err := parseCursor(a.Arg("cursor"))
	if err != nil {
		return nil, err
	}
	if s.signer == nil {
		return nil, macronode.Errorf(macronode.Unavailable, "the node's key is not to be had")
	}
	p := names.Page{IssuedMS: s.now().UnixMilli(), Tenant: a.Tenant.ID.String(), After: a.Arg("cursor")}
	if err := s.fillPage(ctx, a.Tenant.ID, last, &p); err != nil {
		return nil, s.storeError(err)
	}
	signer, err := s.signer()
	if err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the node's key cannot be used now", err)
	}
	envelope, err := names.Sign(&p, signer)
	if err != nil {
		return nil, macronode.Wrap(macronode.Unavailable, "the names cannot be signed now", err)
	}
	text, err := envelope.Encode()
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	reply, err := answer(a, 200, text)
	if err == nil {
		reply.ContentType = typeEnvelope
	}
	return reply, err
}

// fillPage reads the names of one page, and the revision that they are of, at one
// moment.
func (s *Service) fillPage(ctx context.Context, t macronode.TenantID, last string, p *names.Page) error {
	lo := key(t, keyName)
	hi := after(lo)
	if last != "" {
		lo = append(nameKey(t, keyName, last), 0)
	}
	return s.kv.View(ctx, func(r store.Reader) error {
		p.Names, p.Cursor = p.Names[:0], ""
		u, err := getTotals(r, t)
		if err != nil {
			return err
		}
		p.Revision = u.seq
		size := 0
		var bad error
		err = r.Scan(lo, hi, func(k, v []byte) bool {
			if n := len(p.Names); n == documentPage || size >= documentBytes {
				p.Cursor = cursorOf(p.Names[n-1].Name)
				return false
			}
			size += len(k) + len(v)
			rec, err := decodeRecord(v)
			if err != nil {
				bad = err
				return false
			}
			e := names.Entry{Name: string(k[nameBytes:]), Addr: rec.addr, Version: rec.version, TTL: rec.ttl, CreatedMS: rec.created, UpdatedMS: rec.updated}
			if len(rec.meta) > 0 {
				if err := json.Unmarshal(rec.meta, &e.Meta); err != nil {
					bad = fmt.Errorf("%w: the meta of a name", store.ErrCorrupt)
				}
			}
			p.Names = append(p.Names, e)
			return bad == nil
		})
		return errors.Join(err, bad)
	})
}
