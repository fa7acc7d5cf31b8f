// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestReference keeps docs/configuration.md equal to the schema.
func TestReference(t *testing.T) {
	const path = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(path, Reference(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(Reference()) {
		t.Errorf("%s is not what the schema says: run go test ./internal/config -update", path)
	}
}

// every calls f with each key of the schema.
func every(f func(k *field)) {
	var walk func(*table)
	walk = func(t *table) {
		for _, k := range t.fields {
			f(k)
			if k.sub != nil {
				walk(k.sub)
			}
		}
	}
	walk(schema())
}

// TestSchema holds the tags to their own rules.
func TestSchema(t *testing.T) {
	known := map[string]bool{}
	for name := range forms() {
		known[name] = true
	}
	used := map[string]bool{}
	every(func(f *field) {
		if f.name == "" || f.name != strings.ToLower(f.name) || !strings.HasSuffix(f.doc, ".") {
			t.Errorf("%s: wants a lower-case name and a sentence", f.path)
		}
		if f.form != "" && !known[f.form] {
			t.Errorf("%s: no form %q", f.path, f.form)
		}
		used[f.form] = true
		switch f.apply {
		case Live, Rebind, Restart:
		default:
			t.Errorf("%s: apply %q", f.path, f.apply)
		}
		if f.lo > f.hi {
			t.Errorf("%s: range %d to %d", f.path, f.lo, f.hi)
		}
		if f.typeName() == "text" && f.form == "" && f.enum == nil && f.path != "meta.bundle_hash" && f.path != "policy.bundle_hash" && f.path != "policy.shadow_hash" {
			t.Errorf("%s: text without a form accepts anything", f.path)
		}
	})
	for name := range known {
		if !used[name] {
			t.Errorf("form %q is not used", name)
		}
	}
}

// TestDefaults: every default is a value that the key itself accepts.
func TestDefaults(t *testing.T) {
	for _, k := range Keys() {
		if k.Required || k.Default == `""` || strings.HasPrefix(k.Path, "oap.peers") {
			continue
		}
		if p := problemsOf(t, one(k.Path, k.Default)); p[k.Path] != "" {
			t.Errorf("default of %s: %s", k.Path, p[k.Path])
		}
	}
}

// one is a document of one key.
func one(path, value string) string {
	i := strings.LastIndexByte(path, '.')
	if path[:i] == "oap.peers" {
		return "[[oap.peers]]\n" + path[i+1:] + " = " + value + "\n"
	}
	return "[" + path[:i] + "]\n" + path[i+1:] + " = " + value + "\n"
}

// problemsOf returns the texts of all problems by key.
func problemsOf(t testing.TB, text string) map[string]string {
	t.Helper()
	_, err := Check([]byte(text), fileName, Features{})
	var e *Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%v is no *Error", err)
	}
	out := map[string]string{}
	if e == nil {
		return out
	}
	if e.ExitCode() != 3 {
		t.Errorf("exit code %d of %v", e.ExitCode(), err)
	}
	for _, p := range e.Problems {
		key := strings.ReplaceAll(p.Key, "[0]", "")
		out[key] += p.Text + "\n"
		if p.File != fileName {
			t.Errorf("no file in %q", p)
		}
	}
	return out
}

// typos returns every deletion, transposition and substitution of one letter, a
// sample of insertions, and changes of case.
func typos(name string) []string {
	const letters = "abcdefghijklmnopqrstuvwxyz_0"
	var out []string
	for i := range len(name) {
		if len(name) > 1 {
			out = append(out, name[:i]+name[i+1:])
		}
		if i+1 < len(name) {
			out = append(out, name[:i]+name[i+1:i+2]+name[i:i+1]+name[i+2:])
		}
		for _, l := range letters {
			out = append(out, name[:i]+string(l)+name[i+1:])
		}
		for _, l := range "ae_" {
			out = append(out, name[:i]+string(l)+name[i:])
		}
	}
	return append(out, name+"s", name+"_", strings.ToUpper(name), strings.ToUpper(name[:1])+name[1:])
}

// TestEveryTypo: a slip in any key's name is refused, and the refusal names the
// key that was meant. A slip that is another key of the same table cannot be told
// from that key, and is left out.
func TestEveryTypo(t *testing.T) {
	tried := 0
	var walk func(*table)
	walk = func(tb *table) {
		for _, f := range tb.fields {
			for _, wrong := range typos(f.name) {
				if tb.byName[wrong] != nil {
					continue
				}
				tried++
				path := join(tb.path, wrong)
				text := one("x."+wrong, "1")[len("[x]\n"):]
				switch {
				case tb.path == "":
					text = "[" + wrong + "]\n" // a section
				case tb.path == "oap.peers":
					text = "[[oap.peers]]\n" + text
				default:
					text = "[" + tb.path + "]\n" + text
				}
				got := problemsOf(t, text)[path]
				if !strings.Contains(got, "unknown") || !strings.Contains(got, "did you mean") || !strings.Contains(strings.ReplaceAll(got, "[0]", ""), strconv.Quote(f.path)) {
					t.Fatalf("%s for %s: got %q", path, f.path, got)
				}
			}
			if f.sub != nil {
				walk(f.sub)
			}
		}
	}
	walk(schema())
	if tried < 20000 {
		t.Errorf("only %d typos were tried", tried)
	}
}

// accepts lists the TOML types that a schema type reads.
func accepts(typ string) string {
	switch typ {
	case "boolean":
		return "bool"
	case "integer":
		return "int"
	case "size", "text or integer":
		return "int text"
	case "duration", "text":
		return "text"
	case "table":
		return "table"
	}
	return "list"
}

func TestWrongTypes(t *testing.T) {
	values := map[string]string{
		"int": "1", "bool": "true", "text": `"zzz"`, "list": "[]", "table": "{}", "float": "1.5", "inf": "inf",
		"date": "1979-05-27", "datetime": "1979-05-27T07:32:00Z", "time": "07:32:00",
	}
	every(func(f *field) {
		for typ, value := range values {
			if strings.Contains(accepts(f.typeName()), typ) {
				continue
			}
			doc := f.name + " = " + value
			if strings.Contains(f.path, ".") {
				doc = one(f.path, value)
			}
			got := problemsOf(t, doc)[f.path]
			if !strings.Contains(got, "want") {
				t.Errorf("%s = %s: got %q", f.path, value, got)
			}
			if (typ == "bool" || typ == "table") && !strings.Contains(got, f.want()) {
				t.Errorf("%s = %s: %q does not say what is accepted: %s", f.path, value, got, f.want())
			}
		}
		// Elements of lists are held to their type too.
		if f.typ.Kind() == reflect.Slice {
			if got := problemsOf(t, one(f.path, "[true]"))[f.path]; !strings.Contains(got, "found true or false; want") {
				t.Errorf("%s = [true]: got %q", f.path, got)
			}
		}
	})
}

func TestRanges(t *testing.T) {
	every(func(f *field) {
		var below, least, most, above string
		switch f.typeName() {
		case "integer":
			below, least, most, above = fmt.Sprint(f.lo-1), fmt.Sprint(f.lo), fmt.Sprint(f.hi), fmt.Sprint(f.hi+1)
		case "duration":
			q := func(n int64) string { return strconv.Quote(time.Duration(n).String()) }
			below, least, most, above = q(f.lo-1), q(f.lo), q(f.hi), q(f.hi+1)
			if f.lo == 0 {
				least = `"0s"`
			}
		case "size":
			below, least, most, above = fmt.Sprint(f.lo-1), strconv.Quote(Size(f.lo).String()), strconv.Quote(Size(f.hi).String()), strconv.Quote(Size(f.hi+1).String())
		default:
			return
		}
		for value, ok := range map[string]bool{below: false, least: true, most: true, above: false} {
			got := problemsOf(t, one(f.path, value))[f.path]
			if refused := strings.Contains(got, "want"); refused == ok {
				t.Errorf("%s = %s: accepted %v, got %q", f.path, value, !refused, got)
			}
			if !ok && !strings.Contains(got, f.want()) && !strings.Contains(got, "2^53-1") {
				t.Errorf("%s = %s: %q does not say what is accepted", f.path, value, got)
			}
		}
	})
}

func TestDuplicates(t *testing.T) {
	every(func(f *field) {
		if f.sub != nil || strings.HasPrefix(f.path, "oap.peers") {
			return
		}
		doc := one(f.path, `"x"`)
		doc += "# again\n" + doc[strings.IndexByte(doc, '\n')+1:]
		if got := problemsOf(t, doc)[f.path]; !strings.Contains(got, "duplicate: it already stands on line 2") {
			t.Errorf("%s twice: got %q", f.path, got)
		}
	})
}

// Every choice and every form refuses nonsense, and quotes it only where it
// cannot be a secret.
func TestForms(t *testing.T) {
	every(func(f *field) {
		if f.form == "label" { // any visible text
			return
		}
		if f.enum == nil && f.form == "" && f.typ.Kind() != reflect.Array {
			return
		}
		for _, nonsense := range []string{"\u0000", "no such", "KMS:", "hunter2://hunter2@hunter2/?x=hunter2"} {
			value := tomlText(nonsense)
			if f.typ.Kind() == reflect.Slice {
				value = "[" + value + "]"
			}
			got := problemsOf(t, one(f.path, value))[f.path]
			if !strings.Contains(got, "want") {
				t.Errorf("%s = %s: got %q", f.path, value, got)
			}
			if f.redact && strings.Contains(got, "hunter2") {
				t.Errorf("%s: the error tells the value: %q", f.path, got)
			}
		}
	})
}
