// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import "testing"

func TestOnlyArgs(t *testing.T) {
	for _, c := range []struct {
		args  []Arg
		query string
		ok    bool
	}{
		{nil, "", true},
		{nil, "limit=1&cursor=x", true},
		{[]Arg{{"limit", "1"}}, "", true},
		{nil, "limit=1&limit=2", false},
		{[]Arg{{"limit", "1"}}, "limit=1", false},
		{[]Arg{{"limit", "1"}, {"limit", "1"}}, "", false},
		{nil, "more=1", false},
		{[]Arg{{"more", "1"}}, "", false},
	} {
		call := &Call{Args: c.args, Query: c.query}
		if err := call.OnlyArgs("limit", "cursor"); (err == nil) != c.ok || err != nil && KindOf(err) != Malformed {
			t.Errorf("%v %q: %v", c.args, c.query, err)
		}
	}
}

func TestNumberArg(t *testing.T) {
	call := &Call{Query: "a=7&b=&c=x&d=-1&e=99999999999999999999"}
	for name, want := range map[string]struct {
		n  uint64
		ok bool
	}{"a": {7, true}, "b": {3, true}, "none": {3, true}, "c": {0, false}, "d": {0, false}, "e": {0, false}} {
		if n, err := call.NumberArg(name, 3, 1, 10); n != want.n || (err == nil) != want.ok || err != nil && KindOf(err) != Malformed {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if _, err := call.NumberArg("a", 3, 8, 10); err == nil {
		t.Error("below the least")
	}
}
