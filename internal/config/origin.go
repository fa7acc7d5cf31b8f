// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
)

// OriginKind says what kind of place a value comes from.
type OriginKind string

// The kinds of origin.
const (
	FromDefault OriginKind = "default"
	FromFile    OriginKind = "file" // Where is FILE:LINE
	FromFlag    OriginKind = "flag" // Where is the flag
	FromEnv     OriginKind = "env"  // Where is the variable
)

// Origin says where a value comes from.
type Origin struct {
	Kind  OriginKind
	Where string
}

func (o Origin) String() string {
	switch o.Kind {
	case FromFlag, FromEnv:
		return string(o.Kind) + " " + o.Where
	case FromFile:
		return o.Where
	}
	return string(FromDefault)
}

// Value is one effective setting, fit to be shown: what may hold a secret is
// redacted.
type Value struct {
	Key    string
	TOML   string // the value as a bundle has it
	JSON   any
	Origin Origin
	Apply  Apply
}

// Values returns every setting in the order of the reference.
func (l *Loaded) Values() []Value {
	values := make([]Value, 0, 128)
	each(&l.Config, func(f *field, v reflect.Value) {
		o, ok := l.Origins[f.path]
		if !ok {
			o = Origin{Kind: FromDefault}
		}
		toml, js := tomlValue(v), jsonValue(v)
		if f.redact {
			s := redact(v.String())
			toml, js = tomlText(s), s
		}
		values = append(values, Value{Key: f.path, TOML: toml, JSON: js, Origin: o, Apply: f.apply})
	})
	return values
}

// each visits every key of c that is not a table, in the order of the reference:
// the keys of a table stand before the tables below it, as TOML wants them.
func each(c *Config, visit func(f *field, v reflect.Value)) {
	var walk func(t *table, v reflect.Value)
	walk = func(t *table, v reflect.Value) {
		for _, f := range t.fields {
			if !f.isTable() {
				visit(f, v.Field(f.index))
			}
		}
		for _, f := range t.fields {
			if f.isTable() {
				walk(f.sub, v.Field(f.index))
			}
		}
	}
	walk(schema(), reflect.ValueOf(c).Elem())
}

const redacted = "REDACTED"

// redact hides user information and query values of a URL; other values of such
// keys name a place, not a secret.
func redact(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(redacted)
	}
	q := u.Query()
	for name, values := range q {
		for i, v := range values {
			if name != "endpoint" && name != "region" && !strings.HasPrefix(v, "KMS:") {
				q[name][i] = redacted
			}
		}
	}
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u.String()
}

// PrintText writes the effective config as TOML, each value with its origin as a
// comment.
func (l *Loaded) PrintText(w io.Writer) error {
	section := ""
	var b strings.Builder
	for _, v := range l.Values() {
		table, name := "", v.Key
		if i := strings.LastIndexByte(v.Key, '.'); i >= 0 {
			table, name = v.Key[:i], v.Key[i+1:]
		}
		if table != section {
			if section != "" {
				b.WriteByte('\n')
			}
			section = table
			fmt.Fprintf(&b, "[%s]\n", table)
		}
		fmt.Fprintf(&b, "%-40s # %s\n", name+" = "+v.TOML, v.Origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PrintJSON writes the effective config as one JSON object:
// {"version","bundle_hash","values":[{"key","value","origin","apply"}]}.
func (l *Loaded) PrintJSON(w io.Writer) error {
	type entry struct {
		Key    string `json:"key"`
		Value  any    `json:"value"`
		Origin string `json:"origin"`
		Apply  Apply  `json:"apply"`
	}
	doc := struct {
		Version uint64  `json:"version"`
		Hash    string  `json:"bundle_hash"`
		Values  []entry `json:"values"`
	}{Version: l.Version, Hash: l.Hash.String()}
	for _, v := range l.Values() {
		doc.Values = append(doc.Values, entry{v.Key, v.JSON, v.Origin.String(), v.Apply})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// Difference is one key whose value differs between two configs.
type Difference struct {
	Key   string `json:"key"`
	Old   string `json:"old"` // as TOML, redacted
	New   string `json:"new"`
	Apply Apply  `json:"apply"`
}

// Diff returns the keys whose values differ, in the order of the reference.
func Diff(old, now *Config) []Difference {
	var out []Difference
	before := map[string]reflect.Value{}
	each(old, func(f *field, v reflect.Value) { before[f.path] = v })
	each(now, func(f *field, v reflect.Value) {
		b := before[f.path]
		if same(b, v) {
			return
		}
		d := Difference{Key: f.path, Old: tomlValue(b), New: tomlValue(v), Apply: f.apply}
		if f.redact {
			d.Old, d.New = tomlText(redact(b.String())), tomlText(redact(v.String()))
		}
		out = append(out, d)
	})
	return out
}

// same compares values; an absent and an empty list are the same.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// Change is what a reload has to do, as the paths of the keys that changed.
type Change struct{ Live, Rebind, Restart []string }

// Compare sorts the differences by what they need.
func Compare(old, now *Config) Change {
	var c Change
	for _, d := range Diff(old, now) {
		switch d.Apply {
		case Rebind:
			c.Rebind = append(c.Rebind, d.Key)
		case Restart:
			c.Restart = append(c.Restart, d.Key)
		default:
			c.Live = append(c.Live, d.Key)
		}
	}
	return c
}
