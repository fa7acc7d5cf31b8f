// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/internal/config/document"
	"github.com/rustyonions/macronode/internal/config/nearest"
	"github.com/rustyonions/macronode/internal/config/quantity"
)

const (
	embedded    = "embedded"
	maxElements = 1024     // of a list
	maxText     = 96 << 10 // bytes of one text
)

// decoder walks the schema beside the document.
type decoder struct {
	*document.Problems
	places map[string]int // dotted path -> line, of every value in the document
}

// decode fills c, which holds the defaults, from the document.
func decode(root *document.Node, c *Config, ps *document.Problems) map[string]int {
	d := &decoder{Problems: ps, places: map[string]int{}}
	d.table(schema(), root, reflect.ValueOf(c).Elem(), "")
	return d.places
}

// table decodes one table at path, which differs from the schema's where the
// table is an element of a list.
func (d *decoder) table(t *table, n *document.Node, v reflect.Value, path string) {
	for _, name := range sortedKeys(n.Table) {
		e := n.Table[name]
		if t.byName[name] == nil {
			d.unknown(t, name, e, path)
		}
	}
	for _, f := range t.fields {
		at := join(path, f.name)
		e := n.Table[f.name]
		switch {
		case e == nil && f.isTable():
			d.table(f.sub, &document.Node{}, v.Field(f.index), at)
		case e == nil && f.need:
			d.Bad(n.Line, at, "missing; want %s", f.want())
		case e != nil:
			d.places[at] = e.Line
			d.value(f, e.Val, v.Field(f.index), at)
		}
	}
}

func sortedKeys(m map[string]*document.Entry) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		return m[keys[i]].Line < m[keys[j]].Line || m[keys[i]].Line == m[keys[j]].Line && keys[i] < keys[j]
	})
	return keys
}

// unknown reports a key that the schema does not have.
func (d *decoder) unknown(t *table, name string, e *document.Entry, path string) {
	known := make([]string, 0, len(t.fields))
	for _, f := range t.fields {
		known = append(known, f.name)
	}
	what := "key"
	if path == "" && e.Val.Kind == document.Table {
		what = "section"
	}
	hint := didYouMean(name, path, known)
	if near := nearest.Names(name, known); len(near) == 0 || nearest.Distance(name, near[0]) > 2 {
		if elsewhere := keyNamed(name); elsewhere != "" {
			hint = fmt.Sprintf("; did you mean %q?", elsewhere)
		}
	}
	d.Bad(e.Line, join(path, name), "unknown %s%s", what, hint)
}

// keyNamed returns the path of the key with this last part, for one that stands
// in the wrong section; "" where there is none or more than one.
func keyNamed(name string) string {
	found := ""
	for _, k := range Keys() {
		if strings.HasSuffix(k.Path, "."+name) {
			if found != "" {
				return ""
			}
			found = k.Path
		}
	}
	return found
}

// value decodes one value. What the schema accepts is the same in every error.
func (d *decoder) value(f *field, n *document.Node, v reflect.Value, at string) {
	switch {
	case f.isTable():
		if d.is(n, document.Table, f, at) {
			d.table(f.sub, n, v, at)
		}
	case f.sub != nil:
		d.tables(f, n, v, at)
	case f.typ == reflect.TypeFor[time.Duration]():
		if d.is(n, document.Text, f, at) {
			x, err := quantity.ParseDuration(n.Text)
			d.number(f, n, v, at, int64(x), err)
		}
	case f.typ == reflect.TypeFor[Size]():
		if n.Kind == document.Number {
			d.number(f, n, v, at, n.Number, nil)
		} else if d.is(n, document.Text, f, at) {
			x, err := quantity.ParseSize(n.Text)
			d.number(f, n, v, at, int64(x), err)
		}
	case f.typ == reflect.TypeFor[Permits]():
		d.permits(f, n, v, at)
	case f.typ.Kind() == reflect.Slice:
		d.list(f, n, v, at)
	case f.typ.Kind() == reflect.Int64:
		if d.is(n, document.Number, f, at) {
			d.number(f, n, v, at, n.Number, nil)
		}
	case f.typ.Kind() == reflect.Bool:
		if d.is(n, document.Bool, f, at) {
			v.SetBool(n.Truth)
		}
	default:
		if d.is(n, document.Text, f, at) {
			d.text(f, n, v, at)
		}
	}
}

// is reports whether a value has the type that the key asks for.
func (d *decoder) is(n *document.Node, k document.Kind, f *field, at string) bool {
	if n.Kind != k {
		d.Bad(n.Line, at, "found %s; want %s", n.What(), f.want())
	}
	return n.Kind == k
}

func (d *decoder) number(f *field, n *document.Node, v reflect.Value, at string, x int64, err error) {
	switch {
	case err != nil:
		d.Bad(n.Line, at, "%q is not accepted; want %s", document.Shorten(n.Text), f.want())
	case x < f.lo || x > f.hi:
		found := strconv.FormatInt(x, 10)
		if n.Kind == document.Text {
			found = strconv.Quote(n.Text)
		}
		d.Bad(n.Line, at, "%s is out of range; want %s", found, f.want())
	default:
		v.SetInt(x)
	}
}

func (d *decoder) permits(f *field, n *document.Node, v reflect.Value, at string) {
	var p Permits
	var err error
	switch n.Kind {
	case document.Number:
		p = Permits{N: n.Number}
		if p.N < 1 || p.N > quantity.MaxPermits {
			d.Bad(n.Line, at, "%d is out of range; want %s", p.N, f.want())
			return
		}
	case document.Text:
		if p, err = quantity.ParsePermits(n.Text); err != nil {
			d.Bad(n.Line, at, "%q is not accepted; want %s", document.Shorten(n.Text), f.want())
			return
		}
	default:
		d.Bad(n.Line, at, "found %s; want %s", n.What(), f.want())
		return
	}
	v.Set(reflect.ValueOf(p))
}

// text decodes a text, a reference or a hash.
func (d *decoder) text(f *field, n *document.Node, v reflect.Value, at string) {
	if n.Text == "" {
		// Empty means "none" only where none is the default.
		if f.need || !v.IsZero() {
			d.Bad(n.Line, at, "must not be empty; want %s", f.want())
		}
		return
	}
	if !d.accepts(f, n, at) {
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(n.Text)); err != nil {
			d.Bad(n.Line, at, "%q is not accepted; want %s", document.Shorten(n.Text), f.want())
		}
		return
	}
	v.SetString(n.Text)
}

// accepts reports whether a text is one of the choices or of the form.
func (d *decoder) accepts(f *field, n *document.Node, at string) bool {
	if len(n.Text) > maxText {
		d.Bad(n.Line, at, "has %d bytes; at most %d are accepted", len(n.Text), maxText)
		return false
	}
	hint, ok := "", true
	switch {
	case f.enum != nil:
		ok = slices.Contains(f.enum, n.Text)
		hint = didYouMeanValue(n.Text, f.enum)
	case f.form != "":
		ok = forms()[f.form].ok(n.Text)
		if f.form == "service" {
			hint = didYouMeanValue(n.Text, ServiceNames())
		}
	}
	if ok {
		return true
	}
	if f.redact {
		d.Bad(n.Line, at, "the value is not accepted; want %s", f.want())
	} else {
		d.Bad(n.Line, at, "%q is not accepted; want %s%s", document.Shorten(n.Text), f.want(), hint)
	}
	return false
}

func didYouMeanValue(wrong string, known []string) string {
	if near := nearest.Names(wrong, known); len(near) > 0 {
		return fmt.Sprintf("; did you mean %q?", near[0])
	}
	return ""
}

// list decodes a list of texts or whole numbers, each of which stands once.
func (d *decoder) list(f *field, n *document.Node, v reflect.Value, at string) {
	if !d.is(n, document.List, f, at) || !d.fits(n, at) {
		return
	}
	seen := map[any]bool{}
	out := reflect.MakeSlice(f.typ, 0, len(n.List))
	for i, e := range n.List {
		place := at + "[" + strconv.Itoa(i) + "]"
		x := reflect.New(f.typ.Elem()).Elem()
		before := d.Len()
		switch {
		case f.typ.Elem().Kind() == reflect.Int64:
			if d.is(e, document.Number, f, place) {
				d.number(f, e, x, place, e.Number, nil)
			}
		case d.is(e, document.Text, f, place) && d.accepts(f, e, place):
			x.SetString(e.Text)
		}
		if d.Len() == before && seen[x.Interface()] {
			d.Bad(e.Line, place, "duplicate: it already stands in the list")
		}
		seen[x.Interface()] = true
		out = reflect.Append(out, x)
	}
	v.Set(out)
}

func (d *decoder) fits(n *document.Node, at string) bool {
	if len(n.List) > maxElements {
		d.Bad(n.Line, at, "the list has %d elements; at most %d are accepted", len(n.List), maxElements)
		return false
	}
	return true
}

// tables decodes a list of tables, inline or [[headed]].
func (d *decoder) tables(f *field, n *document.Node, v reflect.Value, at string) {
	if !d.is(n, document.List, f, at) || !d.fits(n, at) {
		return
	}
	out := reflect.MakeSlice(f.typ, len(n.List), len(n.List))
	for i, e := range n.List {
		place := at + "[" + strconv.Itoa(i) + "]"
		if d.is(e, document.Table, f, place) {
			d.table(f.sub, e, out.Index(i), place)
		}
	}
	v.Set(out)
}

// didYouMean is the end of an "unknown" text.
func didYouMean(wrong, path string, known []string) string {
	names := nearest.Names(wrong, known)
	if len(names) == 0 {
		if path == "" {
			return "; known: " + strings.Join(known, ", ")
		}
		return "; known in [" + path + "]: " + strings.Join(known, ", ")
	}
	full := make([]string, 0, len(names))
	for _, n := range names {
		full = append(full, `"`+join(path, n)+`"`)
	}
	return "; did you mean " + strings.Join(full, " or ") + "?"
}
