// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package words

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTerms(t *testing.T) {
	for text, want := range map[string][]string{
		"":                      nil,
		"Hello, World":          {"hello", "world"},
		"net/http.Server_X":     {"net", "http", "server_x"},
		"ÄÖÜ straße":            {"äöü", "straße"},
		"東京 tower":              {"東", "京", "tower"},
		"a東b":                   {"a", "東", "b"},
		"x1 2y":                 {"x1", "2y"},
		"\xff\xfea\xffb":        {"a", "b"},
		strings.Repeat("a", 99): {strings.Repeat("a", MaxTermBytes)},
	} {
		if got := Terms(text); !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// FuzzEach: words lie in the text, in order, and their terms are short and whole.
func FuzzEach(f *testing.F) {
	f.Add([]byte("Hello 東京 x\xff y"))
	f.Add([]byte(strings.Repeat("ß", 100)))
	f.Fuzz(func(t *testing.T, text []byte) {
		last := 0
		Each(text, func(w Word) bool {
			if w.Start < last || w.End <= w.Start || w.End > len(text) {
				t.Fatalf("a word at %d-%d after %d", w.Start, w.End, last)
			}
			last = w.End
			if len(w.Term) == 0 || len(w.Term) > MaxTermBytes || !utf8.Valid(w.Term) {
				t.Fatalf("term %q", w.Term)
			}
			return true
		})
	})
}
