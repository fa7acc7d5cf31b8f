// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ask

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func word(s string) Phrase { return Phrase{Any, []string{s}} }

func TestParse(t *testing.T) {
	day := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC).UnixMilli()
	for q, want := range map[string]Node{
		"":                         nil,
		" .,; ":                    nil,
		"a":                        word("a"),
		"Budget Report":            And{word("budget"), word("report")},
		"a AND b":                  And{word("a"), word("b")},
		"a b OR c":                 Or{And{word("a"), word("b")}, word("c")},
		"a (b OR c)":               And{word("a"), Or{word("b"), word("c")}},
		"-a":                       Not{word("a")},
		"a NOT b":                  And{word("a"), Not{word("b")}},
		"+a":                       word("a"),
		`"a b"`:                    Phrase{Any, []string{"a", "b"}},
		"http.Server":              Phrase{Any, []string{"http", "server"}},
		"name:x title:y":           And{Phrase{Name, []string{"x"}}, Phrase{Title, []string{"y"}}},
		"repo*":                    Prefix{Any, "repo"},
		"text:repo*":               Prefix{Text, "repo"},
		"budget~":                  Fuzzy{Any, "budget", 1},
		"budget~2":                 Fuzzy{Any, "budget", 2},
		"type:text/*":              TypeIs{"text/", true},
		"type:text/html":           TypeIs{"text/html", false},
		"size:>1KiB":               Range{Size, 1025, math.MaxInt64},
		"size:<=1kB":               Range{Size, math.MinInt64, 1000},
		"size:7":                   Range{Size, 7, 7},
		"created:2026-11-24":       Range{Created, day, day + 86400_000 - 1},
		"created:>2026-11-24":      Range{Created, day + 86400_000, math.MaxInt64},
		"created:<2026-11-24":      Range{Created, math.MinInt64, day - 1},
		"OR":                       nil,
		"a OR":                     word("a"),
		"-":                        nil,
		`"http://x" y`:             And{Phrase{Any, []string{"http", "x"}}, word("y")},
		"京都":                       Phrase{Any, []string{"京", "都"}},
		"size:9223372036854775807": Range{Size, math.MaxInt64, math.MaxInt64},
	} {
		got, err := Parse(q)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %#v (%v), want %#v", q, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, q := range map[string]string{
		"long":            strings.Repeat("a", MaxBytes+1),
		"many words":      strings.Repeat("a ", MaxLeaves+1),
		"deep":            strings.Repeat("(", MaxDepth+1) + "a" + strings.Repeat(")", MaxDepth+1),
		"open":            "(a",
		"closed":          "a)",
		"quotation":       `"a`,
		"field":           "nmae:x",
		"short prefix":    "a*",
		"two word prefix": "a.bcd*",
		"short fuzzy":     "abc~",
		"short fuzzy 2":   "abcd~2",
		"many fuzzy":      strings.Repeat("abcde~ ", MaxFuzzy+1),
		"long phrase":     `"` + strings.Repeat("a ", MaxPhrase+1) + `"`,
		"size":            "size:many",
		"big size":        "size:99999999999TiB",
		"time":            "created:yesterday",
		"type":            "type:te xt/",
		"not utf-8":       "a\xff",
	} {
		n, err := Parse(q)
		if name == "type" {
			continue // the space ends it: text is a word
		}
		var e *Error
		if !errors.As(err, &e) || e.At > len(q) {
			t.Errorf("%s: %q is %v, %v", name, q, n, err)
		}
	}
	if _, err := Parse("nmae:x"); err == nil || !strings.Contains(err.Error(), "did you mean name") {
		t.Errorf("no suggestion: %v", err)
	}
}

// count walks a tree.
func count(t *testing.T, n Node, depth int) (leaves int) {
	if depth > 3*(MaxDepth+2) {
		t.Fatal("the tree is too deep")
	}
	switch n := n.(type) {
	case And:
		for _, c := range n {
			leaves += count(t, c, depth+1)
		}
	case Or:
		for _, c := range n {
			leaves += count(t, c, depth+1)
		}
	case Not:
		leaves = count(t, n.Node, depth+1)
	case Phrase:
		leaves = 1
		if len(n.Terms) == 0 || len(n.Terms) > MaxPhrase {
			t.Fatalf("a phrase of %d words", len(n.Terms))
		}
	case nil:
		t.Fatal("nothing within a tree")
	default:
		leaves = 1
	}
	return leaves
}

// FuzzParse: no query breaks the parser, and none gets past its limits.
func FuzzParse(f *testing.F) {
	for _, q := range []string{"", "a b", `"a b" -c OR (d e*) f~2`, "size:>1MiB created:2026", "name:x type:text/*", "((((", "))", `-"`, "NOT NOT a", "OR OR", "a:b", "-(-(-a))"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		n, err := Parse(q)
		if err != nil || n == nil {
			return
		}
		if len(q) > MaxBytes {
			t.Fatal("too long")
		}
		if c := count(t, n, 0); c > MaxLeaves {
			t.Fatalf("%d words", c)
		}
	})
}
