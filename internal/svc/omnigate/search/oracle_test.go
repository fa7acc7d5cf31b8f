// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/ask"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/extract"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/words"
)

// The oracle answers a query by looking at every document: no index, no library.

type plain struct {
	Object
	stored      bool
	title, text string
	names       []string
}

// documents are what the tenant has, as the stores say.
func (w *world) documents(t macronode.TenantID) (list []plain) {
	w.mu.Lock()
	defer w.mu.Unlock()
	byName := map[b3.Addr][]string{}
	for n, a := range w.names[t] {
		byName[a] = append(byName[a], n)
	}
	for a, o := range w.objects[t] {
		d := plain{Object: o.Object, stored: true, names: byName[a]}
		d.title, d.text = extract.Text(extract.MediaType(o.ContentType), o.body)
		list = append(list, d)
		delete(byName, a)
	}
	for a, names := range byName {
		list = append(list, plain{Object: Object{Addr: a}, names: names})
	}
	return list
}

func (d *plain) fields(f ask.Field) []string {
	switch f {
	case ask.Text:
		return []string{d.text}
	case ask.Title:
		return []string{d.title}
	case ask.Name:
		return d.names
	}
	return append([]string{d.text, d.title}, d.names...)
}

// edits is how many characters are put, taken, changed, or swapped with their neighbour.
func edits(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
		for j := 1; j <= len(y); j++ {
			if i == 0 {
				rows[0][j] = j
				continue
			}
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}

func (d *plain) matches(n ask.Node) bool {
	any := func(f ask.Field, is func(terms []string) bool) bool {
		return slices.ContainsFunc(d.fields(f), func(v string) bool { return is(words.Terms(v)) })
	}
	switch n := n.(type) {
	case nil:
		return true
	case ask.And:
		return !slices.ContainsFunc(n, func(c ask.Node) bool { return !d.matches(c) })
	case ask.Or:
		return slices.ContainsFunc(n, d.matches)
	case ask.Not:
		return !d.matches(n.Node)
	case ask.Phrase:
		return any(n.Field, func(terms []string) bool {
			for i := 0; i+len(n.Terms) <= len(terms); i++ {
				if slices.Equal(terms[i:i+len(n.Terms)], n.Terms) {
					return true
				}
			}
			return false
		})
	case ask.Prefix:
		return any(n.Field, func(terms []string) bool {
			return slices.ContainsFunc(terms, func(t string) bool { return strings.HasPrefix(t, n.Start) })
		})
	case ask.Fuzzy:
		return any(n.Field, func(terms []string) bool {
			return slices.ContainsFunc(terms, func(t string) bool {
				return []rune(t)[0] == []rune(n.Term)[0] && edits(t, n.Term) <= n.Edits
			})
		})
	case ask.Range:
		v := d.Size
		if n.Field == ask.Created {
			v = d.CreatedMS
		}
		return d.stored && v >= max(n.Min, 0) && v <= n.Max
	case ask.TypeIs:
		media := extract.MediaType(d.ContentType)
		return d.stored && (media == n.Type || n.Major && strings.HasPrefix(media, n.Type))
	}
	panic(fmt.Sprintf("%T", n))
}

var vocabulary = []string{"alpha", "alpine", "beta", "betas", "gamma", "gammon", "delta", "delta_x", "Epsilon", "42", "4200", "köln", "KÖLN", "東京", "don't", "http.Server"}

func someWord(t *rapid.T) string { return rapid.SampledFrom(vocabulary).Draw(t, "word") }

func sentence(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.Custom(someWord), 0, 8).Draw(t, "words"), rapid.SampledFrom([]string{" ", ", ", "\n", " - "}).Draw(t, "space"))
}

// someQuery draws the text of a query.
func someQuery(t *rapid.T, depth int) string {
	leaf := func() string {
		w := someWord(t)
		switch rapid.IntRange(0, 9).Draw(t, "leaf") {
		case 0:
			return `"` + w + " " + someWord(t) + `"`
		case 1:
			return string([]rune(words.Terms(w)[0])[:min(2, len([]rune(words.Terms(w)[0])))]) + "*"
		case 2:
			return rapid.SampledFrom([]string{"alpah~", "alpha~2", "gamma~", "detla~2", "betas~1"}).Draw(t, "fuzzy")
		case 3:
			return rapid.SampledFrom([]string{"text:", "title:", "name:"}).Draw(t, "field") + w
		case 4:
			return rapid.SampledFrom([]string{"size:>20", "size:<=30", "size:0", "created:>2023-11-14T22:13:25Z", "created:2023", "type:text", "type:text/markdown", "type:application/json"}).Draw(t, "value")
		}
		return w
	}
	if depth == 0 {
		return leaf()
	}
	switch rapid.IntRange(0, 5).Draw(t, "node") {
	case 0:
		return someQuery(t, depth-1) + " OR " + someQuery(t, depth-1)
	case 1:
		return "(" + someQuery(t, depth-1) + ") " + someQuery(t, depth-1)
	case 2:
		return someQuery(t, depth-1) + " -" + leaf()
	case 3:
		return "NOT (" + someQuery(t, depth-1) + ")"
	}
	return leaf()
}

// TestOracle: random documents of two tenants, random changes, random queries. Each answer
// is what looking at the tenant's own documents gives: hits, counts, facets and all.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, "")
		defer w.stop()
		tenants := []macronode.TenantID{tenant(1), tenant(2)}
		var made []b3.Addr
		for range rapid.IntRange(1, 25).Draw(rt, "changes") {
			tn := rapid.SampledFrom(tenants).Draw(rt, "tenant")
			switch rapid.IntRange(0, 9).Draw(rt, "change") {
			case 0:
				if len(made) > 0 {
					w.drop(tn, rapid.SampledFrom(made).Draw(rt, "object"))
				}
			case 1, 2:
				if len(made) > 0 {
					w.name(tn, strings.ToLower(someWord(rt))+rapid.SampledFrom([]string{"", ".a", ".b"}).Draw(rt, "suffix"), rapid.SampledFrom(made).Draw(rt, "object"))
				}
			case 3:
				w.unname(tn, strings.ToLower(someWord(rt)))
			default:
				kind := rapid.SampledFrom([]string{"text/plain", "text/markdown", "text/html", "application/json", "image/png"}).Draw(rt, "type")
				body := sentence(rt)
				if kind == "text/markdown" {
					body = "# " + someWord(rt) + "\n" + body
				}
				made = append(made, w.put(tn, kind, body))
			}
		}
		for range 12 {
			q := someQuery(rt, rapid.IntRange(0, 3).Draw(rt, "depth"))
			n, err := ask.Parse(q)
			if err != nil {
				continue // too fuzzy, or the like: the parser's own tests say when
			}
			for _, tn := range tenants {
				compare(rt, w, tn, q, n)
			}
		}
	})
}

func compare(t *rapid.T, w *world, tn macronode.TenantID, q string, n ask.Node) {
	var want []string
	types := map[string]int64{}
	for _, d := range w.documents(tn) {
		if d.matches(n) {
			want = append(want, d.Addr.String())
			if d.stored {
				types[extract.MediaType(d.ContentType)]++
			}
		}
	}
	slices.Sort(want)
	r, err := w.ask(tn, q, "facets", "type")
	if err != nil {
		t.Fatalf("query %q: %v", q, err)
	}
	if got := addrs(r); !slices.Equal(got, want) || r.Total != uint64(len(want)) {
		t.Fatalf("query %q of %s finds %d of %d: got %v want %v", q, tn, len(got), len(want), got, want)
	}
	for _, c := range r.Facets["type"] {
		if types[c.Value] != c.Count {
			t.Fatalf("query %q: %d of type %s, want %d", q, c.Count, c.Value, types[c.Value])
		}
		delete(types, c.Value)
	}
	if len(types) > 0 {
		t.Fatalf("query %q: types that are not counted: %v", q, types)
	}
}

// FuzzTenants: whatever is asked, one tenant's answer is the same, to the byte, whether
// another tenant has documents or none.
func FuzzTenants(f *testing.F) {
	for _, q := range []string{"", "secret", "common", "sec*", "secert~2", "-common", "name:hidden", `"common secret"`, "type:text OR secret", "size:>1", "title:secret"} {
		f.Add(q, "type,size,created", "")
	}
	f.Add("common", "", "-size")
	alone, crowded := newWorld(f, ""), newWorld(f, "")
	one, two := tenant(1), tenant(2)
	for _, w := range []*world{alone, crowded} {
		for i := range 20 {
			w.put(one, []string{"text/plain", "text/markdown"}[i%2], fmt.Sprintf("common thing %d", i))
		}
		w.name(one, "mine.first", b3.Sum([]byte("common thing 1")))
	}
	for i := range 50 {
		crowded.put(two, "text/html", fmt.Sprintf("<title>secret</title>common secret canary%d", i))
		crowded.put(two, "text/plain", fmt.Sprintf("common thing %d", i)) // the same bytes, too
		crowded.name(two, fmt.Sprintf("hidden.name%d", i), b3.Sum(fmt.Appendf(nil, "common thing %d", i)))
	}
	crowded.mustAsk(two, "secret")
	f.Fuzz(func(t *testing.T, q, facets, order string) {
		args := []string{"highlight", "true", "facets", facets, "sort", order, "limit", "7"}
		a, errA := alone.ask(one, q, args...)
		b, errB := crowded.ask(one, q, args...)
		if fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Fatalf("query %q is answered %v beside another tenant, and %v alone", q, errB, errA)
		}
		for {
			a.TookMS, b.TookMS, a.LagMS, b.LagMS = 0, 0, 0, 0
			ja, _ := json.Marshal(a)
			jb, _ := json.Marshal(b)
			if !bytes.Equal(ja, jb) {
				t.Fatalf("query %q: another tenant changes the answer", q)
			}
			if bytes.Contains(jb, []byte("canary")) || bytes.Contains(jb, []byte("hidden")) {
				t.Fatalf("query %q shows another tenant's", q)
			}
			if errA != nil || a.Cursor == "" {
				return
			}
			if _, err := crowded.ask(two, q, append(args, "cursor", b.Cursor)...); err == nil {
				t.Fatalf("query %q: a cursor of one tenant is good for another", q)
			}
			more := append(args, "cursor", a.Cursor)
			a, errA = alone.ask(one, q, more...)
			if b, errB = crowded.ask(one, q, more...); errA != nil || errB != nil {
				t.Fatalf("query %q: its own cursor: %v, %v", q, errA, errB)
			}
		}
	})
}

// FuzzCursor: nothing but a cursor of this query is one.
func FuzzCursor(f *testing.F) {
	mark := markOf(tenant(1), "q")
	f.Add(writeCursor(mark, []string{"1.5", b3.Sum(nil).String()}))
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		place, err := readCursor(s, mark, "score")
		if err != nil {
			if macronode.KindOf(err) != macronode.Malformed {
				t.Fatal(err)
			}
			return
		}
		var v float64
		if _, err := fmt.Sscan(place[0], &v); err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Fatalf("a place at %q", place[0])
		}
		if writeCursor(mark, place) != s {
			t.Fatalf("%q is read as %q", s, place)
		}
		if _, err := readCursor(s, markOf(tenant(2), "q"), "score"); err == nil {
			t.Fatal("a cursor is good for another tenant")
		}
	})
}
