// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package document

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestRead(t *testing.T) {
	const text = `a = 1
b.c = "x"
b.d = [ 1,
  0x1F, # a comment
  "é\u20ac" ]
[t]
i = { k = true, m.n = 1_000 }
[[l]]
x = 1
[[l]]
x = 2
[l.sub]
y = -3
[t.deep.er]
z = '''
raw'''
`
	ps := NewProblems("f")
	root := Read([]byte(text), ps)
	if err := ps.Err(); err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := toml.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if got := root.Value(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for path, line := range map[string]int{"a": 1, "b.c": 2, "b.d": 3, "t": 6, "t.i": 7, "t.deep": 14, "t.deep.er.z": 15} {
		n := root
		for name := range strings.SplitSeq(path, ".") {
			n = n.Get(name)
		}
		if n == nil || n.Line != line {
			t.Errorf("%s: got %+v, want line %d", path, n, line)
		}
	}
	if e := root.Get("b").Get("d").List; e[1].Line != 4 || e[2].Line != 5 || text[e[1].Start:e[1].End] != "0x1F" {
		t.Errorf("elements %+v", e)
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"a = 1\na = 2\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"[a]\nb = 1\n[a]\nc = 1\n", `f:3: key "a": duplicate: it already stands on line 1`},
		{"[a]\nb = 1\n[a.b]\n", `f:3: key "a.b": duplicate: it already stands on line 2`},
		{"[a.b]\nc = 1\n[a]\nb.d = 1\n", `f:4: key "a.b": duplicate: it already stands on line 1`},
		{"a = { b = 1, b = 2 }\n", `f:1: key "a.b": duplicate: it already stands on line 1`},
		{"a = { b.c = 1 }\na.b.d = 1\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"a = { b.c = 1, b.c = 1 }\n", `f:1: key "a.b.c": duplicate: it already stands on line 1`},
		{"a.b = 1\n[a]\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"a = []\n[[a]]\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"[[a]]\n[a]\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"[a]\n[[a]]\n", `f:2: key "a": duplicate: it already stands on line 1`},
		{"[[a]]\nb = 1\n[[a]]\nb = 1\nb = 2\n", `f:5: key "a[1].b": duplicate: it already stands on line 4`},
		{"[[a]]\n[a.b]\n[a.b]\n", `f:3: key "a[0].b": duplicate: it already stands on line 2`},
		{"a = 1\nb = \n", "f:2: not TOML: "},
		{"a = 1\n\xff = 1\n", "f:2: not TOML: "},
		{"\"a", "f:1: not TOML: "},
		{"a = 08\n", "f:1: not TOML: "},
		{strings.Repeat("a.", 20) + "a = 1\n", "nested deeper than 16"},
		{"[" + strings.Repeat("a.", 20) + "a]\n", "nested deeper than 16"},
		{"a = " + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "\n", "nested more than"},
		{strings.Repeat("#", MaxTextBytes+1), "262145 bytes; at most 262144"},
	} {
		ps := NewProblems("f")
		Read([]byte(c.text), ps)
		err := ps.Err()
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Class != ClassBad {
			t.Errorf("%.60q: got %v, want %s", c.text, err, c.want)
		}
	}
	// What a signed document cannot hold is kept for the reader that knows the
	// schema, and refused by those that do not.
	for text, what := range map[string]string{
		"a = 1.5": "a float", "a = nan": "a float", "a = 1979-05-27": "a TOML date or time", "a = 07:32:00": "a TOML date or time",
		"a = 9007199254740992": "beyond 2^53-1", "a = -9007199254740992": "beyond 2^53-1", "a = 0xFFFFFFFFFFFFFFFF": "",
		"a = [[1.5]]": "a float", "a = { b = 1.5 }": "a float",
		"a = " + strings.Repeat("[", 30) + strings.Repeat("]", 30): "nested deeper than 16",
	} {
		if _, err := ReadMeta([]byte(text+"\n"), "f"); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%.40q: got %v, want %q", text, err, what)
		}
	}
}

// A hopeless file is answered with a bounded text.
func TestManyProblems(t *testing.T) {
	ps := NewProblems("f")
	Read([]byte(strings.Repeat("a = 1\n", 5000)), ps)
	err := ps.Err()
	if n := strings.Count(err.Error(), "\n"); n != maxProblems || !strings.HasSuffix(err.Error(), "and 4799 more") {
		t.Errorf("%d lines, the last %q", n, err.Error()[len(err.Error())-20:])
	}
	long := strings.Repeat("é", 5000)
	if s := (Problem{File: "f", Key: long}).String(); len(s) > 1000 {
		t.Errorf("a key of %d bytes is quoted in full", len(long))
	}
}

func TestSeal(t *testing.T) {
	const hash = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	for _, c := range []struct {
		name, text, want string // HASH stands for the right hash
		version          uint64
		signer           string
	}{
		{"fills in", "[meta] # m\nversion = 1 # v\nbundle_hash = \"blake3:...\" # h\n", "[meta] # m\nversion = 1 # v\nbundle_hash = \"HASH\" # h\n", 0, ""},
		{"replaces all", "[meta]\nbundle_hash = '" + hash + "'\nsigner='x'\nversion = 1_0\n", "[meta]\nbundle_hash = \"HASH\"\nsigner=\"KMS:key/k\"\nversion = 11\n", 11, "KMS:key/k"},
		{"adds", "# c\n[meta]\n[b]\nbundle_hash = 'x'\n", "# c\n[meta]\nbundle_hash = \"HASH\"\nsigner = \"KMS:key/k\"\nversion = 2\n[b]\nbundle_hash = 'x'\n", 2, "KMS:key/k"},
		{"adds at the end", "[meta]", "[meta]\nbundle_hash = \"HASH\"\n", 0, ""},
		{"CRLF", "[meta]\r\nversion = 1\r\n", "[meta]\r\nbundle_hash = \"HASH\"\r\nversion = 1\r\n", 0, ""},
		{"inline", "meta = { version = 1, bundle_hash = \"\" }\n", "meta = { version = 1, bundle_hash = \"HASH\" }\n", 0, ""},
		{"dotted", "meta.bundle_hash = \"\"\n", "meta.bundle_hash = \"HASH\"\n", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Seal([]byte(c.text), c.version, c.signer)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ReadMeta(got, "f")
			if err != nil || m.Hash != m.Document {
				t.Fatalf("hash %v, document's %v, %v", m.Hash, m.Document, err)
			}
			if want := strings.ReplaceAll(c.want, "HASH", m.Hash.String()); string(got) != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if again, err := Seal(got, 0, ""); err != nil || string(again) != string(got) {
				t.Errorf("sealing twice changes: %v\n%s", err, again)
			}
		})
	}
	for name, text := range map[string]string{
		"no meta": "a = 1\n", "meta is text": "meta = 'x'\n", "syntax": "[meta\n", "duplicate": "[meta]\nversion = 1\nversion = 2\n",
		"inline without the key": "meta = {}\n", "hash is a list": "[meta]\nbundle_hash = []\n", "float": "[meta]\nx = 1.0\n",
	} {
		if got, err := Seal([]byte(text), 0, ""); err == nil {
			t.Errorf("%s: sealed as\n%s", name, got)
		}
	}
	if _, err := Seal([]byte("[meta]\n"), 0, "nobody"); err == nil {
		t.Error("a signer that is no reference was written")
	}
	if _, err := Seal([]byte("[meta]\n"), 1<<53, ""); err == nil {
		t.Error("a version beyond 2^53-1 was written")
	}
}

// FuzzRead compares with go-toml's own decoder: what both accept means the same,
// and nothing is accepted that go-toml refuses.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"a = 1\n[b]\nc = 'x'\n", "[[a]]\nx = 1\n[[a]]\n[a.b]\n", "a.b.c = [1, {d = 2}]\n", "a = 0b101\nb = 1_0\nc = +7\n",
		"[a.b]\n[a]\nc = 1\n", "a = {}\n[a.b]\n", "'' = 1\n\"a.b\" = 2\n", "[a]\nb.c = 1\n[a.b]\n", "a = 1.0\n", "a = [\n1,\n]\n", "a = \"\"\"\n\\\n  x\"\"\"\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ps := NewProblems("f")
		root := Read(text, ps)
		if ps.Err() != nil {
			return
		}
		var want map[string]any
		if err := toml.Unmarshal(text, &want); err != nil {
			t.Fatalf("accepted, but go-toml says %v", err)
		}
		refuseUnusable(root, "", ps)
		if ps.Err() != nil {
			return
		}
		if want == nil {
			want = map[string]any{}
		}
		if got := root.Value(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %#v\nwant %#v", got, want)
		}
		sealed, err := Seal(text, 7, "KMS:key/k")
		if err != nil {
			return
		}
		if m, err := ReadMeta(sealed, "f"); err != nil || m.Hash != m.Document || m.Version != 7 || m.Signer != "KMS:key/k" {
			t.Fatalf("sealed wrongly: %+v, %v\n%s", m, err, sealed)
		}
	})
}
