// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package partial

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

func TestRanges(t *testing.T) {
	const ignored, unsat = "ignored", "416"
	many := strings.Repeat("0-0,", 17)
	for _, c := range []struct {
		header string
		size   int64
		want   string
	}{
		{"bytes=0-0", 10, "[0+1]"},
		{"bytes=0-9", 10, "[0+10]"},
		{"bytes=0-", 10, "[0+10]"},
		{"bytes=9-", 10, "[9+1]"},
		{"bytes=5-100", 10, "[5+5]"},
		{"bytes=-3", 10, "[7+3]"},
		{"bytes=-30", 10, "[0+10]"},
		{"Bytes = 1-2", 10, "[1+2]"},
		{"bytes= 1-2 , 4-5", 10, "[1+2 4+2]"},
		{"bytes=,,1-2,,", 10, "[1+2]"},
		{"bytes=0-99999999999999999999999", 10, "[0+10]"},
		{"bytes=-99999999999999999999999", 10, "[0+10]"},
		{"bytes=10-", 10, unsat},
		{"bytes=10-20", 10, unsat},
		{"bytes=99999999999999999999999-", 10, unsat},
		{"bytes=-0", 10, unsat},
		{"bytes=10-,-0,11-12", 10, unsat},
		{"bytes=10-,3-4", 10, "[3+2]"},
		{"bytes=0-", 0, unsat},
		{"bytes=0-0", 0, unsat},
		{"bytes=-0", 0, unsat},
		{"bytes=-5", 0, "[]"},
		{"bytes=0-1,1-2", 10, "[0+3]"},
		{"bytes=0-1,2-3", 10, "[0+2 2+2]"},
		{"bytes=5-6,0-1", 10, "[5+2 0+2]"},
		{"bytes=5-6,0-1,1-5", 10, "[0+7]"},
		{"bytes=8-9,0-1,4-5,1-4", 10, "[8+2 0+6]"},
		{"bytes=0-,-1", 10, "[0+10]"},
		{"bytes=" + many[:len(many)-5], 10, "[0+1]"},
		{"bytes=" + many, 10, unsat},
		{"bytes=" + many + "rubbish", 10, unsat},
		{"", 10, ignored},
		{"bytes", 10, ignored},
		{"bytes=", 10, ignored},
		{"bytes=,", 10, ignored},
		{"lines=0-1", 10, ignored},
		{"bytes=5-4", 10, ignored},
		{"bytes=0", 10, ignored},
		{"bytes=-", 10, ignored},
		{"bytes=--1", 10, ignored},
		{"bytes=a-b", 10, ignored},
		{"bytes=+1-2", 10, ignored},
		{"bytes=0x1-2", 10, ignored},
		{"bytes=1 -2", 10, ignored},
		{"bytes=0-1,x", 10, ignored},
		{"bytes=1-2-3", 10, ignored},
	} {
		spans, err := Ranges(c.header, c.size)
		got := ignored
		switch {
		case err != nil:
			got = unsat
			if cr := macronode.AsError(err).Header.Get("Content-Range"); macronode.KindOf(err) != macronode.RangeNotSatisfiable || cr != fmt.Sprintf("bytes */%d", c.size) {
				t.Errorf("%q: %v, Content-Range %q", c.header, err, cr)
			}
		case spans != nil || c.want == "[]":
			var parts []string
			for _, s := range spans {
				parts = append(parts, fmt.Sprintf("%d+%d", s.Off, s.N))
			}
			got = "[" + strings.Join(parts, " ") + "]"
		}
		if got != c.want {
			t.Errorf("%q of %d bytes: %s, want %s", c.header, c.size, got, c.want)
		}
	}
}

// The spans cover what was asked for, and nothing twice.
func TestRangesCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 40).Draw(t, "size")
		n := rapid.IntRange(1, MaxRanges).Draw(t, "n")
		want := make([]bool, size)
		var specs []string
		for range n {
			a := rapid.Int64Range(0, 45).Draw(t, "a")
			b := rapid.Int64Range(a, 50).Draw(t, "b")
			switch rapid.IntRange(0, 2).Draw(t, "form") {
			case 0:
				specs = append(specs, fmt.Sprintf("%d-%d", a, b))
			case 1:
				specs = append(specs, fmt.Sprintf("%d-", a))
				b = size - 1
			case 2:
				specs = append(specs, fmt.Sprintf("-%d", a))
				a, b = max(size-a, 0), size-1
			}
			for i := a; i <= min(b, size-1); i++ {
				want[i] = true
			}
		}
		got := make([]bool, size)
		spans, err := Ranges("bytes="+strings.Join(specs, ","), size)
		if (err != nil) != !slices.Contains(want, true) {
			t.Fatalf("%v: %v", specs, err)
		}
		for _, s := range spans {
			for i := s.Off; i < s.End(); i++ {
				if got[i] {
					t.Fatalf("%v: byte %d twice in %v", specs, i, spans)
				}
				got[i] = true
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v of %d: %v", specs, size, spans)
		}
	})
}

func FuzzRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-1,0-,3-2", "bytes=,", "bytes=9223372036854775807-", "bytes=-9223372036854775808"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, h string, size int64) {
		if size < 0 {
			return
		}
		spans, err := Ranges(h, size)
		if len(spans) > MaxRanges || (err != nil && spans != nil) {
			t.Fatal(spans, err)
		}
		var total int64
		for _, s := range spans {
			if s.Off < 0 || s.N <= 0 || s.N > size-s.Off {
				t.Fatalf("%v of %d", s, size)
			}
			total += s.N
		}
		if total > size {
			t.Fatal("more than the object")
		}
	})
}
