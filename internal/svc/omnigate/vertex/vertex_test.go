// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package vertex

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

const object = "object/b3:00000000000000000000000000000000000000000000000000000000000000ff"

func TestParse(t *testing.T) {
	for _, good := range []string{"name/alice", "name/straße.example", object, "id/42", "id/Ünïcode with space", "id/" + strings.Repeat("x", MaxIDBytes), "name/" + strings.Repeat("x", MaxNameBytes)} {
		v, err := Parse(good, nil)
		if err != nil || string(v) != good {
			t.Errorf("%.40q: %v, %v", good, v, err)
		}
	}
	for _, bad := range []string{"", "alice", "name/", "id/", "object/", "name/Alice", "name/a b", "id/a\x00b", "id/\xff", "id/a\nb", "user/alice", strings.ToUpper(object), object + "0", object[:len(object)-1],
		"id/" + strings.Repeat("x", MaxIDBytes+1), "name/" + strings.Repeat("x", MaxNameBytes+1), "name/" + strings.Repeat("x", 10_000)} {
		if v, err := Parse(bad, nil); err == nil || macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%.40q: %v, %v", bad, v, err)
		}
	}
	v, err := Parse("name/ALICE", func(s string) (string, error) { return strings.ToLower(s), nil })
	if err != nil || v != "name/alice" {
		t.Errorf("%v, %v", v, err)
	}
	refused := errors.New("refused")
	if _, err := Parse("name/x", func(string) (string, error) { return "", refused }); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
}

// FuzzKey: every vertex comes back from its key, with what followed it, and no
// vertex's key is the beginning of another's.
func FuzzKey(f *testing.F) {
	f.Add("id/1", "id/12", []byte("rest"))
	f.Add("name/a", object, []byte{0})
	f.Add("id/a", "name/a", []byte{})
	f.Fuzz(func(t *testing.T, a, b string, rest []byte) {
		va, err := Parse(a, nil)
		if err != nil {
			return
		}
		key := va.AppendKey(nil)
		back, left, ok := CutKey(append(bytes.Clone(key), rest...))
		if !ok || back != va || !bytes.Equal(left, rest) {
			t.Fatalf("%q came back as %q, %v", va, back, ok)
		}
		if vb, err := Parse(b, nil); err == nil && vb != va && bytes.HasPrefix(vb.AppendKey(nil), key) {
			t.Fatalf("%q begins %q", va, vb)
		}
		if v, left, ok := CutKey(rest); ok { // whatever is read is written so
			if again := append(v.AppendKey(nil), left...); !bytes.Equal(again, rest) {
				t.Fatalf("%x was read as %q", rest, v)
			}
		}
	})
}
