// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mark

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func hash(i int) string { return fmt.Sprintf("blake3:%064x", i) }

// known is a source with a fixed mark.
type known struct {
	mark Mark
	err  error
}

func (k known) Name() string        { return "a test" }
func (k known) Mark() (Mark, error) { return k.mark, k.err }

func TestJudge(t *testing.T) {
	m := Mark{Version: 5, Hash: hash(5), Chain: []string{hash(3), hash(5)}}
	except := Mark{Version: 5, Hash: hash(5), Chain: []string{hash(3), hash(5), hash(4)}, Exception: &Bundle{Version: 4, Hash: hash(4)}}
	for _, c := range []struct {
		name string
		mark Mark
		b    Bundle
		want error
	}{
		{"the same again", m, Bundle{5, hash(5), ""}, nil},
		{"what follows", m, Bundle{6, hash(6), hash(5)}, nil},
		{"what follows an earlier one", m, Bundle{7, hash(7), hash(3)}, nil},
		{"an older one", m, Bundle{4, hash(4), hash(3)}, ErrLower},
		{"an older one that was in force", m, Bundle{3, hash(3), ""}, ErrLower},
		{"the same version, other content", m, Bundle{5, hash(55), hash(3)}, ErrForked},
		{"no previous", m, Bundle{6, hash(6), ""}, ErrChain},
		{"an unknown previous", m, Bundle{6, hash(6), hash(4)}, ErrChain},
		{"nothing known", Mark{}, Bundle{1, hash(1), ""}, ErrUnmarked},
		{"the exception", except, Bundle{4, hash(4), ""}, nil},
		{"the exception's version, other content", except, Bundle{4, hash(44), ""}, ErrLower},
		{"older than the exception", except, Bundle{3, hash(3), ""}, ErrLower},
		{"back up to the mark", except, Bundle{5, hash(5), ""}, nil},
	} {
		if err := c.mark.Judge(c.b); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestHighest(t *testing.T) {
	three := Mark{Version: 3, Hash: hash(3), Chain: []string{hash(3)}}
	five := Mark{Version: 5, Hash: hash(5), Chain: []string{hash(5)}}
	other := Mark{Version: 5, Hash: hash(6), Chain: []string{hash(6)}}
	away := errors.New("it is away")
	for _, c := range []struct {
		name    string
		sources []Source
		want    Mark
		err     error
	}{
		{"nobody", nil, Mark{}, nil},
		{"nobody knows", []Source{known{}, known{}}, Mark{}, nil},
		{"the directory is behind", []Source{known{mark: three}, known{}, known{mark: five}}, five, nil},
		{"the snapshot is behind", []Source{known{mark: five}, known{mark: three}}, five, nil},
		{"they agree", []Source{known{mark: five}, known{mark: five}}, five, nil},
		{"they differ", []Source{known{mark: five}, known{mark: other}}, Mark{}, ErrForked},
		{"one cannot tell", []Source{known{mark: five}, known{err: away}}, Mark{}, away},
	} {
		m, err := Highest(c.sources...)
		if !reflect.DeepEqual(m, c.want) || !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
			t.Errorf("%s: %+v %v", c.name, m, err)
		}
	}
}

// TestAdvance: whatever is offered, the height never goes down, what is in force
// follows the rule, and every mark survives its document.
func TestAdvance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := Mark{}.Advance(Bundle{Version: 1, Hash: hash(1)}, true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(1, 100).Draw(t, "steps") {
			v := rapid.Int64Range(1, 40).Draw(t, "version")
			b := Bundle{Version: v, Hash: hash(int(v)*10 + rapid.IntRange(0, 1).Draw(t, "content"))}
			if rapid.Bool().Draw(t, "follows") {
				b.Previous = rapid.SampledFrom(m.Chain).Draw(t, "previous")
			}
			allowed := rapid.IntRange(0, 9).Draw(t, "allowed") == 0
			judged := m.Judge(b)
			next, err := m.Advance(b, allowed)
			if (err == nil) != (judged == nil || allowed) {
				t.Fatalf("step %d: judged %v, allowed %v, advanced %v", i, judged, allowed, err)
			}
			if next.Version < m.Version || (next.Version == m.Version && next.Hash != m.Hash) {
				t.Fatalf("step %d: the height went from %d to %d", i, m.Version, next.Version)
			}
			if err == nil && (next.InForce().Hash != b.Hash || next.Judge(b) != nil) {
				t.Fatalf("step %d: %v is in force and refused", i, b)
			}
			if err == nil && judged == nil && v < m.InForce().Version {
				t.Fatalf("step %d: from %v down to %v with nobody's leave", i, m.InForce(), b)
			}
			text, err := next.Encode()
			if err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if again, err := Decode(text); err != nil || !reflect.DeepEqual(again, next) {
				t.Fatalf("step %d: %v", i, err)
			}
			m = next
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good, err := Mark{Version: 2, Hash: hash(2), Chain: []string{hash(1), hash(2)}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"empty":            "",
		"nothing":          "{}\n",
		"a space":          " " + text,
		"more":             text + text,
		"unknown member":   strings.Replace(text, "{", `{"x":1,`, 1),
		"repeated member":  strings.Replace(text, `{"version":2`, `{"version":9,"version":2`, 1),
		"version 0":        strings.Replace(text, `:2,`, `:0,`, 1),
		"no hash":          strings.Replace(text, "blake3:", "blake2:", 1),
		"no chain":         strings.Replace(text, hash(1), hash(2), 1) + "x",
		"another end":      strings.Replace(text, `"`+hash(2)+`"]`, `"`+hash(3)+`"]`, 1),
		"a high exception": strings.Replace(text, "}\n", `,"exception":{"version":3,"bundle_hash":"`+hash(2)+"\"}}\n", 1),
		"too long":         text + strings.Repeat(" ", MaxBytes),
	} {
		if m, err := Decode([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v %v", name, m, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, _ := Mark{Version: 2, Hash: hash(2), Chain: []string{hash(1), hash(2)}}.Encode()
	f.Add(good)
	f.Add([]byte(`{"version":5,"bundle_hash":"` + hash(5) + `","chain":["` + hash(4) + `"],"exception":{"version":4,"bundle_hash":"` + hash(4) + "\"}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || string(again) != string(b) {
			t.Errorf("read and written again: %v", err)
		}
	})
}
