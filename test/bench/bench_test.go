// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWritersNeverRepeat(t *testing.T) {
	seen := map[string]bool{}
	for run := range uint64(2) {
		for _, w := range newWriters(3, 1024, run) {
			for range 4 {
				b := string(w.body())
				if len(b) != 1024 || seen[b] {
					t.Fatal("a body came twice, or has another size")
				}
				seen[b] = true
			}
		}
	}
	if !bytes.Equal(content(5000, 7), content(5000, 7)) || bytes.Equal(content(5000, 7), content(5000, 8)) {
		t.Error("content is not a function of its number")
	}
}

func TestSend(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
		_, _ = w.Write([]byte("said"))
	}))
	defer s.Close()
	for code, ok := range map[string]bool{"200": true, "201": true, "404": false, "503": false} {
		req, err := post(s.URL+"/?code="+code, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := send(s.Client(), req)
		if ok != (err == nil) || ok && string(body) != "said" {
			t.Errorf("%s: %q, %v", code, body, err)
		}
	}
}

func TestSettings(t *testing.T) {
	env := func(m map[string]string) func(string) (string, bool) {
		return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
	}
	s, err := readSettings(env(map[string]string{"BENCH": "put hash", "BENCH_SIZES": "1KiB 16MiB 7", "BENCH_LARGE": ""}))
	if err != nil || len(s.parts) != 2 || !s.parts["put"] || !slices.Equal(s.sizes, []int64{1 << 10, 16 << 20, 7}) || s.large != 5<<30 || s.rounds != 5 {
		t.Errorf("%+v, %v", s, err)
	}
	for name, value := range map[string]string{"BENCH": "gte", "BENCH_SIZES": "1KB", "BENCH_ROUNDS": "0", "BENCH_GET_TIME": "10ms", "BENCH_CACHE": "-1MiB", "OVERLOAD_SECONDS": "0", "OVERLOAD_SERVERS": "apache", "OVERLOAD_REQUESTS": "head:1KiB", "STEADY_RATE": "x"} {
		if _, err := readSettings(env(map[string]string{name: value})); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(strings.TrimSuffix(name, "_SERVERS"), "_REQUESTS")) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	if sizeName(5<<30) != "5 GiB" || sizeName(64<<10) != "64 KiB" || sizeName(1025) != "1025 B" {
		t.Error("sizes are misnamed")
	}
}

func TestBenchLines(t *testing.T) {
	rows := benchLines("goos: linux\nBenchmarkHash/1KiB-2   \t   100\t  2000 ns/op\t 512.00 MB/s\t 0 B/op\nBenchmarkHash/1KiB-2 \t 100\t 4000 ns/op\t 256.00 MB/s\nBenchmarkOther-2 5 10 ns/op\nPASS\n")
	if len(rows) != 1 || rows[0].name != "Hash/1KiB" || !slices.Equal(rows[0].speed, []float64{512, 256}) || !slices.Equal(rows[0].nanos, []float64{2000, 4000}) {
		t.Errorf("%+v", rows)
	}
}

func TestSameBytes(t *testing.T) {
	big := content(1<<20, 1)
	other := slices.Clone(big)
	other[1<<19]++
	for _, c := range []struct {
		a, b []byte
		same bool
	}{{big, big, true}, {nil, nil, true}, {big, other, false}, {big, big[:len(big)-1], false}, {big[:len(big)/2], big, false}} {
		if err := sameBytes(bytes.NewReader(c.a), bytes.NewReader(c.b)); (err == nil) != c.same {
			t.Errorf("%d and %d bytes: %v", len(c.a), len(c.b), err)
		}
	}
}

func TestGetCells(t *testing.T) {
	cells := getCells(settings{sizes: []int64{kib, 64 * kib, mib, 16 * mib}, cache: 256 * mib})
	if len(cells) != 6 {
		t.Fatalf("%d cells", len(cells))
	}
	for _, c := range cells {
		set := c.size * int64(c.objects)
		if c.walk && set != 4*256*mib || !c.walk && set > 16*mib || math.IsNaN(c.minio) || c.minio == 0 {
			t.Errorf("%+v is %d bytes in all", c, set)
		}
	}
}
