// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package shares

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudflare/circl/group"

	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

func split(t testing.TB, a *locked.Arena, n, threshold int) (*Set, *locked.Secret, [][]byte) {
	t.Helper()
	set, root, texts, err := Split(a, n, threshold)
	if err != nil || len(texts) != n || set.Threshold != threshold || set.Shares != n {
		t.Fatalf("%d shares: %v", len(texts), err)
	}
	return set, root, texts
}

func add(t testing.TB, g *Gathering, text []byte, want error) {
	t.Helper()
	own := bytes.Clone(text)
	if err := g.Add(own); !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	if !bytes.Equal(own, make([]byte, len(own))) {
		t.Fatal("the text of the share was not wiped")
	}
}

// Any m of n give the secret back, in any order; fewer do not; nor is there one
// before.
func TestAnyThresholdOfThem(t *testing.T) {
	a := locked.New(nil)
	defer a.Close()
	for _, c := range [][2]int{{2, 2}, {5, 3}, {3, 2}, {MaxShares, MaxShares}, {MaxShares, 7}} {
		set, root, texts := split(t, a, c[0], c[1])
		for range 5 {
			g, err := set.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for i, at := range rand.Perm(c[0])[:c[1]] {
				if r, err := g.Root(a); r != nil || err != nil || g.Have() != i || g.Need() != c[1] {
					t.Fatalf("a root of %d shares of %d: %v", i, c[1], err)
				}
				add(t, g, texts[at], nil)
			}
			r, err := g.Root(a)
			if err != nil || r == nil || !bytes.Equal(r.Bytes(), root.Bytes()) {
				t.Fatal("another secret", err)
			}
			held := make([]group.Scalar, 0, len(g.have))
			for _, value := range g.have {
				held = append(held, value)
			}
			g.Wipe()
			for _, value := range held {
				if !value.IsZero() {
					t.Fatal("a share is not erased")
				}
			}
			if g.Have() != 0 {
				t.Fatal("not forgotten")
			}
		}
	}
}

// What is not a good share of the set is refused by its own reason, and what was
// gathered stays.
func TestSharesThatAreRefused(t *testing.T) {
	a := locked.New(nil)
	defer a.Close()
	set, root, texts := split(t, a, 5, 3)
	other, _, foreign := split(t, a, 5, 3)
	g, err := set.Gather()
	if err != nil {
		t.Fatal(err)
	}
	add(t, g, texts[4], nil)
	add(t, g, texts[4], ErrDuplicate)
	add(t, g, foreign[0], ErrForeign)
	add(t, g, nil, ErrShare)
	add(t, g, []byte("# only a comment\n"), ErrShare)
	add(t, g, bytes.Repeat([]byte("x"), MaxShareBytes+1), ErrShare)
	line := bytes.TrimSpace(lastLine(texts[1]))
	for i := range line {
		bad := bytes.Clone(line)
		if bad[i]++; bad[i] == '{' {
			bad[i] = 'A'
		}
		own := bytes.Clone(bad)
		if err := g.Add(own); err == nil || strings.Contains(err.Error(), string(bad[12:20])) {
			t.Fatalf("a typing error at %d: %v", i, err)
		}
	}
	// A share that is well-formed, of this set, and forged.
	forged, err := set.encode(2, group.Ristretto255.NewScalar().SetUint64(7))
	if err != nil {
		t.Fatal(err)
	}
	add(t, g, forged, ErrWrong)
	_, value, err := other.decode(foreign[1])
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := set.encode(2, value)
	if err != nil {
		t.Fatal(err)
	}
	add(t, g, swapped, ErrWrong)
	_, value, err = set.decode(bytes.Clone(texts[0]))
	if err != nil {
		t.Fatal(err)
	}
	moved, err := set.encode(3, value)
	if err != nil {
		t.Fatal(err)
	}
	add(t, g, moved, ErrWrong)
	if g.Have() != 1 {
		t.Fatalf("%d are held", g.Have())
	}
	add(t, g, texts[0], nil)
	add(t, g, texts[1], nil)
	if r, err := g.Root(a); err != nil || !bytes.Equal(r.Bytes(), root.Bytes()) {
		t.Fatal("another secret", err)
	}
}

func TestSetText(t *testing.T) {
	a := locked.New(nil)
	defer a.Close()
	set, _, _ := split(t, a, 5, 3)
	text, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSet(text)
	if err != nil || back.ID() != set.ID() {
		t.Fatal(err)
	}
	s := string(text)
	for _, bad := range []string{"", "{}", s + "{}", strings.Replace(s, `"v":1`, `"v":2`, 1), strings.Replace(s, `"threshold":3`, `"threshold":2`, 1),
		strings.Replace(s, `"shares":5`, `"shares":6`, 1), strings.Replace(s, `"shares":5`, `"shares":33`, 1), strings.Replace(s, set.ID(), strings.Repeat("0", 32), 1),
		strings.Replace(s, `"v":1`, `"v":1,"x":1`, 1), strings.Repeat(" ", MaxSetBytes) + s} {
		if _, err := ParseSet([]byte(bad)); !errors.Is(err, ErrSet) {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
	for _, c := range [][2]int{{1, 1}, {5, 1}, {2, 3}, {33, 2}, {0, 0}, {-1, -1}} {
		if _, _, _, err := Split(a, c[0], c[1]); !errors.Is(err, ErrCounts) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func FuzzShare(f *testing.F) {
	a := locked.New(nil)
	set, _, texts, err := Split(a, 3, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(texts[0])
	f.Add([]byte("ronshare1_"))
	g, err := set.Gather()
	if err != nil {
		f.Fatal(err)
	}
	good := map[string]bool{}
	for _, text := range texts {
		good[string(bytes.TrimSpace(lastLine(text)))] = true
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// Add clears what it is given.
		known := good[string(bytes.TrimSpace(lastLine(text)))]
		if err := g.Add(bytes.Clone(text)); err == nil && !known {
			t.Fatalf("taken: %d bytes", len(text))
		}
	})
}

func FuzzSet(f *testing.F) {
	a := locked.New(nil)
	set, _, _, err := Split(a, 3, 2)
	if err != nil {
		f.Fatal(err)
	}
	text, err := set.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSet(text)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseSet(again); err != nil || back.ID() != s.ID() {
			t.Fatal(err)
		}
	})
}
