// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package search finds a tenant's objects by their text, names and metadata.
package search

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Now, as Options.After, waits for every change that was acknowledged before the query.
const Now = "now"

// Options of a query. The zero value asks for the ten best hits.
type Options struct {
	Types            []string // media types, such as text/*: one of them
	MinSize, MaxSize string   // such as 4096 or 4KiB
	Since, Until     string   // such as 2026-11-24, or a time of RFC 3339
	// Sort is score (the default), created, size or name, or one of the latter with
	// a minus before it for the reverse.
	Sort      string
	Limit     int    // of a page: 1 to 100
	Cursor    string // the last page's
	Highlight bool
	Facets    []string // of type, size, created
	// After is a change that the answer has to hold: Now, or a number of an earlier
	// answer. Wait is how long that may take, at most 8 s; 0: the node's default.
	After string
	Wait  time.Duration
}

// State is how far the index has come, in the tenant's own count of changes.
type State struct {
	Generation     uint64 `json:"generation"` // grows when the index is begun anew
	IndexedThrough uint64 `json:"indexed_through"`
	Head           uint64 `json:"head"`
	LagMS          int64  `json:"lag_ms"`
	// Complete is false while the index is being built: it has not everything.
	Complete bool `json:"complete"`
}

// Results is a page of hits.
type Results struct {
	State
	Total  uint64             `json:"total"` // on all pages
	Hits   []Hit              `json:"hits"`
	Facets map[string][]Count `json:"facets,omitempty"`
	Cursor string             `json:"cursor"` // "": this was the last page
	TookMS int64              `json:"took_ms"`
}

// Hit is one object, or with Stored false what only names point at.
type Hit struct {
	Addr        b3.Addr     `json:"addr"`
	Stored      bool        `json:"stored"`
	Names       []string    `json:"names"`
	Title       string      `json:"title,omitempty"`
	ContentType string      `json:"content_type"`
	Size        int64       `json:"size"`
	CreatedMS   int64       `json:"created_ms"` // Unix milliseconds
	Score       float64     `json:"score"`
	Partial     bool        `json:"partial,omitempty"` // only its first MiB is searched
	Highlights  []Highlight `json:"highlights,omitempty"`
}

// Highlight is a piece of a field. The second, fourth, … of its parts are what was
// searched for.
type Highlight struct {
	Field string   `json:"field"`
	Parts []string `json:"parts"`
}

// Count is how many hits have a value, or lie in a range.
type Count struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Status is the state of the index, and how many documents it has.
type Status struct {
	State
	Documents uint64 `json:"documents"`
}

// Query asks for one page. A query that is not one is refused with 422, one that takes
// too long, or waits too long for After, with 504; 503 says that search is off or down.
func Query(ctx context.Context, c *client.Client, query string, o Options) (r Results, err error) {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("q", query)
	set("type", strings.Join(o.Types, ","))
	set("min_size", o.MinSize)
	set("max_size", o.MaxSize)
	set("since", o.Since)
	set("until", o.Until)
	set("sort", o.Sort)
	set("cursor", o.Cursor)
	set("facets", strings.Join(o.Facets, ","))
	set("after", o.After)
	if o.Limit > 0 {
		v.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Highlight {
		v.Set("highlight", "true")
	}
	if o.Wait > 0 {
		v.Set("wait_ms", strconv.FormatInt(o.Wait.Milliseconds(), 10))
	}
	return r, c.JSON(ctx, "GET", "/v1/search?"+v.Encode(), "", nil, &r)
}

// All are the hits of all pages; the first error ends them. While the index changes a hit
// may be missed or come twice.
func All(ctx context.Context, c *client.Client, query string, o Options) iter.Seq2[Hit, error] {
	return func(yield func(Hit, error) bool) {
		for {
			r, err := Query(ctx, c, query, o)
			if err != nil {
				yield(Hit{}, err)
				return
			}
			for _, h := range r.Hits {
				if !yield(h, nil) {
					return
				}
			}
			if r.Cursor == "" || r.Cursor == o.Cursor {
				return
			}
			o.Cursor, o.After = r.Cursor, ""
		}
	}
}

// GetStatus says how far the index has come.
func GetStatus(ctx context.Context, c *client.Client) (s Status, err error) {
	return s, c.JSON(ctx, "GET", "/v1/search/status", "", nil, &s)
}
