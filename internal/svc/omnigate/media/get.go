// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"context"
	"maps"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/sniff"
)

func (f *Facet) get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return f.serve(ctx, a, f.cfg.Objects.Get)
}

func (f *Facet) stat(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return f.serve(ctx, a, f.cfg.Objects.Stat)
}

// serve answers with the object's bytes under the type that they have.
func (f *Facet) serve(ctx context.Context, a *macronode.Admitted, from macronode.Handler) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	reply, err := from(ctx, plainly(a))
	if err != nil {
		return nil, err
	}
	delete(reply.Header, "Vary") // there is one representation
	if reply.Status == 304 {
		return reply, nil
	}
	t, err := f.typeOf(ctx, spot{a.Tenant.ID, addr})
	if err != nil {
		if reply.Stream != nil {
			_ = reply.Stream.Close() // it is not sent
		}
		return nil, err
	}
	v := sniff.Reconcile(reply.ContentType, t)
	reply.ContentType = v.Type
	delete(reply.Header, "Content-Disposition")
	if !v.Inline {
		reply.Header.Set("Content-Disposition", "attachment")
	}
	f.cfg.Metrics.served(v)
	return reply, nil
}

// typeOf is the object's type by its bytes. That the tenant has it was seen before.
func (f *Facet) typeOf(ctx context.Context, at spot) (string, error) {
	if t, ok := f.types.Get(at); ok {
		return t, nil
	}
	o, err := f.cfg.Objects.Open(ctx, at.tenant, at.addr)
	if err != nil {
		return "", err
	}
	defer o.Close()
	return f.sniffed(at, o)
}

// plainly is the call for bytes as they are: no slices, and not several ranges, whose
// parts would bear the declared type.
func plainly(a *macronode.Admitted) *macronode.Admitted {
	ranges := a.Header["Range"]
	several := len(ranges) == 1 && strings.Contains(ranges[0], ",")
	if !several && a.Header["Accept"] == nil {
		return a
	}
	call, b := *a.Call, *a
	call.Header = maps.Clone(a.Header)
	delete(call.Header, "Accept")
	if several {
		delete(call.Header, "Range")
	}
	b.Call = &call
	return &b
}
