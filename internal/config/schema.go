// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/quantity"
)

// Apply is what a changed value needs to take effect.
type Apply string

// The ways a change is applied.
const (
	Live    Apply = "live"    // at reload, nothing is dropped
	Rebind  Apply = "rebind"  // at reload, a new listener beside the old one
	Restart Apply = "restart" // only at the next start
)

// field is one key of the schema.
type field struct {
	path   string // "server.tls.enabled"; of list elements "oap.peers.addr"
	name   string
	index  int // in the parent's struct
	typ    reflect.Type
	doc    string
	unit   string
	form   string
	enum   []string
	lo, hi int64 // both 0: no range
	apply  Apply
	need   bool
	redact bool
	sub    *table // of a table, or of the elements of a list of tables
}

// table is one table of the schema.
type table struct {
	path   string
	fields []*field
	byName map[string]*field
}

// schema returns the schema of a whole bundle, read from the tags of Config once.
// Nobody changes it.
var schema = sync.OnceValue(func() *table { return tableOf(reflect.TypeFor[Config](), "") })

func tableOf(t reflect.Type, path string) *table {
	out := &table{path: path, byName: map[string]*field{}}
	for i := range t.NumField() {
		sf := t.Field(i)
		name := sf.Tag.Get("key")
		f := &field{
			path: join(path, name), name: name, index: i, typ: sf.Type,
			doc: sf.Tag.Get("doc"), unit: sf.Tag.Get("unit"), form: sf.Tag.Get("form"),
			apply: Live, need: sf.Tag.Get("need") == "yes", redact: sf.Tag.Get("redact") == "yes",
		}
		if a := sf.Tag.Get("apply"); a != "" {
			f.apply = Apply(a)
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, "|")
		}
		f.lo, f.hi = bound(sf, "min", 0), bound(sf, "max", bundle.MaxInteger)
		switch {
		case sf.Type.Kind() == reflect.Struct && !isValue(sf.Type):
			f.sub = tableOf(sf.Type, f.path)
		case sf.Type.Kind() == reflect.Slice && sf.Type.Elem().Kind() == reflect.Struct:
			f.sub = tableOf(sf.Type.Elem(), f.path)
		}
		out.fields = append(out.fields, f)
		out.byName[name] = f
	}
	return out
}

// isValue reports whether a struct is one value rather than a table.
func isValue(t reflect.Type) bool {
	return t == reflect.TypeFor[bundle.Ref]() || t == reflect.TypeFor[Permits]()
}

// bound reads a min or max tag in the field's own notation. The tags are part of
// the program: a wrong one is a bug, which the schema test finds.
func bound(sf reflect.StructField, tag string, otherwise int64) int64 {
	s := sf.Tag.Get(tag)
	if s == "" {
		return otherwise
	}
	var n int64
	var err error
	switch sf.Type {
	case reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = quantity.ParseDuration(s)
		n = int64(d)
	case reflect.TypeFor[Size]():
		var z Size
		z, err = quantity.ParseSize(s)
		n = int64(z)
	default:
		n, err = strconv.ParseInt(s, 10, 64)
	}
	if err != nil {
		panic(fmt.Sprintf("config: field %s: tag %s: %v", sf.Name, tag, err))
	}
	return n
}

// isTable reports whether the key is a table of its own, rather than a value or
// a list of tables.
func (f *field) isTable() bool { return f.sub != nil && f.typ.Kind() == reflect.Struct }

// typeName is the type in the reference.
func (f *field) typeName() string {
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Permits]():
		return "text or integer"
	case reflect.TypeFor[[]string]():
		return "list of text"
	case reflect.TypeFor[[]int64]():
		return "list of integers"
	case reflect.TypeFor[[]Peer]():
		return "list of tables"
	}
	switch f.typ.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int64:
		return "integer"
	}
	if f.isTable() {
		return "table"
	}
	return "text"
}

// want says what the key accepts, for errors and the reference.
func (f *field) want() string {
	unit := ""
	if f.unit != "" {
		unit = " (" + f.unit + ")"
	}
	switch f.typeName() {
	case "duration":
		return fmt.Sprintf("a duration from %q to %q", quantity.FormatDuration(time.Duration(f.lo)), quantity.FormatDuration(time.Duration(f.hi)))
	case "size":
		return fmt.Sprintf("a size from %q to %q", Size(f.lo), Size(f.hi))
	case "integer":
		return fmt.Sprintf("a whole number from %d to %d%s", f.lo, f.hi, unit)
	case "list of integers":
		return fmt.Sprintf("a list of whole numbers from %d to %d", f.lo, f.hi)
	case "text or integer":
		return quantity.PermitsText
	case "boolean":
		if f.path == "policy.deny_by_default" {
			return "true"
		}
		return "true or false"
	case "table":
		return "a table"
	case "list of tables":
		return "a list of tables"
	case "list of text":
		return "a list of " + f.wantText()
	}
	return f.wantText()
}

func (f *field) wantText() string {
	switch {
	case f.enum != nil:
		return "one of " + quoteAll(f.enum)
	case f.typ == reflect.TypeFor[bundle.Digest]():
		return `a hash, "blake3:" and 64 lower-case hex digits`
	case f.form != "":
		return forms()[f.form].want
	}
	return "text"
}

func quoteAll(list []string) string {
	quoted := make([]string, 0, len(list))
	for _, s := range list {
		quoted = append(quoted, strconv.Quote(s))
	}
	return strings.Join(quoted, ", ")
}

// Key is one key of the reference.
type Key struct {
	Path     string // "server.tls.enabled"; of list elements "oap.peers.addr"
	Type     string // boolean, integer, duration, size, text, list of …
	Default  string // as TOML; "" where the key must be there or is empty
	Accepts  string // range, choice or form
	Unit     string
	Doc      string
	Apply    Apply
	Required bool
	Redacted bool
}

// Keys returns every key of a bundle in the order of the reference. Tables are
// not keys; the keys of list elements are.
func Keys() []Key {
	var keys []Key
	def := Default()
	add := func(f *field, v reflect.Value) {
		k := Key{
			Path: f.path, Type: f.typeName(), Accepts: f.want(), Unit: f.unit, Doc: f.doc,
			Apply: f.apply, Required: f.need, Redacted: f.redact,
		}
		if !f.need {
			k.Default = tomlValue(v)
		}
		keys = append(keys, k)
	}
	each(&def, func(f *field, v reflect.Value) {
		add(f, v)
		if f.sub != nil {
			for _, member := range f.sub.fields {
				add(member, reflect.Zero(member.typ))
			}
		}
	})
	return keys
}

// join puts a name behind a dotted path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
