// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

func TestPut(t *testing.T) {
	big := pattern(3<<20 + 17)
	for name, tc := range map[string]struct {
		body   io.Reader
		data   []byte
		o      PutOptions
		length int64 // that the node is told; -1: none
		tries  int
	}{
		"bytes":          {bytes.NewReader(big), big, PutOptions{}, int64(len(big)), 2},
		"at an address":  {bytes.NewReader(big), big, PutOptions{Addr: b3.Sum(big)}, int64(len(big)), 2},
		"plain reader":   {io.MultiReader(bytes.NewReader(big)), big, PutOptions{}, -1, 1},
		"length given":   {io.MultiReader(bytes.NewReader(big)), big, PutOptions{Length: int64(len(big))}, int64(len(big)), 1},
		"slow reader":    {iotest.OneByteReader(strings.NewReader("abc")), []byte("abc"), PutOptions{}, -1, 1},
		"empty, seeks":   {bytes.NewReader(nil), nil, PutOptions{}, 0, 2},
		"empty, unknown": {io.MultiReader(), nil, PutOptions{}, -1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			c := dial(t, func(w http.ResponseWriter, r *http.Request) {
				got, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Equal(got, tc.data) || r.ContentLength != tc.length {
					t.Errorf("got %d bytes, length %d, %v", len(got), r.ContentLength, err)
				}
				if tc.o.Addr != (b3.Addr{}) && (r.Method != "PUT" || r.URL.Path != "/o/"+tc.o.Addr.String()) {
					t.Errorf("%s %s", r.Method, r.URL.Path)
				}
				if calls++; calls < tc.tries {
					problem(w, macronode.Overload, "")
					return
				}
				json.NewEncoder(w).Encode(Put{Addr: b3.Sum(got), Size: int64(len(got))})
			})
			put, err := c.Put(t.Context(), tc.body, tc.o)
			if err != nil || put.Addr != b3.Sum(tc.data) || calls != tc.tries {
				t.Errorf("%v, %v, %d calls", put, err, calls)
			}
		})
	}
}

func TestPutFromTheMiddle(t *testing.T) {
	calls := 0
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		if calls++; calls == 1 {
			problem(w, macronode.Overload, "")
			return
		}
		json.NewEncoder(w).Encode(Put{Addr: b3.Sum(got)})
	})
	in := strings.NewReader("headbody")
	in.Seek(4, io.SeekStart)
	if put, err := c.Put(t.Context(), in, PutOptions{}); err != nil || put.Addr != b3.Sum([]byte("body")) {
		t.Errorf("%v, %v", put.Addr, err)
	}
}

func TestPutWrongAddress(t *testing.T) {
	for name, read := range map[string]bool{"after the body": true, "at once": false} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, func(w http.ResponseWriter, r *http.Request) {
				if read {
					io.Copy(io.Discard, r.Body)
				}
				json.NewEncoder(w).Encode(Put{Addr: b3.Sum([]byte("other"))})
			})
			if _, err := c.Put(t.Context(), bytes.NewReader(pattern(1<<20)), PutOptions{}); !errors.Is(err, ErrIntegrity) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// serve answers GETs of data with ranges, and knows no slices; bend may change
// what is sent.
func serve(data []byte, bend func([]byte) []byte, ranges *[]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "" {
			w.Write(data)
			return
		}
		*ranges = append(*ranges, r.Header.Get("Range"))
		from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-"))
		if r.Header.Get("Range") != "" && r.Header.Get("If-Range") != `"`+b3.Sum(data).String()+`"` {
			w.WriteHeader(500)
			return
		}
		if from > 0 && from >= len(data) {
			problem(w, macronode.RangeNotSatisfiable, "")
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.WriteHeader(206)
		}
		w.Write(bend(slices.Clone(data[from:])))
	}
}

func section(p []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p)))
}

// TestGetUnproven is of a node that knows no slices.
func TestGetUnproven(t *testing.T) {
	data := pattern(100_000)
	keep := func(p []byte) []byte { return p }
	for name, tc := range map[string]struct {
		have      []byte
		bend      func([]byte) []byte
		written   int
		integrity bool
		other     bool // another error
	}{
		"whole":                 {nil, keep, len(data), false, false},
		"flipped byte":          {nil, func(p []byte) []byte { p[70_000] ^= 1; return p }, len(data), true, false},
		"truncated":             {nil, func(p []byte) []byte { return p[:len(p)/2] }, len(data) / 2, false, true},
		"resumed":               {data[:33_333], keep, len(data) - 33_333, false, false},
		"resumed, rest bad":     {data[:33_333], func(p []byte) []byte { p[0] ^= 1; return p }, len(data) - 33_333, true, false},
		"resumed, start bad":    {pattern(33_334)[1:], keep, len(data) - 33_333, true, false},
		"nothing left":          {data, keep, 0, false, false},
		"nothing left, bad":     {pattern(len(data) + 1)[1:], keep, 0, true, false},
		"more than there is":    {pattern(len(data) + 5), keep, 0, true, false},
		"an empty part is none": {[]byte{}, keep, len(data), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var ranges []string
			c := dial(t, serve(data, tc.bend, &ranges))
			if tc.other {
				c.retries = -1
			}
			var out bytes.Buffer
			o := GetOptions{Unproven: true}
			if tc.have != nil {
				o.Have = section(tc.have)
			}
			var last int64
			o.Progress = func(done, size int64) {
				if done < last || size != int64(len(data)) {
					t.Errorf("progress %d of %d after %d", done, size, last)
				}
				last = done
			}
			n, err := c.Get(t.Context(), b3.Sum(data), &out, o)
			if errors.Is(err, ErrIntegrity) != tc.integrity || (err != nil) != (tc.integrity || tc.other) {
				t.Errorf("got %v", err)
			}
			if int(n) != tc.written || out.Len() != tc.written {
				t.Errorf("wrote %d, says %d, want %d", out.Len(), n, tc.written)
			}
			if err == nil && !bytes.Equal(append(slices.Clone(tc.have), out.Bytes()...), data) {
				t.Error("other bytes")
			}
			if want := len(tc.have) > 0; (ranges[0] != "") != want {
				t.Errorf("range %q", ranges[0])
			}
		})
	}
}

func TestGetIgnoredRange(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })
	var out bytes.Buffer
	_, err := c.Get(t.Context(), b3.Sum([]byte("hello")), &out, GetOptions{Have: section([]byte("he"))})
	if err == nil || out.Len() != 0 {
		t.Errorf("%v, wrote %q behind what was there", err, out.String())
	}
}

func TestStatAndDelete(t *testing.T) {
	addr := b3.Sum([]byte("x"))
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/o/"+addr.String():
			problem(w, macronode.NotFound, "")
		case r.Method == "HEAD":
			w.Header().Set("Content-Length", "42")
			w.Header().Set("Content-Type", "text/x")
		default:
			w.WriteHeader(204)
		}
	})
	if s, err := c.Stat(t.Context(), addr); err != nil || s != (Stat{Addr: addr, Size: 42, ContentType: "text/x"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if err := c.Delete(t.Context(), addr); err != nil {
		t.Error(err)
	}
	var refused *Error
	if err := c.Delete(t.Context(), b3.Sum(nil)); !errors.As(err, &refused) || refused.Status != 404 {
		t.Error(err)
	}
	if _, err := c.Stat(t.Context(), b3.Sum(nil)); !errors.As(err, &refused) || refused.Status != 404 {
		t.Error(err)
	}
}

func TestListPages(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("prefix") != "b3:0" || q.Get("limit") != "1" {
			t.Errorf("query %s", r.URL.RawQuery)
		}
		next := map[string]string{"": "a/b&c", "a/b&c": "z", "z": ""}
		n, ok := next[q.Get("cursor")]
		if !ok {
			t.Errorf("cursor %q", q.Get("cursor"))
		}
		json.NewEncoder(w).Encode(List{Objects: []Stat{{Addr: b3.Sum([]byte(n))}}, Cursor: n})
	})
	var got []b3.Addr
	for cursor := ""; ; {
		page, err := c.List(t.Context(), "b3:0", cursor, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Objects {
			got = append(got, s.Addr)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if want := []b3.Addr{b3.Sum([]byte("a/b&c")), b3.Sum([]byte("z")), b3.Sum(nil)}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
