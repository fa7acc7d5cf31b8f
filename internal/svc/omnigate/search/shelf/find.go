// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shelf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/search"
	"github.com/blevesearch/bleve/v2/search/query"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/ask"
)

// maxExpand bounds the different words that a prefix may stand for, in one field.
const maxExpand = 1024

// Order is how hits are sorted.
type Order string

// The orders; each has its reverse. Equal ones are in the order of their addresses.
const (
	ByScore       Order = "score" // best first
	ByCreated     Order = "created"
	ByCreatedDesc Order = "-created"
	BySize        Order = "size"
	BySizeDesc    Order = "-size"
	ByName        Order = "name"
	ByNameDesc    Order = "-name"
)

// Orders are all of them.
func Orders() []Order {
	return []Order{ByScore, ByCreated, ByCreatedDesc, BySize, BySizeDesc, ByName, ByNameDesc}
}

func (o Order) sort() search.SortOrder {
	field := func(name string, t search.SortFieldType, desc bool) search.SearchSort {
		return &search.SortField{Field: name, Type: t, Desc: desc, Missing: search.SortFieldMissingLast}
	}
	id := &search.SortDocID{}
	switch o {
	case ByCreated, ByCreatedDesc:
		return search.SortOrder{field(fieldCreated, search.SortFieldAsNumber, o[0] == '-'), id}
	case BySize, BySizeDesc:
		return search.SortOrder{field(fieldSize, search.SortFieldAsNumber, o[0] == '-'), id}
	case ByName, ByNameDesc:
		return search.SortOrder{field(fieldNameID, search.SortFieldAsString, o[0] == '-'), id}
	}
	return search.SortOrder{&search.SortScore{Desc: true}, id}
}

// Request is one search.
type Request struct {
	Query  ask.Node   // nil: everything
	Filter []ask.Node // further conditions, which do not count for the score
	Order  Order
	Limit  int
	After  []string // Hit.Place of the last one before; nil: from the start
	// Marks asks for where the words are, Facets for counts.
	Marks  bool
	Facets []Facet
}

// Facet asks for counts of the hits: of each Field value (the most frequent Limit), or in
// each of Ranges.
type Facet struct {
	Name   string
	Field  ask.Field // Type, Size or Created
	Limit  int
	Ranges []Bucket
}

// Bucket is the hits with a value in [Min, Max).
type Bucket struct {
	Name     string
	Min, Max *int64
	Count    int
}

// Hit is one document that was found.
type Hit struct {
	Doc
	Score float64
	Place []string
	Parts []Fragment
}

// Result is what a search found.
type Result struct {
	Total  uint64
	Hits   []Hit
	Facets map[string][]Bucket
	Other  map[string]int // hits with further values
}

// Search finds documents. It ends with ctx.
func (x *Index) Search(ctx context.Context, r *Request) (res *Result, err error) {
	defer guard(&err)
	q, err := x.compile(r)
	if err != nil {
		return nil, err
	}
	req := bleve.NewSearchRequestOptions(q, r.Limit, 0, false)
	req.Sort = r.Order.sort()
	req.IncludeLocations = r.Marks
	if r.Order != ByScore {
		req.Score = bleve.ScoreNone
	}
	if r.After != nil {
		if len(r.After) != len(req.Sort) {
			return nil, errors.New("shelf: a place of another order")
		}
		req.SetSearchAfter(r.After)
	}
	for _, f := range r.Facets {
		req.AddFacet(f.Name, f.request())
	}
	found, err := x.b.SearchInContext(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	res = &Result{Total: found.Total, Hits: make([]Hit, 0, len(found.Hits)), Facets: map[string][]Bucket{}, Other: map[string]int{}}
	for _, f := range r.Facets {
		if got := found.Facets[f.Name]; got != nil {
			res.Facets[f.Name], res.Other[f.Name] = f.buckets(got)
		}
	}
	return res, x.load(res, found, r.Order, r.Marks)
}

// load reads the documents of the hits.
func (x *Index) load(res *Result, found *bleve.SearchResult, order Order, marks bool) error {
	raw, err := x.b.Advanced()
	if err != nil {
		return err
	}
	reader, err := raw.Reader()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { _ = reader.Close() }()
	for _, h := range found.Hits {
		doc, err := reader.Document(h.ID)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if doc == nil {
			continue // it went since
		}
		a, err := b3.Parse(h.ID)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		card, err := readCard(doc, a, marks)
		if err != nil {
			return err
		}
		hit := Hit{Doc: *card, Score: h.Score, Place: place(order, h)}
		if math.IsNaN(hit.Score) || math.IsInf(hit.Score, 0) {
			hit.Score = 0
		}
		if marks {
			hit.Parts = fragments(card, h.Locations)
		}
		res.Hits = append(res.Hits, hit)
	}
	return nil
}

// place is where the hit stands in the order.
func place(o Order, h *search.DocumentMatch) []string {
	switch {
	case o == ByScore:
		return []string{strconv.FormatFloat(h.Score, 'g', -1, 64), h.ID}
	case len(h.DecodedSort) == 2 && o != ByName && o != ByNameDesc:
		return []string{h.DecodedSort[0], h.ID}
	}
	return []string{h.Sort[0], h.ID}
}

func (f *Facet) request() *bleve.FacetRequest {
	req := bleve.NewFacetRequest(fieldOf(f.Field), f.Limit)
	if f.Ranges != nil {
		req.Size = len(f.Ranges)
	}
	for _, b := range f.Ranges {
		req.AddNumericRange(b.Name, number(b.Min), number(b.Max))
	}
	return req
}

func number(n *int64) *float64 {
	if n == nil {
		return nil
	}
	v := float64(*n)
	return &v
}

func (f *Facet) buckets(got *search.FacetResult) (list []Bucket, other int) {
	if f.Ranges == nil {
		for _, t := range got.Terms.Terms() {
			list = append(list, Bucket{Name: t.Term, Count: t.Count})
		}
		return list, got.Other
	}
	counts := map[string]int{}
	for _, n := range got.NumericRanges {
		counts[n.Name] = n.Count
	}
	for _, b := range f.Ranges {
		b.Count = counts[b.Name]
		list = append(list, b)
	}
	return list, 0
}

func fieldOf(f ask.Field) string {
	switch f {
	case ask.Title:
		return fieldTitle
	case ask.Name:
		return fieldName
	case ask.Type:
		return fieldType
	case ask.Size:
		return fieldSize
	case ask.Created:
		return fieldCreated
	}
	return fieldText
}

func (x *Index) compile(r *Request) (query.Query, error) {
	var must query.Query = query.NewMatchAllQuery()
	if r.Query != nil {
		var err error
		if must, err = x.node(r.Query); err != nil {
			return nil, err
		}
	}
	if len(r.Filter) == 0 {
		return must, nil
	}
	filters := make([]query.Query, 0, len(r.Filter))
	for _, f := range r.Filter {
		q, err := x.node(f)
		if err != nil {
			return nil, err
		}
		filters = append(filters, q)
	}
	b := query.NewBooleanQuery([]query.Query{must}, nil, nil)
	b.AddFilter(query.NewConjunctionQuery(filters))
	return b, nil
}

func (x *Index) node(n ask.Node) (query.Query, error) {
	switch n := n.(type) {
	case ask.And:
		return x.and(n)
	case ask.Or:
		list := make([]query.Query, 0, len(n))
		for _, c := range n {
			q, err := x.node(c)
			if err != nil {
				return nil, err
			}
			list = append(list, q)
		}
		d := query.NewDisjunctionQuery(list)
		d.SetMin(1)
		return d, nil
	case ask.Not:
		return x.and(ask.And{n})
	case ask.Phrase:
		return fields(n.Field, func(field string) (query.Query, error) {
			if n.Field == ask.Any && field != fieldText && !x.has(field, n.Terms[0]) {
				return nil, nil
			}
			return phrase(field, n.Terms), nil
		})
	case ask.Prefix:
		return fields(n.Field, func(field string) (query.Query, error) { return x.prefix(field, n.Start) })
	case ask.Fuzzy:
		return fields(n.Field, func(field string) (query.Query, error) {
			q := query.NewFuzzyQuery(n.Term)
			q.SetField(field)
			q.SetFuzziness(n.Edits)
			q.SetPrefix(1)
			return q, nil
		})
	case ask.Range:
		return between(n), nil
	case ask.TypeIs:
		if n.Major {
			q := query.NewPrefixQuery(n.Type)
			q.SetField(fieldType)
			return q, nil
		}
		return phrase(fieldType, []string{n.Type}), nil
	}
	return nil, fmt.Errorf("shelf: a node of type %T", n)
}

// and takes the negations apart from what must be there.
func (x *Index) and(n ask.And) (query.Query, error) {
	var must, not []query.Query
	for _, c := range n {
		if no, ok := c.(ask.Not); ok {
			q, err := x.node(no.Node)
			if err != nil {
				return nil, err
			}
			not = append(not, q)
			continue
		}
		q, err := x.node(c)
		if err != nil {
			return nil, err
		}
		must = append(must, q)
	}
	if len(not) == 0 {
		return query.NewConjunctionQuery(must), nil
	}
	if len(must) == 0 {
		must = []query.Query{query.NewMatchAllQuery()}
	}
	return query.NewBooleanQuery(must, nil, not), nil
}

type boostable interface {
	query.Query
	SetBoost(float64)
}

// fields asks in the field, or in text, title and name: what is in a title or a name says
// more.
func fields(f ask.Field, make func(field string) (query.Query, error)) (query.Query, error) {
	if f != ask.Any {
		return make(fieldOf(f))
	}
	var list []query.Query
	for _, e := range []struct {
		field string
		boost float64
	}{{fieldText, 1}, {fieldTitle, 2}, {fieldName, 3}} {
		q, err := make(e.field)
		if err != nil {
			return nil, err
		}
		if q == nil {
			continue // nothing in the field is so
		}
		if b, ok := q.(boostable); ok {
			b.SetBoost(e.boost)
		}
		list = append(list, q)
	}
	if len(list) == 1 {
		return list[0], nil
	}
	d := query.NewDisjunctionQuery(list)
	d.SetMin(1)
	return d, nil
}

// has reports whether the term stands in the field of any document: most words are in no
// title and no name, and then need not be looked for there. In doubt it does.
func (x *Index) has(field, term string) bool {
	dict, err := x.b.FieldDictRange(field, []byte(term), []byte(term))
	if err != nil {
		return true
	}
	defer func() { _ = dict.Close() }()
	e, err := dict.Next()
	return err != nil || e != nil
}

func phrase(field string, terms []string) query.Query {
	if len(terms) == 1 {
		q := query.NewTermQuery(terms[0])
		q.SetField(field)
		return q
	}
	return query.NewPhraseQuery(terms, field)
}

// prefix refuses one that stands for too many words before it costs anything.
func (x *Index) prefix(field, start string) (query.Query, error) {
	dict, err := x.b.FieldDictPrefix(field, []byte(start))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	n := 0
	for n <= maxExpand {
		e, err := dict.Next()
		if err != nil || e == nil {
			break
		}
		n++
	}
	if err := dict.Close(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if n > maxExpand {
		return nil, ErrTooBroad
	}
	q := query.NewPrefixQuery(start)
	q.SetField(field)
	return q, nil
}

func between(r ask.Range) query.Query {
	if r.Min > r.Max {
		return query.NewMatchNoneQuery()
	}
	low := float64(max(r.Min, 0)) // what is not stored is nowhere
	var high *float64
	if r.Max != math.MaxInt64 {
		v := float64(r.Max)
		high = &v
	}
	yes := true
	q := query.NewNumericRangeInclusiveQuery(&low, high, &yes, &yes)
	q.SetField(fieldOf(r.Field))
	return q
}

// Holders returns the addresses of the documents that have the name.
func (x *Index) Holders(name string) (list []b3.Addr, err error) {
	defer guard(&err)
	req := bleve.NewSearchRequestOptions(phrase(fieldNameID, []string{name}), 64, 0, false)
	req.Score = bleve.ScoreNone
	found, err := x.b.Search(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, h := range found.Hits {
		a, err := b3.Parse(h.ID)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		list = append(list, a)
	}
	return list, nil
}
