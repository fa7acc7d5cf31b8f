// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

type source struct {
	*bytes.Reader
	*b3.Verifier
}

func (s source) Size() int64 { return s.Verifier.Size() }

// slice answers with a slice of the range asked for.
func (f *fake) slice(w http.ResponseWriter, r *http.Request, data []byte) {
	f.ranges = append(f.ranges, r.Header.Get("Range"))
	from, n := int64(0), int64(math.MaxInt64)
	if s, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(s, "-")
		from, _ = strconv.ParseInt(first, 10, 64)
		if end, err := strconv.ParseInt(last, 10, 64); err == nil {
			n = end + 1 - from
		}
		if from >= int64(len(data)) {
			refuse(w, macronode.RangeNotSatisfiable)
			return
		}
	}
	var tree, body bytes.Buffer
	h := b3.NewHasher(&tree)
	h.Write(data)
	addr, _ := h.Sum()
	src := source{bytes.NewReader(data), b3.NewVerifier(addr, int64(len(data)), bytes.NewReader(tree.Bytes()))}
	b3.WriteSlice(&body, src, b3.SliceGroups, from, n)
	w.Header().Set("Content-Type", "application/vnd.bao;group=4")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	text := body.Bytes()
	if f.bend != nil {
		text = f.bend(text)
	}
	w.Write(text)
}

const group = b3.GroupBytes

func pattern(n int) string {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return string(p)
}

func flip(s string, at int) string {
	p := []byte(s)
	p[at] ^= 1
	return string(p)
}

func absent(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			t.Error(p, "is there")
		}
	}
}

// TestGetResumes: what an earlier try left is verified before it is gone on with.
// Where it is wrong, the place is told, it is cut off there, and the same command
// again goes on from there.
func TestGetResumes(t *testing.T) {
	small, large := "0123456789", pattern(5*group+100)
	for name, tc := range map[string]struct {
		object, part string
		damage       int // place told; -1: none
		ranges       []string
	}{
		"none":           {small, "", -1, []string{""}},
		"half":           {small, "01234", -1, []string{"bytes=0-4", "bytes=5-"}},
		"whole":          {small, "0123456789", -1, []string{"bytes=0-9"}},
		"another's":      {small, "xxx", 0, []string{"bytes=0-2"}},
		"longer one":     {small, "0123456789abc", 0, []string{"bytes=0-12"}},
		"large":          {large, large[:2*group+9], -1, []string{"bytes=32768-32776", "bytes=32777-"}},
		"large, changed": {large, flip(large[:4*group+9], 2*group+1), 2 * group, nil},
		"large, end":     {large, flip(large[:4*group+9], 4*group+8), 4 * group, nil},
		"large, all":     {large, flip(large, 3*group), 3 * group, nil},
		"far longer":     {large, large + large, 5 * group, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			addr := f.add(tc.object)
			out := filepath.Join(t.TempDir(), "f")
			if tc.part != "" {
				write(t, out+".part", tc.part, 0o644)
			}
			got := f.do(t, "get", addr, "-o", out)
			if tc.ranges != nil && !slices.Equal(f.ranges, tc.ranges) {
				t.Errorf("ranges %q", f.ranges)
			}
			if tc.damage >= 0 {
				left, _ := os.ReadFile(out + ".part")
				if got.code != 1 || !strings.Contains(got.err, fmt.Sprintf("from byte %d on", tc.damage)) || string(left) != tc.object[:tc.damage] {
					t.Fatalf("%+v, left %d bytes", got, len(left))
				}
				absent(t, out)
				got = f.do(t, "get", addr, "-o", out)
			}
			text, err := os.ReadFile(out)
			if got.code != 0 || err != nil || string(text) != tc.object {
				t.Fatalf("%+v, %d bytes, %v", got, len(text), err)
			}
			absent(t, out+".part")
		})
	}
}

// TestGetDamaged: a byte changed on the way is refused with its place, and nothing
// of its 16 KiB is written, neither to a file nor to standard output. What came
// before stays, and is gone on with.
func TestGetDamaged(t *testing.T) {
	f := newFake(t)
	data := pattern(5*group + 100)
	addr := f.add(data)
	f.bend = func(p []byte) []byte { // in the fourth group, the next but one from the end
		p = bytes.Clone(p)
		p[len(p)-100-64-group-5] ^= 0x10
		return p
	}
	want := fmt.Sprintf("from byte %d on", 3*group)
	got := f.do(t, "get", addr)
	if got.code != 1 || !strings.Contains(got.err, want) || got.out != data[:3*group] {
		t.Errorf("%d, %s, %d bytes", got.code, got.err, len(got.out))
	}
	out := filepath.Join(t.TempDir(), "f")
	got = f.do(t, "get", addr, "-o", out)
	left, err := os.ReadFile(out + ".part")
	if got.code != 1 || !strings.Contains(got.err, want) || err != nil || string(left) != data[:3*group] {
		t.Errorf("%d, %s, %d bytes, %v", got.code, got.err, len(left), err)
	}
	absent(t, out)
	f.bend, f.ranges = nil, nil
	if got := f.do(t, "get", addr, "-o", out); got.code != 0 || len(f.ranges) != 2 || f.ranges[1] != fmt.Sprintf("bytes=%d-", 3*group) {
		t.Errorf("%+v, %q", got, f.ranges)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != data {
		t.Errorf("%d bytes, %v", len(text), err)
	}

	other := b3.Sum([]byte("what was stored"))
	f.objects[other] = []byte("something else!")
	out = filepath.Join(t.TempDir(), "g")
	if got := f.do(t, "get", other.String(), "-o", out); got.code != 1 || !strings.Contains(got.err, "do not match") {
		t.Errorf("%+v", got)
	}
	absent(t, out, out+".part")
}

// TestGetParts fetches parts of an object.
func TestGetParts(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	data := pattern(5*group + 100)
	addr := f.add(data)
	for _, tc := range []struct {
		args     []string
		from, to int
	}{
		{[]string{"--offset", "5"}, 5, len(data)},
		{[]string{"--length", "17"}, 0, 17},
		{[]string{"--offset", "16380", "--length", "40000"}, 16380, 56380},
		{[]string{"--offset", strconv.Itoa(len(data) - 1)}, len(data) - 1, len(data)},
		{[]string{"--offset", "82000", "--length", "9223372036854775807"}, 82000, len(data)},
		{[]string{"--offset", "0"}, 0, len(data)},
	} {
		if got := f.do(t, append([]string{"get", addr}, tc.args...)...); got.code != 0 || got.out != data[tc.from:tc.to] {
			t.Errorf("%q: %d, %s, %d bytes", tc.args, got.code, got.err, len(got.out))
		}
		out := filepath.Join(dir, "f")
		write(t, out+".part", "of the whole", 0o644)
		write(t, out+".range.part", pattern(100_000), 0o644)
		got := f.do(t, append([]string{"get", addr, "-o", out}, tc.args...)...)
		if text, err := os.ReadFile(out); got.code != 0 || err != nil || string(text) != data[tc.from:tc.to] {
			t.Errorf("%q: %+v, %d bytes, %v", tc.args, got, len(text), err)
		}
		absent(t, out+".range.part")
		if text, _ := os.ReadFile(out + ".part"); string(text) != "of the whole" {
			t.Errorf("%q: the part of the whole is %q", tc.args, text)
		}
		os.Remove(out)
	}
	for _, args := range [][]string{{"--offset", "-1"}, {"--length", "0"}, {"--length", "-5"}, {"--offset", "x"}, {"-r", "--offset", "1", "-o", dir}, {"-r", "--length", "1", "-o", dir}} {
		if got := f.do(t, append([]string{"get", addr}, args...)...); got.code != 2 || got.out != "" {
			t.Errorf("%q: %+v", args, got)
		}
	}
	out := filepath.Join(dir, "g")
	if got := f.do(t, "get", addr, "--offset", strconv.Itoa(len(data)), "-o", out); got.code != 1 || !strings.Contains(got.err, "416") {
		t.Errorf("%+v", got)
	}
	f.bend = func(p []byte) []byte { return []byte(flip(string(p), len(p)-1)) }
	if got := f.do(t, "get", addr, "--offset", "20000", "--length", "100", "-o", out); got.code != 1 || !strings.Contains(got.err, "from byte 16384 on") {
		t.Errorf("%+v", got)
	}
	absent(t, out, out+".range.part")
}

// TestGetFromOlderNode: one that proves nothing is taken at the hash of the whole,
// and never for a part, nor for what cannot be taken back.
func TestGetFromOlderNode(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	f.plain = true
	data := pattern(2 << 20)
	addr := f.add(data)
	if got := f.do(t, "get", addr); got.code != 1 || got.out != "" || !strings.Contains(got.err, "-o FILE") {
		t.Errorf("%d, %s, %d bytes", got.code, got.err, len(got.out))
	}
	if got := f.do(t, "get", addr, "--offset", "5", "--length", "5"); got.code != 1 || got.out != "" || !strings.Contains(got.err, "older") {
		t.Errorf("%+v", got)
	}
	out := filepath.Join(dir, "f")
	write(t, out+".part", data[:100], 0o644)
	if got := f.do(t, "get", addr, "-o", out); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != data {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	out = filepath.Join(dir, "g")
	write(t, out+".part", "not of it", 0o644)
	if got := f.do(t, "get", addr, "-o", out); got.code != 1 || !strings.Contains(got.err, "do not match") {
		t.Errorf("%+v", got)
	}
	absent(t, out, out+".part")
	small := f.add("small")
	if got := f.do(t, "get", small); got.code != 0 || got.out != "small" {
		t.Errorf("%+v", got)
	}
}
