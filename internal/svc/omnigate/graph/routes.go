// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/form"
)

// The actions.
const (
	actRead  macronode.Action = "graph:read"
	actWrite macronode.Action = "graph:write"
)

// The documents. A vertex is name/NAME, object/b3:HEX or id/TEXT.
type (
	// PutRequest is an edge to put.
	PutRequest struct {
		From  string `json:"from"`
		Type  string `json:"type"` // 1 to 64 of a-z, 0-9, ".", "_", "-"
		To    string `json:"to"`
		Value string `json:"value,omitempty"` // at most 512 bytes
	}

	// EdgeDoc is an edge.
	EdgeDoc struct {
		From      string `json:"from"`
		Type      string `json:"type"`
		To        string `json:"to"`
		Value     string `json:"value,omitempty"`
		CreatedMS int64  `json:"created_ms"` // of the first put
	}

	// Put is the answer to a put.
	Put struct {
		Created bool `json:"created"` // false: it was there
	}

	// ImportRequest is edges to put.
	ImportRequest struct {
		Edges []PutRequest `json:"edges"` // 1 to 1000
	}

	// Imported is the answer to a bulk put.
	Imported struct {
		Put     int `json:"put"`
		Created int `json:"created"` // of them were not there
	}

	// Neighbour is the other end of an edge.
	Neighbour struct {
		ID        string `json:"id"`
		Type      string `json:"type"`
		Value     string `json:"value,omitempty"`
		CreatedMS int64  `json:"created_ms"`
	}

	// Neighbours is a page of them. An empty cursor says that it is the last.
	Neighbours struct {
		Neighbours []Neighbour `json:"neighbours"`
		Cursor     string      `json:"cursor"`
	}

	// Reached is a vertex that an expansion came to.
	Reached struct {
		ID    string `json:"id"`
		Depth int    `json:"depth"` // edges from the start, by the shortest way seen
	}

	// EdgeRef is an edge that an expansion went along.
	EdgeRef struct {
		From string `json:"from"`
		Type string `json:"type"`
		To   string `json:"to"`
	}

	// Expansion is what lies around a vertex, near ones first.
	Expansion struct {
		Vertices []Reached `json:"vertices"`
		Edges    []EdgeRef `json:"edges"`
		Visited  int       `json:"visited"` // edges
		// Ended says which budget was spent: edges, time or bytes; empty: none, this
		// is all there is.
		Ended string `json:"ended"`
	}

	// Status is what the tenant keeps.
	Status struct {
		Edges    int64 `json:"edges"`
		Bytes    int64 `json:"bytes"` // of keys and values
		MaxEdges int64 `json:"max_edges"`
	}
)

const (
	maxPutBody    = 8 << 10
	maxImportBody = 1 << 20
	maxImport     = 1000 // edges
)

var (
	vertexText = "name/NAME, object/b3:HEX or id/TEXT"
	edgeParams = []macronode.Param{
		{Name: "from", Type: "string", Text: vertexText, Required: true},
		{Name: "type", Type: "string", Text: "the edge's type", Required: true},
		{Name: "to", Type: "string", Text: vertexText, Required: true},
	}
	writeKinds = []macronode.Kind{macronode.Malformed, macronode.IdempotencyMismatch, macronode.IdempotencyRunning, macronode.DiskFull}
)

// Routes are the facet's, the same whether it runs or not.
func (f *Facet) Routes() []macronode.Route {
	read := func(op macronode.Op, pattern, summary string, answer any, h macronode.Handler, query ...macronode.Param) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{Op: op, Method: "GET", Pattern: pattern, Action: actRead, MaxBody: macronode.BodyNone,
			Doc: macronode.Doc{Summary: summary, Query: query, Response: answer, Kinds: []macronode.Kind{macronode.Malformed}}}}
	}
	write := func(op macronode.Op, method, pattern, summary string, maxBody int64, h macronode.Handler, doc macronode.Doc) macronode.Route {
		doc.Summary, doc.Kinds = summary, append(doc.Kinds, writeKinds...)
		return macronode.Route{Handler: h, Binding: macronode.Binding{Op: op, Method: method, Pattern: pattern, Action: actWrite, MaxBody: maxBody, Write: true, Cost: 2, Doc: doc}}
	}
	get := read("graph.get", "/v1/graph/edge", "Read one edge", EdgeDoc{}, f.get, edgeParams...)
	get.Doc.Kinds = append(get.Doc.Kinds, macronode.NotFound)
	expand := read("graph.expand", "/v1/graph/expand", "Show what lies around a vertex, within a budget", Expansion{}, f.expand,
		macronode.Param{Name: "id", Type: "string", Text: vertexText, Required: true},
		macronode.Param{Name: "direction", Type: "string", Text: "out (default), in or both"},
		macronode.Param{Name: "types", Type: "string", Text: "types of edges to go along, at most 16 with commas between; missing: all"},
		macronode.Param{Name: "depth", Type: "integer", Text: "1 to 3, default 1"},
		macronode.Param{Name: "max_edges", Type: "integer", Text: "edges to visit: 1 to 10000, default 1000"},
		macronode.Param{Name: "max_ms", Type: "integer", Text: "milliseconds: 1 to 1000, default 250"},
		macronode.Param{Name: "max_bytes", Type: "integer", Text: "bytes of the answer: 1024 to 1048576, default 262144"})
	expand.Cost = 4
	routes := []macronode.Route{
		read("graph.status", "/v1/graph", "Show how many edges the tenant has, and may have", Status{}, f.status),
		get,
		read("graph.neighbours", "/v1/graph/neighbours", "List the neighbours of a vertex, by type", Neighbours{}, f.neighbours,
			form.PageParams(macronode.Param{Name: "id", Type: "string", Text: vertexText, Required: true},
				macronode.Param{Name: "direction", Type: "string", Text: "out (default): edges that begin at it; in: such that end there"},
				macronode.Param{Name: "type", Type: "string", Text: "edges of this type alone"})...),
		expand,
		write("graph.put", "PUT", "/v1/graph/edge", "Put an edge", maxPutBody, f.idem.Wrap(f.put),
			macronode.Doc{Request: PutRequest{}, Response: Put{}, Status: []int{201, 200}, Kinds: []macronode.Kind{macronode.QuotaObjects}}),
		write("graph.import", "POST", "/v1/graph/edges", "Put many edges", maxImportBody, f.idem.Wrap(f.imports),
			macronode.Doc{Request: ImportRequest{}, Response: Imported{}, Kinds: []macronode.Kind{macronode.QuotaObjects}}),
		write("graph.delete", "DELETE", "/v1/graph/edge", "Delete an edge", macronode.BodyNone, f.idem.Wrap(f.delete),
			macronode.Doc{Query: edgeParams, Status: []int{204}, Kinds: []macronode.Kind{macronode.NotFound}}),
	}
	for i := range routes {
		b := &routes[i].Binding
		b.OAP, b.Resource = macronode.AppFacet, macronode.FacetResource
	}
	return routes
}
