// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/form"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// Bounds and defaults of an expansion's budget.
const (
	maxTypes      = 16
	defaultEdges  = 1000
	mostEdges     = 10_000
	defaultMillis = 250
	mostMillis    = 1000
	leastBytes    = 1 << 10
	defaultBytes  = 256 << 10
	mostBytes     = 1 << 20
	// answerRoom is what an expansion's document takes beside vertices and edges.
	answerRoom = 128
)

func errNoEdge() error {
	return macronode.Errorf(macronode.NotFound, "there is no such edge")
}

func errType() error {
	return macronode.Errorf(macronode.Malformed, "a type is 1 to %d of a-z, 0-9, \".\", \"_\" and \"-\", and begins with a letter or digit", MaxTypeBytes)
}

// edge reads the parts of one.
func (f *Facet) edge(from, typ, to, value string) (e Edge, err error) {
	if e.From, err = vertex.Parse(from, f.normal); err != nil {
		return e, err
	}
	if e.To, err = vertex.Parse(to, f.normal); err != nil {
		return e, err
	}
	if e.Type = typ; !validType(typ) {
		return e, errType()
	}
	if e.Value = value; len(value) > MaxValueBytes || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
		return e, macronode.Errorf(macronode.Malformed, "a value has at most %d bytes of UTF-8 without control characters", MaxValueBytes)
	}
	return e, nil
}

func (f *Facet) put(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	var q PutRequest
	if err := form.Read(body, &q); err != nil {
		return nil, err
	}
	e, err := f.edge(q.From, q.Type, q.To, q.Value)
	if err != nil {
		return nil, err
	}
	created, reply, err := f.store(ctx, a.Tenant.ID, []Edge{e}, claim, func(created int) (*macronode.Reply, error) {
		status := 200
		if created > 0 {
			status = 201
		}
		return form.Answer(a, status, Put{Created: created > 0})
	})
	if err != nil {
		return nil, err
	}
	f.note(1, created)
	return reply, nil
}

// note counts what was put.
func (f *Facet) note(put, created int) {
	f.m.put.Add(float64(put))
	f.m.edges.Add(int64(created))
}

// store puts edges in one transaction, with what answer makes of how many are new
// as the first answer to the call; answer may be nil.
func (f *Facet) store(ctx context.Context, t macronode.TenantID, edges []Edge, claim *idem.Claim, answer func(created int) (*macronode.Reply, error)) (created int, reply *macronode.Reply, err error) {
	now, most := f.now().UnixMilli(), f.settings.Load().MaxEdges
	err = f.kv.Update(ctx, func(tx store.Tx) error {
		created, reply = 0, nil
		c, err := getCounts(tx, t)
		if err != nil {
			return err
		}
		for i := range edges {
			edges[i].CreatedMS = now
			isNew, err := put(tx, t, &edges[i], &c, most)
			if err != nil {
				return err
			}
			if isNew {
				created++
			}
		}
		if err := setCounts(tx, t, c); err != nil || answer == nil {
			return err
		}
		if reply, err = answer(created); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	return created, reply, store.Refusal(err)
}

func (f *Facet) imports(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	var q ImportRequest
	if err := form.Read(body, &q); err != nil {
		return nil, err
	}
	if len(q.Edges) < 1 || len(q.Edges) > maxImport {
		return nil, macronode.Errorf(macronode.Malformed, "edges are 1 to %d", maxImport)
	}
	edges := make([]Edge, len(q.Edges))
	for i, p := range q.Edges {
		var err error
		if edges[i], err = f.edge(p.From, p.Type, p.To, p.Value); err != nil {
			e := macronode.AsError(err)
			return nil, macronode.Errorf(e.Kind, "edges[%d]: %s", i, e.Detail)
		}
	}
	if a.ReplyBytes != macronode.NoLimit && a.ReplyBytes < answerRoom {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer may have %d bytes, which the capability does not allow", answerRoom)
	}
	total := 0
	for rest := edges; ; {
		part := rest[:min(len(rest), putBatch)]
		rest = rest[len(part):]
		var answer func(int) (*macronode.Reply, error)
		if len(rest) == 0 {
			answer = func(created int) (*macronode.Reply, error) {
				return form.Answer(a, 200, Imported{Put: len(edges), Created: total + created})
			}
		}
		created, reply, err := f.store(ctx, a.Tenant.ID, part, claim, answer)
		if err != nil {
			return nil, err
		}
		f.note(len(part), created)
		if total += created; len(rest) == 0 {
			return reply, nil
		}
	}
}

func (f *Facet) delete(ctx context.Context, a *macronode.Admitted, _ []byte, claim *idem.Claim) (*macronode.Reply, error) {
	e, err := f.named(a)
	if err != nil {
		return nil, err
	}
	reply := &macronode.Reply{Status: 204}
	err = f.kv.Reclaim(ctx, func(tx store.Tx) error {
		if err := drop(tx, a.Tenant.ID, &e); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoEdge()
	}
	if err != nil {
		return nil, store.Refusal(err)
	}
	f.m.deleted.Inc()
	f.m.edges.Add(-1)
	return reply, nil
}

// named is the edge that the arguments name.
func (f *Facet) named(a *macronode.Admitted) (Edge, error) {
	if err := a.OnlyArgs("from", "type", "to"); err != nil {
		return Edge{}, err
	}
	return f.edge(a.Arg("from"), a.Arg("type"), a.Arg("to"), "")
}

func (f *Facet) get(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	e, err := f.named(a)
	if err != nil {
		return nil, err
	}
	err = f.kv.View(ctx, func(r store.Reader) error {
		e, err = get(r, a.Tenant.ID, e)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoEdge()
	}
	if err != nil {
		return nil, store.Refusal(err)
	}
	return form.Answer(a, 200, EdgeDoc{string(e.From), e.Type, string(e.To), e.Value, e.CreatedMS})
}

func (f *Facet) status(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	var c Counts
	err := f.kv.View(ctx, func(r store.Reader) (err error) {
		c, err = getCounts(r, a.Tenant.ID)
		return err
	})
	if err != nil {
		return nil, store.Refusal(err)
	}
	return form.Answer(a, 200, Status{c.Edges, c.Bytes, f.settings.Load().MaxEdges})
}

func (f *Facet) neighbours(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("id", "direction", "type", "cursor", "limit"); err != nil {
		return nil, err
	}
	limit, after, err := form.Page(a)
	if err != nil {
		return nil, err
	}
	s := side{tenant: a.Tenant.ID, typ: a.Arg("type")}
	if s.of, err = vertex.Parse(a.Arg("id"), f.normal); err != nil {
		return nil, err
	}
	dirs, ok := directions(a.Arg("direction"))
	if !ok || len(dirs) != 1 {
		return nil, macronode.Errorf(macronode.Malformed, "direction is out or in")
	}
	s.dir = dirs[0]
	if s.typ != "" && !validType(s.typ) {
		return nil, errType()
	}
	if after != nil {
		if _, _, ok := readPlace(after); !ok {
			return nil, form.BadCursor()
		}
	}
	var page Neighbours
	err = f.kv.View(ctx, func(r store.Reader) error {
		page = Neighbours{Neighbours: []Neighbour{}}
		var last []byte
		return s.each(r, after, func(e Edge, place []byte) bool {
			if len(page.Neighbours) == limit {
				page.Cursor = form.Cursor(last)
				return false
			}
			other := e.To
			if s.dir == In {
				other = e.From
			}
			page.Neighbours = append(page.Neighbours, Neighbour{string(other), e.Type, e.Value, e.CreatedMS})
			last = append(last[:0], place...)
			return true
		})
	})
	if err != nil {
		return nil, store.Refusal(err)
	}
	return form.Answer(a, 200, page)
}

func (f *Facet) expand(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	x, from, err := f.expansion(a)
	if err != nil {
		return nil, err
	}
	begun := f.now()
	x.since = func() time.Duration { return f.now().Sub(begun) }
	if err := f.kv.View(ctx, func(r store.Reader) error { return x.run(ctx, r, from) }); err != nil {
		return nil, store.Refusal(err)
	}
	f.m.visited.Observe(float64(x.out.Visited))
	if x.out.Ended != "" {
		f.m.ended.WithLabelValues(x.out.Ended).Inc()
	}
	return form.Answer(a, 200, x.out)
}

// expansion reads the arguments of one.
func (f *Facet) expansion(a *macronode.Admitted) (x *expansion, from vertex.Vertex, err error) {
	if err := a.OnlyArgs("id", "direction", "types", "depth", "max_edges", "max_ms", "max_bytes"); err != nil {
		return nil, "", err
	}
	if from, err = vertex.Parse(a.Arg("id"), f.normal); err != nil {
		return nil, "", err
	}
	x = &expansion{tenant: a.Tenant.ID}
	var ok bool
	if x.dirs, ok = directions(a.Arg("direction")); !ok {
		return nil, "", macronode.Errorf(macronode.Malformed, "direction is out, in or both")
	}
	if text := a.Arg("types"); text != "" {
		x.types = strings.Split(text, ",")
		slices.Sort(x.types)
		x.types = slices.Compact(x.types)
		if len(x.types) > maxTypes {
			return nil, "", macronode.Errorf(macronode.Malformed, "types are at most %d", maxTypes)
		}
		for _, typ := range x.types {
			if !validType(typ) {
				return nil, "", errType()
			}
		}
	}
	for _, n := range []struct {
		name                 string
		missing, least, most uint64
		set                  func(int)
	}{
		{"depth", 1, 1, MaxDepth, func(n int) { x.depth = n }},
		{"max_edges", defaultEdges, 1, mostEdges, func(n int) { x.budget.Edges = n }},
		{"max_ms", defaultMillis, 1, mostMillis, func(n int) { x.budget.Time = time.Duration(n) * time.Millisecond }},
		{"max_bytes", defaultBytes, leastBytes, mostBytes, func(n int) { x.budget.Bytes = n - answerRoom }},
	} {
		v, err := a.NumberArg(n.name, n.missing, n.least, n.most)
		if err != nil {
			return nil, "", err
		}
		n.set(int(v))
	}
	if a.ReplyBytes != macronode.NoLimit {
		x.budget.Bytes = int(min(int64(x.budget.Bytes), max(a.ReplyBytes-answerRoom, 0)))
	}
	return x, from, nil
}
