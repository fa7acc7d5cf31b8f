// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

// State is how far a tenant's index has come. Numbers count the tenant's own changes.
type State struct {
	// Generation grows by one each time the index is begun anew.
	Generation uint64 `json:"generation"`
	// IndexedThrough is the last change that is in the index, Head the last that
	// was made; a query with after=IndexedThrough never sees less than this one.
	IndexedThrough uint64 `json:"indexed_through"`
	Head           uint64 `json:"head"`
	// LagMS is how long the oldest change that is not in the index has waited.
	LagMS int64 `json:"lag_ms"`
	// Complete is false while the index is being built: what it has is right, and
	// it has not everything.
	Complete bool `json:"complete"`
}

// Results is the answer to a query.
type Results struct {
	State
	Total  uint64             `json:"total"` // hits on all pages
	Hits   []Found            `json:"hits"`
	Facets map[string][]Count `json:"facets,omitempty"`
	Cursor string             `json:"cursor"` // "": the last page
	TookMS int64              `json:"took_ms"`
}

// Found is one hit.
type Found struct {
	Addr string `json:"addr"`
	// Stored is false where names point at an object that the tenant does not have.
	Stored      bool     `json:"stored"`
	Names       []string `json:"names"`
	Title       string   `json:"title,omitempty"`
	ContentType string   `json:"content_type"`
	Size        int64    `json:"size"`
	CreatedMS   int64    `json:"created_ms"`
	Score       float64  `json:"score"`
	// Partial: the object goes on beyond the text that is searched.
	Partial    bool        `json:"partial,omitempty"`
	Highlights []Highlight `json:"highlights,omitempty"`
}

// Highlight is a piece of a field. The second, fourth, … of its parts are what was
// searched for.
type Highlight struct {
	Field string   `json:"field"`
	Parts []string `json:"parts"`
}

// Count is how many hits have a value, or lie in a range of values.
type Count struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Status is the state of the tenant's index without a query.
type Status struct {
	State
	Documents uint64 `json:"documents"`
}
