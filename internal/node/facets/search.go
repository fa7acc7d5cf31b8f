// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package facets

import (
	"context"
	"errors"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
	"github.com/rustyonions/macronode/internal/svc/storage/neighbour"
)

// newSearch makes the search facet.
func newSearch(d Deps) (*search.Facet, error) {
	f, err := search.New(search.Config{KV: d.KV, Journal: d.Journal, Shelf: shelf.New(d.Dir.FS, d.Dir.At(datadir.SearchDir)),
		Objects: searchObjects{d.Storage.Look()}, Names: searchNames{d.Naming}, Metrics: search.NewMetrics(d.Metrics), Log: d.Log})
	if err != nil {
		return nil, err
	}
	f.Watch(d.Metrics)
	return f, nil
}

// quiet ends the recording of changes where the facet that follows them is off: it
// builds its indexes anew when it comes back.
func (s *Set) quiet(c *config.Config) error {
	if slices.Contains(c.Facets.Enable, search.Name) {
		return nil
	}
	return search.Leave(context.Background(), s.journal)
}

// Purge removes what facets keep of a tenant that is being deleted.
func (s *Set) Purge(ctx context.Context, t macronode.TenantID) error {
	return errors.Join(s.graph.Purge(ctx, t), s.feed.Purge(ctx, t), s.search.Purge(ctx, t))
}

// searchObjects is storage as search wants it.
type searchObjects struct{ *neighbour.View }

func found(f neighbour.Found) search.Object {
	return search.Object{Addr: f.Addr, Size: f.Size, ContentType: f.ContentType, CreatedMS: f.CreatedMS}
}

// Lookup implements search.Objects.
func (o searchObjects) Lookup(ctx context.Context, t macronode.TenantID, addr b3.Addr) (search.Object, error) {
	f, err := o.View.Lookup(ctx, t, addr)
	return found(f), err
}

// Page implements search.Objects.
func (o searchObjects) Page(ctx context.Context, t macronode.TenantID, after *b3.Addr, limit int) ([]search.Object, error) {
	page, err := o.View.Page(ctx, t, after, limit)
	list := make([]search.Object, len(page))
	for i, f := range page {
		list[i] = found(f)
	}
	return list, err
}

// searchNames is naming as search wants it.
type searchNames struct{ *naming.Service }

// Page implements search.Names.
func (n searchNames) Page(ctx context.Context, t macronode.TenantID, after string, limit int) ([]search.Named, error) {
	page, err := n.Service.Names(ctx, t, after, limit)
	list := make([]search.Named, len(page))
	for i, e := range page {
		list[i] = search.Named{Name: e.Name, Addr: e.Addr}
	}
	return list, err
}
