// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/facettest"
)

// plain is a graph as a set of edges, looked through from end to end.
type plain map[Edge]string // without value and time, to the value

func ref(from, typ, to string) Edge {
	e, err := (&Facet{}).edge(from, typ, to, "")
	if err != nil {
		panic(err)
	}
	return e
}

// around is what neighbours must list: by type, then by the other end's key.
func (p plain) around(id, direction, typ string) []string {
	type end struct{ typ, key, id string }
	var ends []end
	for e := range p {
		self, other := e.From, e.To
		if direction == "in" {
			self, other = other, self
		}
		if string(self) == id && (typ == "" || e.Type == typ) {
			ends = append(ends, end{e.Type + "\x00", string(other.AppendKey(nil)), string(other)})
		}
	}
	slices.SortFunc(ends, func(a, b end) int {
		return strings.Compare(a.typ+a.key, b.typ+b.key)
	})
	var out []string
	for _, e := range ends {
		out = append(out, strings.TrimSuffix(e.typ, "\x00")+" "+e.id)
	}
	return out
}

// expand is what an unlimited expansion must reach, with depths, and go along.
func (p plain) expand(id, direction string, types []string, depth int) (vertices map[string]int, edges map[EdgeRef]bool) {
	vertices, edges = map[string]int{id: 0}, map[EdgeRef]bool{}
	for d := range depth {
		found := map[string]bool{}
		for e := range p {
			if len(types) > 0 && !slices.Contains(types, e.Type) {
				continue
			}
			for _, way := range []struct {
				on       bool
				from, to string
			}{{direction != "in", string(e.From), string(e.To)}, {direction != "out", string(e.To), string(e.From)}} {
				at, known := vertices[way.from]
				if way.on && known && at == d {
					edges[EdgeRef{string(e.From), e.Type, string(e.To)}] = true
					found[way.to] = true
				}
			}
		}
		for v := range found {
			if _, known := vertices[v]; !known {
				vertices[v] = d + 1
			}
		}
	}
	return vertices, edges
}

// TestAgainstPlain compares random calls, also of a facet that was started again,
// with a plain set of edges.
func TestAgainstPlain(t *testing.T) {
	ids := []string{"id/a", "id/ab", "id/b", "name/a", "name/b.c", "object/b3:" + strings.Repeat("0", 64), "object/b3:" + strings.Repeat("f", 64)}
	types := []string{"follow", "t", "t1", "t.2"}
	rapid.Check(t, func(rt *rapid.T) {
		kv := memory(t)
		w := over(t, kv)
		tenants := map[byte]plain{7: {}, 8: {}}
		id := func() string { return rapid.SampledFrom(ids).Draw(rt, "id") }
		typ := func() string { return rapid.SampledFrom(types).Draw(rt, "type") }
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			n := rapid.SampledFrom([]byte{7, 7, 8}).Draw(rt, "tenant")
			p, tenant := tenants[n], facettest.Tenant(n)
			switch rapid.SampledFrom([]string{"put", "put", "put", "import", "delete", "around", "expand", "restart"}).Draw(rt, "step") {
			case "put":
				e := ref(id(), typ(), id())
				_, was := p[e]
				q := putOf(string(e.From), e.Type, string(e.To))
				q.Tenant = tenant
				if status := w.Ask(q, nil); (status == 201) == was {
					rt.Fatalf("put %+v: %d", e, status)
				}
				p[e] = ""
			case "import":
				var all []PutRequest
				created := map[Edge]bool{}
				for range rapid.IntRange(1, 5).Draw(rt, "edges") {
					e := ref(id(), typ(), id())
					if _, was := p[e]; !was {
						created[e] = true
					}
					p[e] = ""
					all = append(all, PutRequest{From: string(e.From), Type: e.Type, To: string(e.To)})
				}
				var got Imported
				w.Ask(req{Op: "graph.import", Tenant: tenant, Body: ImportRequest{all}}, &got)
				if got.Created != len(created) {
					rt.Fatalf("%d created, want %d", got.Created, len(created))
				}
			case "delete":
				e := ref(id(), typ(), id())
				_, was := p[e]
				q := edgeOf("graph.delete", string(e.From), e.Type, string(e.To))
				q.Tenant = tenant
				_, err := w.Do(q)
				if (err == nil) != was || err != nil && macronode.KindOf(err) != macronode.NotFound {
					rt.Fatalf("delete %+v: %v", e, err)
				}
				delete(p, e)
			case "around":
				of, dir, of2 := id(), rapid.SampledFrom([]string{"out", "in"}).Draw(rt, "dir"), rapid.SampledFrom(append(types, "")).Draw(rt, "of type")
				got := w.around(of, dir, of2, rapid.IntRange(1, 4).Draw(rt, "limit"), tenant)
				if want := p.around(of, dir, of2); !slices.Equal(got, want) {
					rt.Fatalf("%s %s %s: %v, want %v", of, dir, of2, got, want)
				}
			case "expand":
				checkExpand(rt, w, p, tenant, id(), rapid.SampledFrom([]string{"out", "in", "both"}).Draw(rt, "dir"),
					rapid.SliceOfDistinct(rapid.SampledFrom(types), rapid.ID).Draw(rt, "types"), rapid.IntRange(1, 3).Draw(rt, "depth"))
			case "restart":
				w = over(t, kv)
			}
			var s Status
			w.Ask(req{Op: "graph.status", Tenant: tenant}, &s)
			if s.Edges != int64(len(p)) {
				rt.Fatalf("%d edges, want %d", s.Edges, len(p))
			}
		}
	})
}

func checkExpand(rt *rapid.T, w *world, p plain, tenant *macronode.Tenant, id, direction string, types []string, depth int) {
	q := kvs{"id": id, "direction": direction, "depth": fmt.Sprint(depth), "max_edges": "10000", "max_ms": "1000"}
	if len(types) > 0 {
		q["types"] = strings.Join(types, ",")
	}
	var got Expansion
	w.Ask(req{Op: "graph.expand", Query: q, Tenant: tenant}, &got)
	vertices, edges := p.expand(id, direction, types, depth)
	reached, drawn, last := map[string]int{}, map[EdgeRef]bool{}, 0
	for _, v := range got.Vertices {
		if _, twice := reached[v.ID]; twice || v.Depth < last {
			rt.Fatalf("%s stands twice, or far ones come first", v.ID)
		}
		reached[v.ID], last = v.Depth, v.Depth
	}
	for _, e := range got.Edges {
		if drawn[e] {
			rt.Fatalf("%+v stands twice", e)
		}
		drawn[e] = true
	}
	if got.Ended != "" || !maps.Equal(reached, vertices) || !maps.Equal(drawn, edges) {
		rt.Fatalf("%v: %+v, want %v and %v", q, got, vertices, edges)
	}
}
