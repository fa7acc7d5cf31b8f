// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package field

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestTraceParent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for in, want := range map[string]string{
		good:                               good,
		"cc" + good[2:]:                    "cc" + good[2:],
		"cc" + good[2:] + "-more":          "cc" + good[2:],
		"cc" + good[2:] + "more":           "",
		good + "-more":                     "",
		good + " ":                         "",
		"ff" + good[2:]:                    "",
		strings.ToUpper(good):              "",
		good[:54]:                          "",
		strings.Replace(good, "-", "_", 1): "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		"": "",
	} {
		if got := TraceParent([]string{in}); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if TraceParent([]string{good, good}) != "" || TraceParent(nil) != "" {
		t.Error("two are none")
	}
}

func TestCorrID(t *testing.T) {
	for _, bad := range [][]string{nil, {""}, {"a b"}, {"a\n"}, {"é"}, {strings.Repeat("a", 65)}, {"a", "b"}} {
		if got := CorrID(bad); len(got) != 32 || !lowerHex(got) {
			t.Errorf("%q: %q", bad, got)
		}
	}
	if first := CorrID(nil); first == CorrID(nil) {
		t.Error("the same twice")
	}
}

func TestDischarges(t *testing.T) {
	if got, err := Discharges([]string{"a, b", ",c ,"}); err != nil || strings.Join(got, "|") != "a|b|c" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Discharges(nil); got != nil || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Discharges([]string{strings.Repeat("x,", MaxDischarges)}); err != nil {
		t.Error(err)
	}
	if _, err := Discharges([]string{strings.Repeat("x,", MaxDischarges), "y"}); err == nil || err.Kind != macronode.Malformed {
		t.Errorf("one too many: %v", err)
	}
}
