// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package route

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

func rt(op, form string, edit ...func(*macronode.Route)) macronode.Route {
	method, pattern, _ := strings.Cut(form, " ")
	r := macronode.Route{
		Binding: macronode.Binding{Op: macronode.Op(op), Service: "svc", Method: method, Pattern: pattern, Action: "a:b", OAP: 1},
		Handler: func(context.Context, *macronode.Admitted) (*macronode.Reply, error) { return nil, nil },
	}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func table(t testing.TB) *Table {
	t.Helper()
	tab, err := New([]macronode.Route{
		rt("o.put", "PUT /o/{addr}"), rt("o.get", "GET /o/{addr}"), rt("o.stat", "HEAD /o/{addr}"), rt("o.delete", "DELETE /o/{addr}"),
		rt("o.post", "POST /o", func(r *macronode.Route) { r.Aliases = []string{"POST /put"} }),
		rt("o.list", "GET /v1/objects"),
		rt("n.get", "GET /v1/names/{name}"), rt("n.list", "GET /v1/names"), rt("n.history", "GET /v1/names/{name}/history"),
		rt("m.send", "POST /v1/mailbox/{topic}/messages", func(r *macronode.Route) { r.OAP = 3 }),
		rt("rest", "GET /files/{path...}"), rt("rest.top", "GET /files/top"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestLookup(t *testing.T) {
	tab := table(t)
	for _, c := range []struct {
		method, path, op, arg, val string
		kind                       macronode.Kind
	}{
		{"PUT", "/o/b3:00", "o.put", "addr", "b3:00", 0},
		{"HEAD", "/o/x", "o.stat", "addr", "x", 0},
		{"POST", "/put", "o.post", "", "", 0},
		{"POST", "/o", "o.post", "", "", 0},
		{"HEAD", "/v1/objects", "o.list", "", "", 0},
		{"GET", "/v1/names/a.b/history", "n.history", "name", "a.b", 0},
		{"GET", "/files/a/b/c", "rest", "path", "a/b/c", 0},
		{"GET", "/files/top", "rest.top", "", "", 0},
		{"GET", "/o/", "", "", "", macronode.NotFound},
		{"GET", "/o/x/y", "", "", "", macronode.NotFound},
		{"GET", "/", "", "", "", macronode.NotFound},
		{"GET", "", "", "", "", macronode.NotFound},
		{"GET", "//o/x", "", "", "", macronode.NotFound},
		{"GET", "/v1", "", "", "", macronode.NotFound},
		{"PATCH", "/o/x", "", "", "", macronode.MethodNotAllowed},
		{"POST", "/v1/objects", "", "", "", macronode.MethodNotAllowed},
	} {
		call := &macronode.Call{Method: c.method, Path: c.path}
		r, err := tab.Lookup(call)
		if c.op == "" {
			if err == nil || macronode.KindOf(err) != c.kind {
				t.Errorf("%s %s: got %v, want %s", c.method, c.path, err, c.kind)
			}
			continue
		}
		if err != nil || string(r.Op) != c.op || (c.arg != "" && call.Arg(c.arg) != c.val) {
			t.Errorf("%s %s: got %v %v (%s=%q)", c.method, c.path, r, err, c.arg, call.Arg(c.arg))
		}
	}
	var e *macronode.Error
	_, err := tab.Lookup(&macronode.Call{Method: "PATCH", Path: "/o/x"})
	if !errors.As(err, &e) || e.Header.Get("Allow") != "DELETE, GET, HEAD, PUT" {
		t.Errorf("Allow = %q", e.Header.Get("Allow"))
	}
}

func TestNewRefuses(t *testing.T) {
	for name, routes := range map[string][]macronode.Route{
		"same op":       {rt("a", "GET /a"), rt("a", "GET /b")},
		"same path":     {rt("a", "GET /a"), rt("b", "GET /a")},
		"param name":    {rt("a", "GET /a/{x}"), rt("b", "GET /a/{y}/c")},
		"no action":     {rt("a", "GET /a", func(r *macronode.Route) { r.Action = "" })},
		"public write":  {rt("a", "GET /a", func(r *macronode.Route) { r.Public, r.Action, r.Class = true, "", macronode.CoreRead })},
		"rest inside":   {rt("a", "GET /a/{x...}/b")},
		"no slash":      {rt("a", "GET a")},
		"no handler":    {rt("a", "GET /a", func(r *macronode.Route) { r.Handler = nil })},
		"two resources": {rt("a", "GET /a/{addr}", func(r *macronode.Route) { r.ResourceArg, r.ResourceID = "addr", "graph" })},
		"resource arg":  {rt("a", "GET /a", func(r *macronode.Route) { r.ResourceArg = "addr" })},
	} {
		if _, err := New(routes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	tab := table(b)
	c := &macronode.Call{Method: "GET", Path: "/o/b3:0000000000000000000000000000000000000000000000000000000000000000"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tab.Lookup(c); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("GET", "/o/b3:00")
	f.Add("GET", "/files/../x")
	tab := table(f)
	f.Fuzz(func(t *testing.T, method, path string) {
		r, err := tab.Lookup(&macronode.Call{Method: method, Path: path})
		if (r == nil) == (err == nil) {
			t.Fatalf("route %v and error %v", r, err)
		}
	})
}
