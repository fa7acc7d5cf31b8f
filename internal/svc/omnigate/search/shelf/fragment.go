// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shelf

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blevesearch/bleve/v2/search"
)

const (
	maxFragments  = 3   // a hit
	fragmentBytes = 160 // about
	maxMarks      = 256 // places that are looked at, a field
)

// Fragment is a piece of a field. Every second part, from the second on, is what was
// searched for.
type Fragment struct {
	Field string
	Parts []string
}

// mark is one place of a word.
type mark struct {
	start, end int
	term       string
}

// fragments shows where the words of a hit are.
func fragments(d *Doc, found search.FieldTermLocationMap) []Fragment {
	var list []Fragment
	for i, name := range d.Names {
		if m := marks(found[fieldName], name, uint64(i), true); len(m) > 0 && len(list) < maxFragments {
			list = append(list, Fragment{fieldName, parts(name, 0, len(name), m)})
		}
	}
	if m := marks(found[fieldTitle], d.Title, 0, false); len(m) > 0 && len(list) < maxFragments {
		list = append(list, Fragment{fieldTitle, parts(d.Title, 0, len(d.Title), m)})
	}
	m := marks(found[fieldText], d.Text, 0, false)
	for _, w := range windows(m, maxFragments-len(list)) {
		from, to := widen(d.Text, w[0].start, w[len(w)-1].end)
		list = append(list, Fragment{fieldText, parts(d.Text, from, to, w)})
	}
	return list
}

// marks are the places in one value of a field, in order, without overlap.
func marks(terms search.TermLocationMap, text string, at uint64, several bool) []mark {
	var list []mark
	for term, places := range terms {
		for i, l := range places {
			if i == maxMarks {
				break
			}
			if several && (len(l.ArrayPositions) == 0 || l.ArrayPositions[0] != at) {
				continue
			}
			if l.Start < l.End && l.End <= uint64(len(text)) {
				list = append(list, mark{int(l.Start), int(l.End), term})
			}
		}
	}
	slices.SortFunc(list, func(a, b mark) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	kept := list[:0]
	for _, m := range list {
		if len(kept) == 0 || m.start >= kept[len(kept)-1].end {
			kept = append(kept, m)
		}
	}
	return kept
}

// windows are up to n groups of marks that fit into a fragment, those with the most
// different words, in their order.
func windows(list []mark, n int) [][]mark {
	type window struct {
		marks    []mark
		distinct int
	}
	var all []window
	for i := 0; i < len(list); {
		j := i
		terms := map[string]bool{}
		for j < len(list) && list[j].end-list[i].start <= fragmentBytes {
			terms[list[j].term] = true
			j++
		}
		if j == i {
			j++ // a word longer than a fragment
		}
		all = append(all, window{list[i:j], len(terms)})
		i = j
	}
	slices.SortStableFunc(all, func(a, b window) int {
		return cmp.Or(cmp.Compare(b.distinct, a.distinct), cmp.Compare(len(b.marks), len(a.marks)))
	})
	all = all[:min(len(all), n)]
	slices.SortFunc(all, func(a, b window) int { return cmp.Compare(a.marks[0].start, b.marks[0].start) })
	out := make([][]mark, len(all))
	for i, w := range all {
		out[i] = w.marks
	}
	return out
}

// widen makes room around [from, to), up to a fragment's length and at spaces.
func widen(text string, from, to int) (int, int) {
	spare := max(fragmentBytes-(to-from), 40) / 2
	low, high := max(from-spare, 0), min(to+spare, len(text))
	for low > 0 && low < from && !utf8.RuneStart(text[low]) {
		low++
	}
	for high < len(text) && !utf8.RuneStart(text[high]) {
		high++
	}
	if low > 0 {
		if i := strings.IndexAny(text[low:from], " \t\r\n"); i >= 0 {
			low += i + 1
		}
	}
	if high < len(text) {
		if i := strings.LastIndexAny(text[to:high], " \t\r\n"); i >= 0 {
			high = to + i
		}
	}
	return low, high
}

func parts(text string, from, to int, list []mark) []string {
	out := make([]string, 0, 2*len(list)+1)
	at := from
	for _, m := range list {
		out = append(out, text[at:m.start], text[m.start:m.end])
		at = m.end
	}
	return append(out, text[at:to])
}
