// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"slices"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// MaxDepth is how many edges from its start an expansion may go.
const MaxDepth = 3

// Budget bounds an expansion.
type Budget struct {
	Edges int           // visited, those that were seen before too
	Time  time.Duration // from its start
	Bytes int           // of the answer
}

// What ends an expansion early.
const (
	EndEdges = "edges"
	EndTime  = "time"
	EndBytes = "bytes"
)

// ends are all of them.
var ends = []string{EndEdges, EndTime, EndBytes}

// Bytes that a vertex and an edge take in the answer beside their texts.
const (
	vertexBytes = len(`{"id":"","depth":0},`)
	edgeBytes   = len(`{"from":"","type":"","to":""},`)
	escapeRoom  = 6 // bytes that JSON may make of one
)

// clockEvery is how many edges go between two looks at the clock.
const clockEvery = 32

// expansion walks from a vertex, near ones first.
type expansion struct {
	tenant macronode.TenantID
	dirs   []Direction
	types  []string // none: all
	depth  int
	budget Budget
	since  func() time.Duration // its start

	out   Expansion
	bytes int
	seen  map[vertex.Vertex]bool
	drawn map[Edge]bool // by its ends and type
}

// run fills out. The reader is one moment's.
func (x *expansion) run(ctx context.Context, r store.Reader, from vertex.Vertex) error {
	x.out = Expansion{Vertices: []Reached{}, Edges: []EdgeRef{}}
	x.seen, x.drawn, x.bytes = map[vertex.Vertex]bool{}, map[Edge]bool{}, 0
	x.reach(from, 0)
	for i := 0; i < len(x.out.Vertices) && x.out.Ended == ""; i++ {
		at := x.out.Vertices[i]
		if at.Depth == x.depth {
			break
		}
		for _, d := range x.dirs {
			for _, typ := range x.kinds() {
				s := side{tenant: x.tenant, dir: d, of: vertex.Vertex(at.ID), typ: typ}
				err := s.each(r, nil, func(e Edge, _ []byte) bool { return x.visit(ctx, e, d, at.Depth+1) })
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
				if x.out.Ended != "" {
					return nil
				}
			}
		}
	}
	return nil
}

func (x *expansion) kinds() []string {
	if len(x.types) == 0 {
		return []string{""}
	}
	return x.types
}

// visit takes one edge and reports whether there is more to spend.
func (x *expansion) visit(ctx context.Context, e Edge, d Direction, depth int) bool {
	if x.out.Visited == x.budget.Edges {
		x.out.Ended = EndEdges
		return false
	}
	x.out.Visited++
	if x.out.Visited%clockEvery == 0 && ctx.Err() != nil {
		return false
	}
	if x.out.Visited%clockEvery == 0 && x.since() > x.budget.Time {
		x.out.Ended = EndTime
		return false
	}
	other := e.To
	if d == In {
		other = e.From
	}
	id := Edge{From: e.From, To: e.To, Type: e.Type}
	need := 0
	if !x.drawn[id] {
		need += edgeBytes + textBytes(string(e.From)) + len(e.Type) + textBytes(string(e.To))
	}
	if !x.seen[other] {
		need += vertexBytes + textBytes(string(other))
	}
	if x.bytes+need > x.budget.Bytes {
		x.out.Ended = EndBytes
		return false
	}
	if !x.drawn[id] {
		x.drawn[id] = true
		x.bytes += edgeBytes + textBytes(string(e.From)) + len(e.Type) + textBytes(string(e.To))
		x.out.Edges = append(x.out.Edges, EdgeRef{From: string(e.From), Type: e.Type, To: string(e.To)})
	}
	x.reach(other, depth)
	return true
}

// reach takes a vertex that is seen for the first time.
func (x *expansion) reach(v vertex.Vertex, depth int) {
	if x.seen[v] {
		return
	}
	x.seen[v] = true
	x.bytes += vertexBytes + textBytes(string(v))
	x.out.Vertices = append(x.out.Vertices, Reached{ID: string(v), Depth: depth})
}

// textBytes is what s takes in JSON at most.
func textBytes(s string) int {
	n := len(s)
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= 0x80 {
			n += escapeRoom - 1
		}
	}
	return n
}

// directions reads the direction argument of an expansion.
func directions(text string) ([]Direction, bool) {
	i := slices.Index([]string{"", "out", "in", "both"}, text)
	if i < 0 {
		return nil, false
	}
	return [][]Direction{{Out}, {Out}, {In}, {Out, In}}[i], true
}
