// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package route

import (
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestLookupOAP(t *testing.T) {
	tab := table(t)
	for _, c := range []struct {
		app  uint16
		op   string
		args []macronode.Arg
		kind macronode.Kind // Internal: it is found
		rest []string       // names left in ArgNames
	}{
		{3, "m.send", []macronode.Arg{{Name: "topic", Value: "jobs"}}, 0, nil},
		{1, "o.list", nil, 0, nil},
		{1, "o.list", []macronode.Arg{{Name: "prefix", Value: "a/../b\x01"}, {Name: "limit", Value: "5"}}, 0, []string{"limit", "prefix"}},
		{1, "n.history", []macronode.Arg{{Name: "limit", Value: "5"}, {Name: "name", Value: "a.b"}}, 0, []string{"limit"}},
		{1, "rest", []macronode.Arg{{Name: "path", Value: "a/b/c"}}, 0, nil},
		// An app_proto_id that no route has, and the connection's own.
		{2, "n.get", []macronode.Arg{{Name: "name", Value: "x"}}, macronode.Unimplemented, nil},
		{0, "o.list", nil, macronode.Unimplemented, nil},
		{999, "o.list", nil, macronode.Unimplemented, nil},
		// One that there is, without this operation.
		{1, "m.send", []macronode.Arg{{Name: "topic", Value: "jobs"}}, macronode.NotFound, nil},
		{1, "none", nil, macronode.NotFound, nil},
		{1, "", nil, macronode.NotFound, nil},
		{3, "o.list", nil, macronode.NotFound, nil},
		// Arguments that no path could hold.
		{1, "o.get", nil, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr"}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: "a"}, {Name: "addr", Value: "b"}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: "a/b"}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: ".."}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: "a\nb"}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: "a\x7f"}}, macronode.Malformed, nil},
		{1, "o.get", []macronode.Arg{{Name: "addr", Value: "\xff"}}, macronode.Malformed, nil},
		{1, "rest", []macronode.Arg{{Name: "path", Value: "a/../c"}}, macronode.Malformed, nil},
	} {
		want := slices.Clone(c.args)
		call := &macronode.Call{Wire: macronode.WireOAP, AppID: c.app, Op: macronode.Op(c.op), Args: c.args}
		r, err := tab.Lookup(call)
		if c.kind != 0 {
			if err == nil || macronode.KindOf(err) != c.kind {
				t.Errorf("%d %s %q: %v, want %s", c.app, c.op, want, err, c.kind)
			}
			continue
		}
		if err != nil || string(r.Op) != c.op {
			t.Errorf("%d %s %q: %v, %v", c.app, c.op, want, r, err)
			continue
		}
		for _, a := range want {
			if call.Arg(a.Name) != a.Value {
				t.Errorf("%s: %s is %q, want %q", c.op, a.Name, call.Arg(a.Name), a.Value)
			}
		}
		var names []string
		call.ArgNames(func(n string) { names = append(names, n) })
		if slices.Sort(names); !slices.Equal(names, c.rest) {
			t.Errorf("%s: arguments %q beside the path's, want %q", c.op, names, c.rest)
		}
	}
}

// A second look-up of a call finds nothing of the first.
func TestLookupForgets(t *testing.T) {
	tab := table(t)
	call := &macronode.Call{Method: "GET", Path: "/o/x"}
	if _, err := tab.Lookup(call); err != nil || call.Arg("addr") != "x" {
		t.Fatal(err)
	}
	*call = macronode.Call{Wire: macronode.WireOAP, AppID: 1, Op: "o.list"}
	if _, err := tab.Lookup(call); err != nil || call.Arg("addr") != "" {
		t.Fatal(err, call.Arg("addr"))
	}
}
