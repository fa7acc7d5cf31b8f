// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package graph uses a node's graph: typed edges between names, objects and ids of
// the tenant.
//
//	g := graph.New(c)
//	_, err := g.Put(ctx, graph.Edge{From: "name/alice", Type: "follow", To: "name/bob"})
//	page, next, err := g.Neighbours(ctx, graph.Query{ID: "name/bob", In: true})
//
// A vertex is text: name/NAME, object/b3:HEX or id/TEXT. What is refused for form is
// a *client.Error with code "malformed"; a node whose graph is off, held off or busy
// answers "facet_down", which is retried as the client's options say.
package graph

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client"
)

// Follow is the type of the edges that feeds go along: from who follows to who is
// followed.
const Follow = "follow"

// maxImport is how many edges one call may put.
const maxImport = 1000

// Edge is one. There is one at most of each From, Type and To.
type Edge struct {
	From  string `json:"from"`
	Type  string `json:"type"` // 1 to 64 of a-z, 0-9, ".", "_", "-"
	To    string `json:"to"`
	Value string `json:"value,omitempty"` // at most 512 bytes
	// CreatedMS is when it was first put, in Unix milliseconds; the node says it.
	CreatedMS int64 `json:"created_ms,omitempty"`
}

// Neighbour is the other end of an edge.
type Neighbour struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Value     string `json:"value,omitempty"`
	CreatedMS int64  `json:"created_ms"`
}

// Query says whose neighbours are wanted.
type Query struct {
	ID     string
	In     bool   // edges that end at it, not such that begin there
	Type   string // "": all
	Cursor string // of the page before
	Limit  int    // 1 to 1000; 0: the node's default
}

// Want says what to show around a vertex. Zero numbers are the node's defaults.
type Want struct {
	ID        string
	Direction string   // out, in or both; "": out
	Types     []string // at most 16; none: all
	Depth     int      // 1 to 3
	MaxEdges  int      // to visit
	MaxTime   time.Duration
	MaxBytes  int // of the answer
}

// Reached is a vertex and how far it is.
type Reached struct {
	ID    string `json:"id"`
	Depth int    `json:"depth"`
}

// Expansion is what lies around a vertex, near ones first.
type Expansion struct {
	Vertices []Reached `json:"vertices"`
	Edges    []Edge    `json:"edges"` // without value and time
	Visited  int       `json:"visited"`
	// Ended says what was spent: edges, time or bytes. "": this is all there is.
	Ended string `json:"ended"`
}

// Status is what the tenant keeps.
type Status struct {
	Edges    int64 `json:"edges"`
	Bytes    int64 `json:"bytes"`
	MaxEdges int64 `json:"max_edges"`
}

// Graph is a tenant's. It is safe for concurrent use.
type Graph struct{ c *client.Client }

// New returns the graph of c's tenant. Nothing is asked of the node yet.
func New(c *client.Client) *Graph { return &Graph{c} }

func (e *Edge) query() string {
	return url.Values{"from": {e.From}, "type": {e.Type}, "to": {e.To}}.Encode()
}

// Put puts an edge and reports whether it is new; one that was there has the new
// value. It is durable when Put returns.
func (g *Graph) Put(ctx context.Context, e Edge) (created bool, err error) {
	e.CreatedMS = 0
	var out struct {
		Created bool `json:"created"`
	}
	err = g.c.JSON(ctx, "PUT", "/v1/graph/edge", "", e, &out)
	return out.Created, err
}

// Import puts edges, as many as there are, and reports how many are new. After an
// error those before may be there; putting all again does no harm.
func (g *Graph) Import(ctx context.Context, edges []Edge) (created int, err error) {
	for page := range slices.Chunk(edges, maxImport) {
		page = slices.Clone(page)
		for i := range page {
			page[i].CreatedMS = 0
		}
		var out struct {
			Created int `json:"created"`
		}
		key, err := client.NewKey()
		if err != nil {
			return created, err
		}
		if err := g.c.JSON(ctx, "POST", "/v1/graph/edges", key, map[string]any{"edges": page}, &out); err != nil {
			return created, err
		}
		created += out.Created
	}
	return created, nil
}

// Get reads an edge: "not_found" where there is none.
func (g *Graph) Get(ctx context.Context, from, typ, to string) (e Edge, err error) {
	e = Edge{From: from, Type: typ, To: to}
	err = g.c.JSON(ctx, "GET", "/v1/graph/edge?"+e.query(), "", nil, &e)
	return e, err
}

// Delete deletes an edge: "not_found" where there is none.
func (g *Graph) Delete(ctx context.Context, from, typ, to string) error {
	e := Edge{From: from, Type: typ, To: to}
	return g.c.JSON(ctx, "DELETE", "/v1/graph/edge?"+e.query(), "", nil, nil)
}

// Neighbours is a page of them, by type. An empty next says that it is the last.
func (g *Graph) Neighbours(ctx context.Context, q Query) (page []Neighbour, next string, err error) {
	v := url.Values{"id": {q.ID}}
	if q.In {
		v.Set("direction", "in")
	}
	set(v, "type", q.Type)
	set(v, "cursor", q.Cursor)
	number(v, "limit", q.Limit)
	var out struct {
		Neighbours []Neighbour `json:"neighbours"`
		Cursor     string      `json:"cursor"`
	}
	err = g.c.JSON(ctx, "GET", "/v1/graph/neighbours?"+v.Encode(), "", nil, &out)
	return out.Neighbours, out.Cursor, err
}

// Expand shows what lies around a vertex, as far as the budget goes.
func (g *Graph) Expand(ctx context.Context, w Want) (x Expansion, err error) {
	v := url.Values{"id": {w.ID}}
	set(v, "direction", w.Direction)
	set(v, "types", strings.Join(w.Types, ","))
	number(v, "depth", w.Depth)
	number(v, "max_edges", w.MaxEdges)
	number(v, "max_ms", int(w.MaxTime.Milliseconds()))
	number(v, "max_bytes", w.MaxBytes)
	err = g.c.JSON(ctx, "GET", "/v1/graph/expand?"+v.Encode(), "", nil, &x)
	return x, err
}

// Status is what the tenant keeps, and may keep.
func (g *Graph) Status(ctx context.Context) (s Status, err error) {
	err = g.c.JSON(ctx, "GET", "/v1/graph", "", nil, &s)
	return s, err
}

func set(v url.Values, name, text string) {
	if text != "" {
		v.Set(name, text)
	}
}

func number(v url.Values, name string, n int) {
	if n != 0 {
		v.Set(name, strconv.Itoa(n))
	}
}
