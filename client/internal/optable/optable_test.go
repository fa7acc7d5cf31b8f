// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package optable

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestLookup(t *testing.T) {
	tab := New(nil)
	for _, tc := range []struct {
		method, path, query string
		op                  macronode.Op
		args                []macronode.Arg
	}{
		{"POST", "/o", "", "object.post", nil},
		{"POST", "/put", "", "object.post", nil},
		{"GET", "/o/b3:ab", "", "object.get", []macronode.Arg{{Name: "addr", Value: "b3:ab"}}},
		{"HEAD", "/o/b3:ab", "", "object.stat", []macronode.Arg{{Name: "addr", Value: "b3:ab"}}},
		{"HEAD", "/v1/objects", "", "object.list", nil},
		{"GET", "/v1/objects", "prefix=b3%3Aa&limit=3", "object.list", []macronode.Arg{{Name: "limit", Value: "3"}, {Name: "prefix", Value: "b3:a"}}},
		{"DELETE", "/v1/kms/keys/a%2Fb%20c/versions/3", "", "kms.version.delete", []macronode.Arg{{Name: "key", Value: "a/b c"}, {Name: "version", Value: "3"}}},
		{"GET", "/readyz", "", "readyz", nil},
		{"GET", "/o", "", "", nil},
		{"GET", "/o/", "", "", nil},
		{"GET", "/o/b3:ab/", "", "", nil},
		{"GET", "o", "", "", nil},
		{"GET", "", "", "", nil},
		{"BREW", "/o", "", "", nil},
	} {
		r, args, err := tab.Lookup(tc.method, tc.path, tc.query)
		if tc.op == "" {
			if !errors.Is(err, ErrNoOperation) {
				t.Errorf("%s %s: %v, %v", tc.method, tc.path, r, err)
			}
			continue
		}
		slices.SortFunc(args, func(a, b macronode.Arg) int { return strings.Compare(a.Name, b.Name) })
		if err != nil || r.Op != tc.op || !slices.Equal(args, tc.args) {
			t.Errorf("%s %s: %+v %q, %v", tc.method, tc.path, r, args, err)
		}
	}
	for _, bad := range []string{"limit=1&limit=2", "%zz", "a;b=c"} {
		if r, _, err := tab.Lookup("GET", "/v1/objects", bad); err == nil {
			t.Errorf("%q is taken as %v", bad, r)
		}
	}
	for path, query := range map[string]string{"/o/%zz": "", "/o/b3:ab": "addr=b3:cd"} {
		if r, _, err := tab.Lookup("GET", path, query); err == nil {
			t.Errorf("%s?%s is taken as %v", path, query, r)
		}
	}
}

// TestThereAndBack: what an operation and its arguments become means them again.
func TestThereAndBack(t *testing.T) {
	tab := New(append(Routes(), Route{"rest.get", 7, "GET", "/rest/{path...}"}))
	if len(Routes()) < 50 {
		t.Fatalf("%d routes: the table was not written", len(Routes()))
	}
	for _, r := range append(Routes(), Route{"rest.get", 7, "GET", "/rest/{path...}"}) {
		want := []macronode.Arg{{Name: "cursor", Value: "a&b=c/d"}}
		for part := range strings.SplitSeq(r.Pattern, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				want = append(want, macronode.Arg{Name: strings.TrimSuffix(strings.TrimSuffix(name, "}"), "..."), Value: "é b?"})
			}
		}
		method, path, query, err := tab.Request(r.Op, r.App, want)
		if err != nil {
			t.Errorf("%s: %v", r.Op, err)
			continue
		}
		if _, err := url.ParseRequestURI(path + "?" + query); err != nil {
			t.Errorf("%s: %v", r.Op, err)
		}
		got, args, err := tab.Lookup(method, path, query)
		sort := func(args []macronode.Arg) []macronode.Arg {
			slices.SortFunc(args, func(a, b macronode.Arg) int { return strings.Compare(a.Name, b.Name) })
			return args
		}
		if err != nil || got.Op != r.Op || !slices.Equal(sort(args), sort(want)) {
			t.Errorf("%s %s?%s is %v %q, %v; want %s %q", method, path, query, got, args, err, r.Op, want)
		}
	}
	for name, tc := range map[string]struct {
		op   macronode.Op
		app  uint16
		args []macronode.Arg
	}{
		"no such op":   {"object.eat", 1, nil},
		"another app":  {"object.list", 2, nil},
		"no argument":  {"object.get", 1, nil},
		"an empty one": {"object.get", 1, []macronode.Arg{{Name: "addr"}}},
	} {
		if _, path, _, err := tab.Request(tc.op, tc.app, tc.args); err == nil {
			t.Errorf("%s is %s", name, path)
		}
	}
}
