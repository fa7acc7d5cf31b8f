// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// page is how much of the stores is looked at in one step of building an index.
const page = 512

// survey finds the tenants whose index is missing, not complete, or too old to be
// brought up to date.
func (f *Facet) survey(ctx context.Context) error {
	var tenants []macronode.TenantID
	see := func(t macronode.TenantID) bool { tenants = append(tenants, t); return true }
	if err := f.c.Objects.Tenants(ctx, see); err != nil {
		return err
	}
	if err := f.c.Names.Tenants(ctx, see); err != nil {
		return err
	}
	for _, t := range tenants {
		rec, err := f.record(ctx, t)
		if err != nil {
			return err
		}
		if rec.generation == 0 || !rec.complete || rec.base < f.since.Load() || !f.c.Shelf.Exists(t, rec.generation) {
			f.enqueue(t)
		}
	}
	return nil
}

// scan goes one step on in building the tenant's index: first what names point at, then
// the other objects. What changes meanwhile comes by the journal.
func (f *Facet) scan(ctx context.Context, t macronode.TenantID) error {
	return f.use(ctx, t, func(h *holding, x *shelf.Index) error {
		m := x.Meta()
		var err error
		switch m.Phase {
		case shelf.ScanNames:
			err = f.scanNames(ctx, t, x)
		case shelf.ScanObjects:
			err = f.scanObjects(ctx, t, x)
		}
		if err != nil || x.Meta().Phase != shelf.Complete {
			return err
		}
		return f.complete(ctx, h, x)
	})
}

func (f *Facet) scanNames(ctx context.Context, t macronode.TenantID, x *shelf.Index) error {
	m := x.Meta()
	list, err := f.c.Names.Page(ctx, t, m.After, page)
	if err != nil {
		return err
	}
	w := newWork()
	targets := make(map[string]b3.Addr, len(list))
	for _, n := range list {
		targets[n.Name] = n.Addr
	}
	if err := w.point(x, targets); err != nil {
		return err
	}
	done := m
	if len(list) < page {
		done.Phase, done.After = shelf.ScanObjects, ""
	} else {
		done.After = list[len(list)-1].Name
	}
	return f.write(ctx, x, w, m, done)
}

func (f *Facet) scanObjects(ctx context.Context, t macronode.TenantID, x *shelf.Index) error {
	m := x.Meta()
	var after *b3.Addr
	if m.After != "" {
		a, err := b3.Parse(m.After)
		if err != nil {
			return shelf.ErrDamaged
		}
		after = &a
	}
	list, err := f.c.Objects.Page(ctx, t, after, page)
	if err != nil {
		return err
	}
	w := newWork()
	for _, o := range list {
		w.touch(o.Addr)
	}
	done := m
	if len(list) < page {
		done.Phase, done.After = shelf.Complete, ""
	} else {
		done.After = list[len(list)-1].Addr.String()
	}
	return f.write(ctx, x, w, m, done)
}

// complete records that the index is, and removes what was there before it.
func (f *Facet) complete(ctx context.Context, h *holding, x *shelf.Index) error {
	m := x.Meta()
	rec := h.rec
	rec.complete, rec.through = true, max(rec.through, m.Through)
	if err := f.setRecord(ctx, h.tenant, rec); err != nil {
		return err
	}
	if err := f.c.Shelf.Sweep(h.tenant, m.Generation); err != nil {
		return err
	}
	f.built(h.tenant)
	h.publish(View{m.Generation, m.Through, true})
	f.log.Info("a search index is complete", "event", "search_complete", "tenant", h.tenant.String(), "generation", m.Generation)
	return nil
}
