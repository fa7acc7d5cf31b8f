// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

func TestContentType(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string // "" is refused
	}{
		{nil, defaultContentType},
		{[]string{""}, defaultContentType},
		{[]string{"text/plain"}, "text/plain"},
		{[]string{" text/plain; charset=utf-8 "}, "text/plain; charset=utf-8"},
		{[]string{"text"}, ""},
		{[]string{"text/"}, ""},
		{[]string{"text/plain\r\nX: y"}, ""},
		{[]string{"text/pläin"}, ""},
		{[]string{"a/b", "c/d"}, ""},
		{[]string{"a/" + strings.Repeat("b", maxContentType)}, ""},
	} {
		h := macronode.Header{}
		if c.in != nil {
			h["Content-Type"] = c.in
		}
		got, err := contentType(h)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
}
