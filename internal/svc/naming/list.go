// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"context"
	"errors"
	"io"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/name"
)

// nameBytes is where the name begins in a key.
const nameBytes = len(keyPrefix) + len(macronode.TenantID{}) + 1

// span is the names of a tenant that begin with a prefix and come after one.
func (s *Service) span(a *macronode.Admitted, afterName string) (lo, hi []byte, err error) {
	prefix, err := name.Prefix(a.Arg("prefix"))
	if err != nil {
		return nil, nil, s.refused(err)
	}
	lo = nameKey(a.Tenant.ID, keyName, prefix)
	hi = after(lo)
	if afterName != "" {
		if next := append(nameKey(a.Tenant.ID, keyName, afterName), 0); string(next) > string(lo) {
			lo = next
		}
	}
	if string(lo) > string(hi) {
		lo = hi
	}
	return lo, hi, nil
}

func (s *Service) list(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("prefix", "cursor", "limit"); err != nil {
		return nil, err
	}
	limit, err := a.NumberArg("limit", defaultPage, 1, maxPage)
	if err != nil {
		return nil, err
	}
	last, err := parseCursor(a.Arg("cursor"))
	if err != nil {
		return nil, err
	}
	lo, hi, err := s.span(a, last)
	if err != nil {
		return nil, err
	}
	p := page{limit: int(limit), open: `{"names":[`}
	var u totals
	err = s.kv.View(ctx, func(r store.Reader) (err error) {
		p.begin()
		if u, err = getTotals(r, a.Tenant.ID); err != nil {
			return err
		}
		return p.scan(r, lo, hi, func(k []byte) (string, string) {
			n := string(k[nameBytes:])
			return n, cursorOf(n)
		})
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	return answer(a, 200, p.end(`,"watch":"`+watchCursor(u.seq)+`"`))
}

func (s *Service) status(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	var u totals
	err := s.kv.View(ctx, func(r store.Reader) (err error) {
		u, err = getTotals(r, a.Tenant.ID)
		return err
	})
	if err != nil {
		return nil, s.storeError(err)
	}
	l := s.limits.Load()
	return jsonReply(a, 200, Status{u.names, l.MaxNames, u.versions, l.MaxHistory, u.deleted, watchCursor(u.seq)})
}

// exportBatch is how many names an export reads at one moment.
const exportBatch = 500

func (s *Service) export(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("prefix"); err != nil {
		return nil, err
	}
	lo, hi, err := s.span(a, "")
	if err != nil {
		return nil, err
	}
	return &macronode.Reply{Status: 200, ContentType: typeNDJSON, Length: -1, Header: macronode.Header{"Cache-Control": {"no-store"}},
		Stream: &exporting{s: s, ctx: ctx, lo: lo, hi: hi}}, nil
}

// exporting writes names, a document a line, in batches of one moment each: what
// changes meanwhile is there as it was or as it is.
type exporting struct {
	s      *Service
	ctx    context.Context // of the call
	lo, hi []byte
}

// WriteTo implements macronode.Stream.
func (e *exporting) WriteTo(w io.Writer) (total int64, err error) {
	var b []byte
	for n := exportBatch; n == exportBatch; {
		lo := e.lo
		err := e.s.kv.View(e.ctx, func(r store.Reader) error {
			var bad error
			b, n = b[:0], 0
			err := r.Scan(lo, e.hi, func(k, v []byte) bool {
				rec, err := decodeRecord(v)
				if err != nil {
					bad = err
					return false
				}
				b = append(appendDocument(b, string(k[nameBytes:]), &rec), '\n')
				e.lo = append(append(e.lo[:0:0], k...), 0)
				n++
				return n < exportBatch
			})
			return errors.Join(err, bad)
		})
		if err != nil {
			return total, e.s.storeError(err)
		}
		m, err := w.Write(b)
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Close implements macronode.Stream.
func (e *exporting) Close() error { return nil }
