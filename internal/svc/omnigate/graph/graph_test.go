// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/facettest"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

type (
	req = facettest.Request
	kvs = map[string]string
)

// world is a facet over kv with a driver.
type world struct {
	*facettest.Driver
	t  testing.TB
	kv store.KV
	f  *Facet
}

func over(t testing.TB, kv store.KV, change ...func(*Config)) *world {
	t.Helper()
	c := Config{KV: kv, Idem: idem.New(idem.Config{KV: kv}), Settings: Settings{MaxEdges: 1_000_000}}
	for _, f := range change {
		f(&c)
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &world{facettest.Drive(t, admit, f.Routes()), t, kv, f}
}

func open(t testing.TB, change ...func(*Config)) *world {
	return over(t, memory(t), change...)
}

func putOf(from, typ, to string) req {
	return req{Op: "graph.put", Body: PutRequest{From: from, Type: typ, To: to}}
}

func edgeOf(op macronode.Op, from, typ, to string) req {
	return req{Op: op, Query: kvs{"from": from, "type": typ, "to": to}}
}

// around lists the neighbours of id, all pages of limit.
func (w *world) around(id, direction, typ string, limit int, tenant *macronode.Tenant) (out []string) {
	w.t.Helper()
	cursor := ""
	for {
		var page Neighbours
		q := kvs{"id": id, "direction": direction, "limit": strconv.Itoa(limit)}
		if typ != "" {
			q["type"] = typ
		}
		if cursor != "" {
			q["cursor"] = cursor
		}
		w.Ask(req{Op: "graph.neighbours", Query: q, Tenant: tenant}, &page)
		for _, n := range page.Neighbours {
			out = append(out, n.Type+" "+n.ID)
		}
		if cursor = page.Cursor; cursor == "" {
			return out
		}
	}
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestEdges(t *testing.T) {
	now := time.UnixMilli(1000)
	w := open(t, func(c *Config) { c.Now = func() time.Time { return now } })
	q := req{Op: "graph.put", Body: PutRequest{From: "id/a", Type: "likes", To: "name/b", Value: "first"}}
	var put Put
	if status := w.Ask(q, &put); status != 201 || !put.Created {
		t.Errorf("%d %+v", status, put)
	}
	now = time.UnixMilli(2000)
	q.Body = PutRequest{From: "id/a", Type: "likes", To: "name/b", Value: "second and longer"}
	if status := w.Ask(q, &put); status != 200 || put.Created {
		t.Errorf("again: %d %+v", status, put)
	}
	var e EdgeDoc
	w.Ask(edgeOf("graph.get", "id/a", "likes", "name/b"), &e)
	if e != (EdgeDoc{"id/a", "likes", "name/b", "second and longer", 1000}) {
		t.Errorf("%+v", e)
	}
	w.Ask(putOf("id/a", "follow", "id/c"), nil)
	w.Ask(putOf("id/c", "likes", "name/b"), nil)
	same(t, "out", w.around("id/a", "out", "", 10, nil), "follow id/c", "likes name/b")
	same(t, "of a type", w.around("id/a", "out", "likes", 10, nil), "likes name/b")
	same(t, "in", w.around("name/b", "in", "", 1, nil), "likes id/a", "likes id/c")
	same(t, "nothing out of it", w.around("name/b", "out", "", 10, nil))
	w.counts(3)
	if status := w.Ask(edgeOf("graph.delete", "id/a", "likes", "name/b"), nil); status != 204 {
		t.Error(status)
	}
	w.Refuse(edgeOf("graph.delete", "id/a", "likes", "name/b"), macronode.NotFound)
	w.Refuse(edgeOf("graph.get", "id/a", "likes", "name/b"), macronode.NotFound)
	same(t, "in, after", w.around("name/b", "in", "", 10, nil), "likes id/c")
	w.counts(2)
	w.Ask(edgeOf("graph.delete", "id/c", "likes", "name/b"), nil)
	w.Ask(edgeOf("graph.delete", "id/a", "follow", "id/c"), nil)
	w.counts(0)
	if n := w.keys(facettest.Tenant(7)); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// counts compares what is said to be stored with what is.
func (w *world) counts(edges int64) {
	w.t.Helper()
	var s Status
	w.Ask(req{Op: "graph.status"}, &s)
	var bytes int64
	t := facettest.Tenant(7).ID
	lo := tenantKeys(t)
	err := w.kv.View(w.t.Context(), func(r store.Reader) error {
		return r.Scan(lo, store.After(lo), func(k, v []byte) bool {
			if k[len(lo)] != countKey {
				bytes += int64(len(k) + len(v))
			}
			return true
		})
	})
	if err != nil || s.Edges != edges || s.Bytes != bytes {
		w.t.Errorf("status %+v, %d bytes are there, want %d edges (%v)", s, bytes, edges, err)
	}
}

// keys counts a tenant's.
func (w *world) keys(t *macronode.Tenant) (n int) {
	w.t.Helper()
	lo := tenantKeys(t.ID)
	if err := w.kv.View(w.t.Context(), func(r store.Reader) error {
		return r.Scan(lo, store.After(lo), func(_, _ []byte) bool { n++; return true })
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestRefusals(t *testing.T) {
	w := open(t)
	long := strings.Repeat("x", MaxValueBytes+1)
	for _, body := range []PutRequest{
		{From: "a", Type: "t", To: "id/b"}, {From: "id/a", Type: "t", To: "b"}, {From: "id/a", Type: "", To: "id/b"}, {From: "id/a", Type: "T", To: "id/b"},
		{From: "id/a", Type: ".t", To: "id/b"}, {From: "id/a", Type: strings.Repeat("t", 65), To: "id/b"}, {From: "id/a", Type: "t", To: "id/b", Value: long},
		{From: "id/a", Type: "t", To: "id/b", Value: "a\x00b"}, {From: "id/a", Type: "a b", To: "id/b"},
	} {
		w.Refuse(req{Op: "graph.put", Body: body}, macronode.Malformed)
		w.Refuse(req{Op: "graph.import", Body: ImportRequest{[]PutRequest{{From: "id/a", Type: "t", To: "id/b"}, body}}}, macronode.Malformed)
	}
	for _, raw := range []string{``, `[]`, `{"from":"id/a","type":"t","to":"id/b","more":1}`, `{"from":1,"type":"t","to":"id/b"}`, `{"from":"id/a","type":"t","to":"id/b"} {}`} {
		w.Refuse(req{Op: "graph.put", Raw: raw}, macronode.Malformed)
	}
	w.Refuse(req{Op: "graph.import", Body: ImportRequest{}}, macronode.Malformed)
	w.Refuse(req{Op: "graph.import", Body: ImportRequest{make([]PutRequest, maxImport+1)}}, macronode.Malformed)
	for _, q := range []kvs{{}, {"id": "a"}, {"id": "id/a", "direction": "both"}, {"id": "id/a", "limit": "0"}, {"id": "id/a", "limit": "1001"}, {"id": "id/a", "type": "T"},
		{"id": "id/a", "cursor": "!"}, {"id": "id/a", "cursor": "AAAA"}, {"id": "id/a", "more": "1"}, {"id": "id/a", "cursor": strings.Repeat("A", 5000)}} {
		w.Refuse(req{Op: "graph.neighbours", Query: q}, macronode.Malformed)
	}
	for _, q := range []kvs{{}, {"id": "id/a", "depth": "4"}, {"id": "id/a", "depth": "0"}, {"id": "id/a", "max_edges": "10001"}, {"id": "id/a", "max_ms": "1001"},
		{"id": "id/a", "max_bytes": "1023"}, {"id": "id/a", "direction": "up"}, {"id": "id/a", "types": "a,,b"}, {"id": "id/a", "types": strings.Repeat("a,", 5) + "A"},
		{"id": "id/a", "types": "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"}, {"id": "id/a", "limit": "1"}} {
		w.Refuse(req{Op: "graph.expand", Query: q}, macronode.Malformed)
	}
	w.Refuse(edgeOf("graph.get", "id/a", "t", ""), macronode.Malformed)
	if n := w.keys(facettest.Tenant(7)); n != 0 {
		t.Errorf("refused calls left %d keys", n)
	}
	if _, err := New(Config{KV: w.kv, Idem: idem.New(idem.Config{KV: w.kv})}); err == nil {
		t.Error("a limit of zero is accepted")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a facet without a store")
	}
}

// Names are made normal, so that two ways to write one are one vertex.
func TestNamesAreNormal(t *testing.T) {
	w := open(t, func(c *Config) {
		c.Normal = func(s string) (string, error) {
			if s == "bad" {
				return "", macronode.Errorf(macronode.Invalid, "no name")
			}
			return strings.ToLower(s), nil
		}
	})
	w.Ask(putOf("name/ALICE", "t", "name/bob"), nil)
	w.Ask(putOf("name/alice", "t", "name/Bob"), nil)
	same(t, "one vertex", w.around("name/Alice", "out", "", 10, nil), "t name/bob")
	w.Refuse(putOf("name/bad", "t", "id/x"), macronode.Invalid)
}

// A retry under a key is the first answer; another request under it is refused.
func TestIdempotency(t *testing.T) {
	w := open(t)
	q := putOf("id/a", "t", "id/b")
	q.Key = "k1"
	first, err := w.Do(q)
	if err != nil || first.Status != 201 {
		t.Fatal(first, err)
	}
	w.Ask(edgeOf("graph.delete", "id/a", "t", "id/b"), nil)
	again, err := w.Do(q)
	if err != nil || again.Status != 201 || !bytes.Equal(again.Body, first.Body) || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v, %v", again, err)
	}
	w.counts(0)
	other := putOf("id/a", "t", "id/c")
	other.Key = "k1"
	w.Refuse(other, macronode.IdempotencyMismatch)
	var edges []PutRequest
	for i := range 2*putBatch + 3 {
		edges = append(edges, PutRequest{From: "id/a", Type: "t", To: fmt.Sprint("id/", i)})
	}
	bulk := req{Op: "graph.import", Key: "k2", Body: ImportRequest{edges}}
	var got Imported
	for range 2 {
		w.Ask(bulk, &got)
		if got != (Imported{len(edges), len(edges)}) {
			t.Errorf("%+v", got)
		}
	}
	bulk.Key = ""
	if w.Ask(bulk, &got); got != (Imported{len(edges), 0}) {
		t.Errorf("without the key: %+v", got)
	}
	w.counts(int64(len(edges)))
	del := edgeOf("graph.delete", "id/a", "t", "id/0")
	del.Key = "k3"
	for range 2 {
		if status := w.Ask(del, nil); status != 204 {
			t.Error(status)
		}
	}
}

func TestMaxEdges(t *testing.T) {
	w := open(t, func(c *Config) { c.Settings.MaxEdges = 2 })
	w.Ask(putOf("id/a", "t", "id/1"), nil)
	w.Ask(putOf("id/a", "t", "id/2"), nil)
	w.Refuse(putOf("id/a", "t", "id/3"), macronode.QuotaObjects)
	w.Ask(putOf("id/a", "t", "id/2"), nil) // what is there may change
	w.Refuse(req{Op: "graph.import", Body: ImportRequest{[]PutRequest{{From: "id/a", Type: "t", To: "id/1"}, {From: "id/a", Type: "t", To: "id/3"}}}}, macronode.QuotaObjects)
	w.counts(2)
	if err := w.f.SetSettings(Settings{MaxEdges: 3}); err != nil {
		t.Fatal(err)
	}
	w.Ask(putOf("id/a", "t", "id/3"), nil)
	w.counts(3)
	other := putOf("id/a", "t", "id/4")
	other.Tenant = facettest.Tenant(8)
	w.Ask(other, nil)
}

// What one tenant has, no other can tell from what never was: same answers, to the
// byte, whichever of the two it asks for.
func TestStranger(t *testing.T) {
	w := open(t)
	stranger := facettest.Tenant(9)
	for i := range 5 {
		w.Ask(putOf("id/a", "t", fmt.Sprint("id/", i)), nil)
	}
	answer := func(r req) string {
		r.Tenant = stranger
		reply, err := w.Do(r)
		if err != nil {
			return fmt.Sprint(macronode.AsError(err).Problem("c"))
		}
		return fmt.Sprint(reply.Status, " ", string(reply.Body))
	}
	for _, pair := range [][2]req{
		{edgeOf("graph.get", "id/a", "t", "id/1"), edgeOf("graph.get", "id/z", "t", "id/1")},
		{edgeOf("graph.delete", "id/a", "t", "id/1"), edgeOf("graph.delete", "id/z", "t", "id/1")},
		{{Op: "graph.neighbours", Query: kvs{"id": "id/a"}}, {Op: "graph.neighbours", Query: kvs{"id": "id/z"}}},
		{{Op: "graph.neighbours", Query: kvs{"id": "id/1", "direction": "in"}}, {Op: "graph.neighbours", Query: kvs{"id": "id/z", "direction": "in"}}},
		{{Op: "graph.status"}, {Op: "graph.status"}},
	} {
		theirs, nobodys := answer(pair[0]), answer(pair[1])
		if theirs != nobodys || strings.Contains(theirs, "id/1") {
			t.Errorf("%s: %s, and of what never was: %s", pair[0].Op, theirs, nobodys)
		}
	}
	if got := answer(req{Op: "graph.expand", Query: kvs{"id": "id/a", "direction": "both", "depth": "3"}}); !strings.Contains(got, `"edges":[]`) || !strings.Contains(got, `"visited":0`) {
		t.Error(got)
	}
	put := putOf("id/a", "t", "id/1")
	put.Tenant = stranger
	if w.Ask(put, nil) != 201 {
		t.Error("their edge is not a new one")
	}
	// A cursor of one is no way to the other's.
	var page Neighbours
	w.Ask(req{Op: "graph.neighbours", Query: kvs{"id": "id/a", "limit": "1"}}, &page)
	if got := answer(req{Op: "graph.neighbours", Query: kvs{"id": "id/a", "cursor": page.Cursor}}); !strings.Contains(got, `[{"id":"id/1"`) || strings.Contains(got, "id/2") {
		t.Error(got)
	}
	// The end of one is not the end of the other.
	if err := w.f.Purge(t.Context(), stranger.ID); err != nil {
		t.Fatal(err)
	}
	w.counts(5)
}

func TestPurge(t *testing.T) {
	w := open(t)
	var edges []PutRequest
	for i := range maxImport {
		edges = append(edges, PutRequest{From: fmt.Sprint("id/", i%7), Type: "t", To: fmt.Sprint("name/", i)})
	}
	w.Ask(req{Op: "graph.import", Body: ImportRequest{edges}}, nil)
	w.Ask(req{Op: "graph.import", Body: ImportRequest{edges}, Tenant: facettest.Tenant(6)}, nil)
	for range 2 {
		if err := w.f.Purge(t.Context(), facettest.Tenant(7).ID); err != nil {
			t.Fatal(err)
		}
	}
	if mine, other := w.keys(facettest.Tenant(7)), w.keys(facettest.Tenant(6)); mine != 0 || other != 2*maxImport+1 {
		t.Errorf("%d keys are left, the other tenant has %d", mine, other)
	}
	if n := w.f.m.edges.Load(); n != maxImport {
		t.Errorf("%d edges are counted", n)
	}
	if n, err := w.f.total(t.Context()); err != nil || n != maxImport {
		t.Errorf("%d edges are counted anew, %v", n, err)
	}
}

// expand asks for what lies around id.
func (w *world) expand(q kvs) (x Expansion) {
	w.t.Helper()
	w.Ask(req{Op: "graph.expand", Query: q}, &x)
	return x
}

func TestExpandBudget(t *testing.T) {
	now, step := time.Unix(0, 0), time.Duration(0)
	w := open(t, func(c *Config) { c.Now = func() time.Time { now = now.Add(step); return now } })
	var edges []PutRequest
	for i := range 500 {
		edges = append(edges, PutRequest{From: "id/hub", Type: "t", To: fmt.Sprintf("id/<%03d>", i)})
	}
	w.Ask(req{Op: "graph.import", Body: ImportRequest{edges}}, nil)
	if x := w.expand(kvs{"id": "id/hub", "max_edges": "100"}); x.Ended != EndEdges || x.Visited != 100 || len(x.Edges) != 100 || len(x.Vertices) != 101 {
		t.Errorf("%s, %d visited", x.Ended, x.Visited)
	}
	if x := w.expand(kvs{"id": "id/hub", "max_edges": "500"}); x.Ended != "" || x.Visited != 500 {
		t.Errorf("%q, %d visited", x.Ended, x.Visited)
	}
	for _, budget := range []string{"1024", "4096", "20000"} {
		reply, err := w.Do(req{Op: "graph.expand", Query: kvs{"id": "id/hub", "max_bytes": budget}})
		most, _ := strconv.Atoi(budget)
		if err != nil || len(reply.Body) > most || !bytes.Contains(reply.Body, []byte(`"ended":"bytes"`)) {
			t.Errorf("budget %s: %v, %d bytes", budget, err, len(reply.Body))
		}
	}
	reply, err := w.Do(req{Op: "graph.expand", Query: kvs{"id": "id/hub"}, Budget: 700}) // the capability's
	if err != nil || len(reply.Body) > 700 {
		t.Errorf("%v", err)
	}
	step = 10 * time.Millisecond // a look at the clock
	if x := w.expand(kvs{"id": "id/hub", "max_ms": "25"}); x.Ended != EndTime || x.Visited == 0 || x.Visited >= 500 {
		t.Errorf("%q, %d visited", x.Ended, x.Visited)
	}
}

func TestFollowers(t *testing.T) {
	w := open(t)
	tenant := facettest.Tenant(7)
	for i := range 25 {
		w.Ask(putOf(fmt.Sprintf("id/%02d", i), FollowType, "name/star"), nil)
		w.Ask(putOf(fmt.Sprintf("id/%02d", i), "likes", "name/star"), nil)
		w.Ask(putOf("name/star", FollowType, fmt.Sprintf("id/x%02d", i)), nil)
	}
	var all []vertex.Vertex
	pages := 0
	for after := []byte(nil); ; pages++ {
		who, next, err := w.f.Followers(t.Context(), tenant.ID, "name/star", after, 10)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, who...)
		if after = next; next == nil {
			break
		}
	}
	if len(all) != 25 || pages != 2 || all[0] != "id/00" || all[24] != "id/24" {
		t.Errorf("%d followers in %d pages", len(all), pages+1)
	}
	if who, _, _ := w.f.Followers(t.Context(), facettest.Tenant(8).ID, "name/star", nil, 10); len(who) != 0 {
		t.Error("a stranger's followers")
	}
}
