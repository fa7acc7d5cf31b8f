// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

// Limits of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (s *Service) list(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	q, err := parseListing(a)
	if err != nil {
		return nil, err
	}
	page := List{Objects: []Entry{}}
	err = s.kv.View(ctx, func(r store.Reader) error {
		page = List{Objects: []Entry{}}
		var bad error
		err := r.Scan(q.lo, q.hi, func(key, value []byte) bool {
			if len(page.Objects) == q.limit {
				page.Cursor = page.Objects[q.limit-1].Addr
				return false
			}
			var o refs.Owner
			if o, bad = refs.ParseOwner(key[len(refs.RefPrefix):]); bad != nil {
				return false
			}
			var ref refs.Reference
			if ref, bad = refs.Decode(value); bad != nil {
				return false
			}
			page.Objects = append(page.Objects, Entry{o.Addr.String(), ref.Size, ref.ContentType, ref.Created})
			return true
		})
		if bad != nil {
			return bad
		}
		return err
	})
	if err != nil {
		return nil, s.metaError(err)
	}
	b, err := json.Marshal(page)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: 200, ContentType: "application/json", Body: b}, nil
}

// listing is a page asked for: keys in [lo, hi), at most limit of them.
type listing struct {
	lo, hi []byte
	limit  int
}

func parseListing(a *macronode.Admitted) (q listing, err error) {
	if err := a.OnlyArgs("prefix", "cursor", "limit"); err != nil {
		return q, err
	}
	q.limit = defaultPage
	if v := a.Arg("limit"); v != "" {
		q.limit, err = strconv.Atoi(v)
		if err != nil || q.limit < 1 || q.limit > maxPage {
			return q, macronode.Errorf(macronode.Malformed, "limit is 1 to %d", maxPage)
		}
	}
	base := refs.TenantKeys(a.Tenant.ID)
	if q.lo, q.hi, err = refs.PrefixRange(base, a.Arg("prefix")); err != nil {
		return q, err
	}
	if v := a.Arg("cursor"); v != "" {
		last, err := b3.Parse(v)
		if err != nil {
			return q, macronode.Errorf(macronode.Malformed, "the cursor is not one that a list gave")
		}
		next := append(append(append([]byte(nil), base...), last[:]...), 0)
		if string(next) > string(q.lo) {
			q.lo = next
		}
	}
	if q.hi != nil && string(q.lo) > string(q.hi) {
		q.lo = q.hi
	}
	return q, nil
}
