// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// service is who the facet's routes belong to.
const service = "omnigate"

// argument names of a query.
const (
	argQuery, argType, argMinSize, argMaxSize = "q", "type", "min_size", "max_size"
	argSince, argUntil, argSort               = "since", "until", "sort"
	argLimit, argCursor                       = "limit", "cursor"
	argHighlight, argFacets                   = "highlight", "facets"
	argAfter, argWait                         = "after", "wait_ms"
)

// Routes are the facet's routes.
func (f *Facet) Routes() []macronode.Route {
	orders := make([]string, 0, len(shelf.Orders()))
	for _, o := range shelf.Orders() {
		orders = append(orders, string(o))
	}
	query := macronode.Binding{
		Op: "search.query", Service: service, Method: "GET", Pattern: "/v1/search", OAP: macronode.AppIndex,
		Action: "search:query", Resource: macronode.FacetResource,
		Class: macronode.Facet, Cost: 8, MaxBody: macronode.BodyNone,
		Doc: macronode.Doc{
			Summary: "Find the tenant's objects by their text, names and metadata",
			Query: []macronode.Param{
				{Name: argQuery, Type: "string", Text: `words, "phrases", prefix*, fuzzy~, -without, OR, parentheses, and fields: text:, title:, name:, type:, size:>1MiB, created:2026-11; empty finds everything`},
				{Name: argType, Type: "string", Text: "media types, such as text/*,image/png: one of them"},
				{Name: argMinSize, Type: "string", Text: "smallest size, such as 4096 or 4KiB"},
				{Name: argMaxSize, Type: "string", Text: "greatest size"},
				{Name: argSince, Type: "string", Text: "stored at or after: 2026-11-24, 2026-11-24T10:00:00Z, or unix milliseconds"},
				{Name: argUntil, Type: "string", Text: "stored before"},
				{Name: argSort, Type: "string", Text: strings.Join(orders, ", ") + "; default score, the best first"},
				{Name: argLimit, Type: "integer", Text: "1 to 100, default 10"},
				{Name: argCursor, Type: "string", Text: "the last page's cursor"},
				{Name: argHighlight, Type: "boolean", Text: "true: show where the words are"},
				{Name: argFacets, Type: "string", Text: "counts of all hits by type, size, created: a list of these"},
				{Name: argAfter, Type: "string", Text: "wait until this change of the tenant's is searched (indexed_through or head of an earlier answer), or now: all that were acknowledged before this call"},
				{Name: argWait, Type: "integer", Text: "how long to wait for it, in milliseconds: 0 to 8000, default 5000"},
			},
			Response: Results{},
			Kinds:    []macronode.Kind{macronode.Invalid, macronode.DeadlineExceeded, macronode.FacetDown},
		},
	}
	status := macronode.Binding{
		Op: "search.status", Service: service, Method: "GET", Pattern: "/v1/search/status", OAP: macronode.AppIndex,
		Action: "search:query", Resource: macronode.FacetResource,
		Class: macronode.Facet, Cost: 1, MaxBody: macronode.BodyNone,
		Doc: macronode.Doc{
			Summary: "How far the tenant's search index has come", Response: Status{},
			Kinds: []macronode.Kind{macronode.FacetDown},
		},
	}
	return []macronode.Route{{Binding: query, Handler: f.query}, {Binding: status, Handler: f.status}}
}
