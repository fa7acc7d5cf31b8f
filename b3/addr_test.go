// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	good := "b3:" + strings.Repeat("0a", Size)
	a, err := Parse(good)
	if err != nil || a.String() != good {
		t.Fatalf("%v, %v", a, err)
	}
	for _, s := range []string{
		"", "b3:", good[:len(good)-1], good + "0", strings.ToUpper(good), "b3:" + strings.Repeat("0A", Size),
		"b2" + good[2:], "B3" + good[2:], " " + good[:len(good)-1], good[:len(good)-1] + "g", good[:len(good)-1] + "\n",
	} {
		if a, err := Parse(s); err == nil || a != (Addr{}) {
			t.Errorf("%q parses", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("b3:" + strings.Repeat("0f", Size))
	f.Add("b3:xyz")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err == nil && a.String() != s {
			t.Fatalf("%q comes back as %q", s, a)
		}
		var b Addr
		if text, _ := a.MarshalText(); b.UnmarshalText(text) != nil || b != a {
			t.Fatal("text does not come back")
		}
	})
}
