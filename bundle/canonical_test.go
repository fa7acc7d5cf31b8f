// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{ "b" : 1, "a" : [ true, null, "x" ] }`, `{"a":[true,null,"x"],"b":1}`},
		{`{"\u0061":"\u003c"}`, `{"a":"<"}`},
		{`{"s":"\u000f\u0008\n\u20ac\\\""}`, `{"s":"\u000f\b\n€\\\""}`},
		// RFC 8785 section 3.2.3: members sort by UTF-16 code unit.
		{
			`{"\u20ac":"Euro","\r":"CR","\ufb33":"Dalet","1":"One","\ud83d\ude00":"Grin","\u0080":"Control","\u00f6":"o"}`,
			"{\"\\r\":\"CR\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"o\",\"€\":\"Euro\",\"😀\":\"Grin\",\"\ufb33\":\"Dalet\"}",
		},
		{`9007199254740991`, `9007199254740991`},
		{`-9007199254740991`, `-9007199254740991`},
	} {
		got, err := CanonicalJSON([]byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("CanonicalJSON(%s) = %s, %v, want %s", c.in, got, err, c.want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, in := range []string{
		"", "{", "1.0", "1e3", "-0", "9007199254740992", "-9007199254740992", "1E400", `{"a":1,"a":1}`, "1 2",
		"\"\xff\"", strings.Repeat("[", 40) + strings.Repeat("]", 40), "NaN",
	} {
		if got, err := CanonicalJSON([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("CanonicalJSON(%q) = %s, %v, want ErrMalformed", in, got, err)
		}
	}
	for _, in := range []any{
		1.5, math.NaN(), int64(1 << 53), uint64(1 << 53), "\xff", map[string]any{"\xff": true}, struct{}{}, []byte("x"),
	} {
		if got, err := Canonical(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("Canonical(%v) = %s, %v, want ErrMalformed", in, got, err)
		}
	}
	// Members that differ by case are different members of a document.
	if _, err := CanonicalJSON([]byte(`{"User":1,"user":2}`)); err != nil {
		t.Errorf("members that differ by case: %v", err)
	}
}

// Canonical is a function of the document alone, and reads back as it.
func TestCanonicalProperties(t *testing.T) {
	leaf := rapid.OneOf(
		rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.Int64Range(-MaxInteger, MaxInteger).AsAny(),
	)
	tree := rapid.Custom(func(t *rapid.T) any {
		return rapid.MapOf(rapid.String(), rapid.OneOf(leaf, rapid.SliceOf(leaf).AsAny(), rapid.MapOf(rapid.String(), leaf).AsAny())).Draw(t, "doc")
	})
	rapid.Check(t, func(t *rapid.T) {
		doc := plain(tree.Draw(t, "tree"))
		canon, err := Canonical(doc)
		if err != nil {
			t.Fatal(err)
		}
		again, err := CanonicalJSON(canon)
		if err != nil || !bytes.Equal(again, canon) {
			t.Fatalf("not a fixed point: %s, %v", again, err)
		}
		dec := json.NewDecoder(bytes.NewReader(canon))
		dec.UseNumber()
		var back any
		if err := dec.Decode(&back); err != nil || !reflect.DeepEqual(numbers(back), doc) {
			t.Fatalf("reads back as %v, want %v", back, doc)
		}
	})
}

// plain turns the generator's maps and slices into the document types.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			m[k] = plain(e)
		}
		return m
	case []any:
		l := make([]any, 0, len(v))
		for _, e := range v {
			l = append(l, plain(e))
		}
		return l
	}
	return v
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return n
	case map[string]any:
		for k, e := range v {
			v[k] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	}
	return v
}

func TestDigest(t *testing.T) {
	// BLAKE3's published hash of no bytes.
	const empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	if d := Sum(nil); d.String() != empty {
		t.Errorf("Sum(nil) = %s", d)
	}
	d, err := ParseDigest(empty)
	if err != nil || d.String() != empty {
		t.Errorf("ParseDigest: %v, %v", d, err)
	}
	for _, bad := range []string{"", "blake3:", empty[7:], strings.ToUpper(empty), empty + "0", "blake3:" + strings.ToUpper(empty[7:]), "blake3:" + strings.Repeat("g", 64)} {
		if _, err := ParseDigest(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseDigest(%q): %v", bad, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range []string{"ops-release#v1/ed25519", "a.b_c#v9007199254740991/ml-dsa-65"} {
		if k, err := ParseKeyID(s); err != nil || k.String() != s {
			t.Errorf("ParseKeyID(%q) = %v, %v", s, k, err)
		}
	}
	for _, s := range []string{
		"", "a", "a#v1", "a#v1/", "a#v0/ed25519", "a#v01/ed25519", "a#v+1/ed25519", "A#v1/ed25519", "#v1/ed25519", "-a#v1/ed25519",
		"a#v1/rsa", "a#v9007199254740992/ed25519", "a#1/ed25519", strings.Repeat("a", 65) + "#v1/ed25519",
	} {
		if _, err := ParseKeyID(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseKeyID(%q): %v", s, err)
		}
	}
	for _, s := range []string{"KMS:key/tls", "KMS:obj/policy-bundle@v42"} {
		if r, err := ParseRef(s); err != nil || r.String() != s {
			t.Errorf("ParseRef(%q) = %v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "key/tls", "kms:key/tls", "KMS:blob/x", "KMS:key/", "KMS:key/a@v0", "KMS:key/a@", "KMS:key/a@v1@v2", "KMS:key/a/b", "KMS:key/A"} {
		if _, err := ParseRef(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseRef(%q): %v", s, err)
		}
	}
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",null]}`, `"\ud83d\ude00"`, `-0`, `1e1`, `{"\u0000":{}}`, `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		canon, err := CanonicalJSON(text)
		if err != nil {
			return
		}
		if again, err := CanonicalJSON(canon); err != nil || !bytes.Equal(again, canon) {
			t.Fatalf("not a fixed point: %q, %v", again, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	doc := map[string]any{"server": map[string]any{"bind": "0.0.0.0:8080", "max_conns": int64(10000)}, "meta": map[string]any{"version": int64(12)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Hash(doc); err != nil {
			b.Fatal(err)
		}
	}
}
