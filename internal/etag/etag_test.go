// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package etag

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestPreconditions(t *testing.T) {
	const tag = `"b3:aa"`
	for _, c := range []struct {
		match, none []string
		want        string
	}{
		{nil, nil, "proceed"},
		{[]string{"*"}, nil, "proceed"},
		{[]string{tag}, nil, "proceed"},
		{[]string{`"x", ` + tag}, nil, "proceed"},
		{[]string{`"x"`, tag}, nil, "proceed"},
		{[]string{`"x"`}, nil, "412"},
		{[]string{"W/" + tag}, nil, "412"},
		{[]string{""}, nil, "412"},
		{nil, []string{"*"}, "304"},
		{nil, []string{tag}, "304"},
		{nil, []string{"W/" + tag}, "304"},
		{nil, []string{`"x" , , W/"y",` + tag}, "304"},
		{nil, []string{`"x"`}, "proceed"},
		{nil, []string{`"a,b", "c"`}, "proceed"},
		{[]string{`"x"`}, []string{tag}, "412"},
		{[]string{tag}, []string{tag}, "304"},
		{nil, []string{"b3:aa"}, "400"},
		{nil, []string{`"open`}, "400"},
		{nil, []string{`"a" "b"`}, "400"},
		{nil, []string{`"a b"`}, "400"},
		{nil, []string{"*", tag}, "400"},
		{nil, []string{`w/"a"`}, "400"},
		{nil, []string{strings.Repeat(`"x",`, 3000)}, "431"},
	} {
		h := macronode.Header{}
		if c.match != nil {
			h["If-Match"] = c.match
		}
		if c.none != nil {
			h["If-None-Match"] = c.none
		}
		unchanged, err := Preconditions(h, tag)
		got := map[bool]string{false: "proceed", true: "304"}[unchanged]
		if err != nil {
			got = fmt.Sprint(macronode.KindOf(err).Info().Status)
		}
		if got != c.want {
			t.Errorf("If-Match %q If-None-Match %q: %s, want %s", c.match, c.none, got, c.want)
		}
	}
}

func FuzzPreconditions(f *testing.F) {
	f.Add(`"b3:aa"`, `W/"x", *`)
	f.Add(`"`, `W/`)
	f.Fuzz(func(t *testing.T, m, n string) {
		unchanged, err := Preconditions(macronode.Header{"If-Match": {m}, "If-None-Match": {n}}, `"b3:aa"`)
		if err == nil && unchanged && !strings.Contains(n, "b3:aa") && !strings.Contains(n, "*") {
			t.Fatalf("%q %q: not modified", m, n)
		}
	})
}
