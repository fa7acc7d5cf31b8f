// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

const group = b3.GroupBytes

type source struct {
	*bytes.Reader
	*b3.Verifier
}

func (s source) Size() int64 { return s.Verifier.Size() }

func newSource(data []byte) source {
	var tree bytes.Buffer
	h := b3.NewHasher(&tree)
	h.Write(data)
	addr, _ := h.Sum()
	return source{bytes.NewReader(data), b3.NewVerifier(addr, int64(len(data)), bytes.NewReader(tree.Bytes()))}
}

// asked is what a node with slices was asked for, and how it bends its answers.
type asked struct {
	mu     sync.Mutex
	ranges []string
	bend   func(slice []byte) []byte // of one answer; nil: as it is
	// header, where set, changes what is said before.
	header func(http.Header)
}

// serveSlices answers GETs of data with slices of one range.
func serveSlices(data []byte, a *asked) http.HandlerFunc {
	src := newSource(data)
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if r.Method == "HEAD" {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			return
		}
		if r.Header.Get("Accept") != "application/vnd.bao;group=4" {
			w.WriteHeader(500)
			return
		}
		a.ranges = append(a.ranges, r.Header.Get("Range"))
		from, n := int64(0), int64(math.MaxInt64)
		if s, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
			first, last, _ := strings.Cut(s, "-")
			from, _ = strconv.ParseInt(first, 10, 64)
			if last != "" {
				n, _ = strconv.ParseInt(last, 10, 64)
				n -= from - 1
			}
			if from >= int64(len(data)) {
				problem(w, macronode.RangeNotSatisfiable, "")
				return
			}
		}
		w.Header().Set("Content-Type", "application/vnd.bao;group=4")
		w.Header().Set("Content-Length", strconv.FormatInt(b3.SliceBytes(src.Size(), 4, from, n), 10))
		if a.header != nil {
			a.header(w.Header())
		}
		if a.bend == nil {
			b3.WriteSlice(w, src, 4, from, n)
			return
		}
		var b bytes.Buffer
		b3.WriteSlice(&b, src, 4, from, n)
		w.Write(a.bend(b.Bytes()))
	}
}

func flip(p []byte, at int) []byte {
	p = slices.Clone(p)
	p[at] ^= 1
	return p
}

// TestGet: what comes is verified before it is written, what is there before
// anything is fetched.
func TestGet(t *testing.T) {
	data := pattern(6*group + 1700)
	at := 3*group + 5
	for name, tc := range map[string]struct {
		have    []byte
		bend    func([]byte) []byte
		written int
		damage  DamageError // Off, Len, Have
		ranges  []string
	}{
		"whole":                 {nil, nil, len(data), DamageError{}, []string{""}},
		"byte changed":          {nil, func(p []byte) []byte { return flip(p, len(p)-1) }, 6 * group, DamageError{Off: 6 * group, Len: 1700}, nil},
		"byte of 5 changed":     {nil, func(p []byte) []byte { return flip(p, len(p)-1800) }, 5 * group, DamageError{Off: 5 * group, Len: group}, nil},
		"tree changed":          {nil, func(p []byte) []byte { return flip(p, 100) }, 0, DamageError{Len: group}, nil},
		"length changed":        {nil, func(p []byte) []byte { return flip(p, 0) }, 0, DamageError{Len: group}, nil},
		"resumed":               {data[:at], nil, len(data) - at, DamageError{}, []string{fmt.Sprintf("bytes=%d-%d", 3*group, at-1), fmt.Sprintf("bytes=%d-", at)}},
		"resumed at a border":   {data[:group], nil, len(data) - group, DamageError{}, []string{"bytes=0-16383", "bytes=16384-"}},
		"resumed, last bad":     {flip(data[:at], at-1), nil, 0, DamageError{Off: 3 * group, Len: 5, Have: true}, nil},
		"resumed, one bad":      {flip(data[:at], group+7), nil, 0, DamageError{Off: group, Len: group, Have: true}, nil},
		"resumed, start bad":    {flip(data[:at], 0), nil, 0, DamageError{Off: 0, Len: group, Have: true}, nil},
		"nothing left":          {data, nil, 0, DamageError{}, []string{fmt.Sprintf("bytes=%d-%d", 6*group, len(data)-1)}},
		"a byte too many":       {pattern(len(data) + 1), nil, 0, DamageError{Off: 6 * group, Len: group, Have: true}, nil},
		"many too many":         {pattern(len(data) + 5*group), nil, 0, DamageError{Off: 6 * group, Len: group, Have: true}, nil},
		"another's":             {pattern(at + 1)[1:], nil, 0, DamageError{Off: 0, Len: group, Have: true}, nil},
		"an empty part is none": {[]byte{}, nil, len(data), DamageError{}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asked{bend: tc.bend}
			c := dial(t, serveSlices(data, a))
			var o GetOptions
			if tc.have != nil {
				o.Have = section(tc.have)
			}
			last := int64(len(tc.have))
			o.Progress = func(done, size int64) {
				if done <= last || size != int64(len(data)) {
					t.Errorf("progress %d of %d after %d", done, size, last)
				}
				last = done
			}
			var out bytes.Buffer
			n, err := c.Get(t.Context(), b3.Sum(data), &out, o)
			var d *DamageError
			if tc.damage == (DamageError{}) {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, ErrIntegrity) || !errors.As(err, &d) || d.Off != tc.damage.Off || d.Len != tc.damage.Len || d.Have != tc.damage.Have {
				t.Errorf("got %v", err)
			}
			if int(n) != tc.written || !bytes.Equal(out.Bytes(), data[min(len(tc.have), len(data)):][:tc.written]) {
				t.Errorf("wrote %d, says %d, want %d", out.Len(), n, tc.written)
			}
			if tc.ranges != nil && !slices.Equal(a.ranges, tc.ranges) {
				t.Errorf("asked for %q", a.ranges)
			}
		})
	}
}

// TestHaveDamaged finds one changed byte among many with few small answers.
func TestHaveDamaged(t *testing.T) {
	data := pattern(200*group + 3)
	a := &asked{}
	c := dial(t, serveSlices(data, a))
	for _, at := range []int{0, 1, group, 63 * group, 64*group + 1, 127*group + 99, 128 * group, 191*group + 5, 199*group - 1} {
		a.ranges = nil
		_, err := c.Get(t.Context(), b3.Sum(data), io.Discard, GetOptions{Have: section(flip(data[:200*group], at))})
		var d *DamageError
		if !errors.As(err, &d) || d.Off != int64(at/group*group) || d.Len != group || !d.Have {
			t.Errorf("byte %d: %v", at, err)
		}
		if len(a.ranges) > 9 {
			t.Errorf("byte %d: %d questions", at, len(a.ranges))
		}
	}
}

// TestProvenGetGoesOn breaks the connection on the way, at awkward places.
func TestProvenGetGoesOn(t *testing.T) {
	data := pattern(4*group + 50)
	for _, broken := range []int{30_000, 2*group + 300, 8 + 3*64 + group, 50_001} {
		a := &asked{bend: func(p []byte) []byte { return p[:min(len(p), broken)] }}
		c := dial(t, serveSlices(data, a))
		c.retries = -1
		var out bytes.Buffer
		_, err := c.Get(t.Context(), b3.Sum(data), &out, GetOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(data, out.Bytes()) || out.Len()%group != 0 || out.Len() == 0 || len(a.ranges) != 1 {
			t.Errorf("broken at %d, one try: %d bytes, %q, %v", broken, out.Len(), a.ranges, err)
		}
		c.retries = 10
		n, err := c.Get(t.Context(), b3.Sum(data), &out, GetOptions{Have: section(slices.Clone(out.Bytes()))})
		if err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("broken at %d: %d bytes, %v", broken, n, err)
		}
		for _, r := range a.ranges[1:] {
			from, _, _ := strings.Cut(strings.TrimPrefix(r, "bytes="), "-")
			if at, err := strconv.Atoi(from); err != nil || at%group != 0 {
				t.Errorf("went on with %q", r)
			}
		}
	}
}

// TestTooMuchUnseen: the part is longer than the object, and the node does not let
// its client ask how long that is.
func TestTooMuchUnseen(t *testing.T) {
	data := pattern(100)
	get := serveSlices(data, &asked{})
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "HEAD" {
			w.WriteHeader(403)
			return
		}
		get(w, r)
	})
	_, err := c.Get(t.Context(), b3.Sum(data), io.Discard, GetOptions{Have: section(pattern(3 * group))})
	var d *DamageError
	if !errors.As(err, &d) || d.Off != 0 || !d.Have {
		t.Errorf("got %v", err)
	}
}

// TestProgressForgives: an answer that brought a good piece does not count as a
// failed try, so that a long object arrives over a poor line.
func TestProgressForgives(t *testing.T) {
	data := pattern(5<<20 + 9)
	a := &asked{bend: func(p []byte) []byte { return p[:min(len(p), 1<<20+1<<17)] }}
	c := dial(t, serveSlices(data, a))
	c.retries = 1
	var out bytes.Buffer
	if _, err := c.Get(t.Context(), b3.Sum(data), &out, GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), data) || len(a.ranges) < 4 {
		t.Errorf("%d bytes, %q, %v", out.Len(), a.ranges, err)
	}
}

// TestBrokenAtTheEnd: a connection that breaks when all was said is no failure.
func TestBrokenAtTheEnd(t *testing.T) {
	data := pattern(3*group + 1)
	src := newSource(data)
	for _, r := range [][2]int64{{0, math.MaxInt64}, {10, 2 * group}} {
		calls := 0
		c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.Header().Set("Content-Type", sliceType)
			b3.WriteSlice(w, src, b3.SliceGroups, r[0], r[1])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		got, err := c.GetRange(t.Context(), b3.Sum(data), r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(got)
		if err != nil || !bytes.Equal(out, data[r[0]:min(int64(len(data)), r[0]+min(r[1], 1<<20))]) || calls != 1 {
			t.Errorf("%v: %d bytes, %v, %d calls", r, len(out), err, calls)
		}
		got.Close()
	}
}

// TestProvenGetGivesUp: a node that brings nothing, or lies about the length
// without announcing any, does not hold a Get for ever.
func TestProvenGetGivesUp(t *testing.T) {
	data := pattern(3 * group)
	for name, bend := range map[string]func([]byte) []byte{
		"nothing":     func(p []byte) []byte { return p[:0] },
		"half a head": func(p []byte) []byte { return p[:4] },
		"no group":    func(p []byte) []byte { return p[:group] },
		"a lie": func(p []byte) []byte {
			binary.LittleEndian.PutUint64(p, 3*group+1)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asked{bend: bend, header: func(h http.Header) { h.Set("Transfer-Encoding", "chunked"); h.Del("Content-Length") }}
			c := dial(t, serveSlices(data, a))
			c.retries = 3
			var out bytes.Buffer
			n, err := c.Get(t.Context(), b3.Sum(data), &out, GetOptions{})
			if err == nil || !bytes.HasPrefix(data, out.Bytes()) || int(n) != out.Len() || len(a.ranges) > 5 {
				t.Errorf("%d bytes, %v, %q", n, err, a.ranges)
			}
		})
	}
}

func TestGetRange(t *testing.T) {
	data := pattern(5*group + 77)
	size := int64(len(data))
	c := dial(t, serveSlices(data, &asked{}))
	for _, r := range [][2]int64{{0, size}, {0, math.MaxInt64}, {0, 0}, {1, 1}, {group - 1, 2}, {group, group}, {5 * group, 77}, {5 * group, 78}, {2*group + 9, math.MaxInt64}, {size - 1, 1}, {size - 1, 10}, {7, 0}} {
		got, err := c.GetRange(t.Context(), b3.Sum(data), r[0], r[1])
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		want := data[r[0]:min(r[0]+min(r[1], size), size)]
		if err := iotest.TestReader(got, want); err != nil {
			t.Errorf("%v: %v", r, err)
		}
		if n, proven := got.Size(); n != size || r[0]+min(r[1], size) >= size && !proven {
			t.Errorf("%v: size %d, proven %v", r, n, proven)
		}
		got.Close()
		if _, err := got.Read(make([]byte, 1)); err == nil {
			t.Errorf("%v: read after close", r)
		}
		if n, err := got.WriteTo(io.Discard); n > 0 {
			t.Errorf("%v: written after close: %v", r, err)
		}
		if err := got.Close(); err != nil {
			t.Errorf("%v: closed twice: %v", r, err)
		}
		if n, _ := got.Size(); n != size {
			t.Errorf("%v: size %d after close", r, n)
		}
	}
	var refused *Error
	if _, err := c.GetRange(t.Context(), b3.Sum(data), size, 1); !errors.As(err, &refused) || refused.Status != 416 {
		t.Errorf("behind the end: %v", err)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, -1}} {
		if _, err := c.GetRange(t.Context(), b3.Sum(data), r[0], r[1]); err == nil {
			t.Errorf("%v: no error", r)
		}
	}
}

// TestGetRangeBends: answers that are not what was asked for prove nothing.
func TestGetRangeBends(t *testing.T) {
	data := pattern(5*group + 77)
	src := newSource(data)
	for name, tc := range map[string]struct {
		bend   func([]byte) []byte
		header func(http.Header)
		want   error
	}{
		"the whole": {func([]byte) []byte {
			var b bytes.Buffer
			b3.WriteSlice(&b, src, 4, 0, math.MaxInt64)
			return b.Bytes()
		}, func(h http.Header) {
			h.Set("Content-Length", fmt.Sprint(b3.SliceBytes(src.Size(), 4, 0, math.MaxInt64)))
		}, ErrIntegrity},
		"more behind":   {func(p []byte) []byte { return append(p, 1) }, func(h http.Header) { h.Del("Content-Length") }, ErrIntegrity},
		"other group":   {nil, func(h http.Header) { h.Set("Content-Type", "application/vnd.bao;group=0") }, ErrNoSlices},
		"bare bytes":    {nil, func(h http.Header) { h.Set("Content-Type", "application/octet-stream") }, ErrNoSlices},
		"no type":       {nil, func(h http.Header) { h["Content-Type"] = nil }, ErrNoSlices},
		"no bytes, 206": {func([]byte) []byte { return nil }, func(h http.Header) { h.Set("Content-Length", "0") }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, serveSlices(data, &asked{bend: tc.bend, header: tc.header}))
			c.retries = -1
			var out []byte
			r, err := c.GetRange(t.Context(), b3.Sum(data), 2*group+5, 1000)
			if err == nil {
				out, err = io.ReadAll(r)
				r.Close()
			}
			if !errors.Is(err, tc.want) || !bytes.HasPrefix(data[2*group+5:][:1000], out) {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
	}
}

// TestReaderEndsWithContext: no more tries after it.
func TestReaderEndsWithContext(t *testing.T) {
	data := pattern(3 * group)
	ctx, cancel := context.WithCancel(t.Context())
	a := &asked{bend: func(p []byte) []byte { cancel(); return p[:100] }}
	c := dial(t, serveSlices(data, a))
	_, err := c.Get(ctx, b3.Sum(data), io.Discard, GetOptions{})
	if err == nil || len(a.ranges) != 1 {
		t.Errorf("%v, %q", err, a.ranges)
	}
}

// TestWriterFails: its error is told, once, and what it took is counted.
func TestWriterFails(t *testing.T) {
	data := pattern(100_000)
	a := &asked{}
	c := dial(t, serveSlices(data, a))
	n, err := c.Get(t.Context(), b3.Sum(data), &full{50_000}, GetOptions{})
	if n != 50_000 || err == nil || !strings.Contains(err.Error(), "no space left") || len(a.ranges) != 1 {
		t.Errorf("%d bytes, %v, %q", n, err, a.ranges)
	}
}

// TestOlderNode: small answers are kept until they are verified, large ones are
// refused unless the caller takes them as they come.
func TestOlderNode(t *testing.T) {
	small, large := pattern(1<<20), pattern(1<<20+1)
	for name, tc := range map[string]struct {
		data     []byte
		bend     func([]byte) []byte
		unproven bool
		written  int
		want     error
	}{
		"small":            {small, nil, false, len(small), nil},
		"small, bad":       {small, func(p []byte) []byte { return flip(p, len(p)-1) }, false, 0, ErrIntegrity},
		"large":            {large, nil, false, 0, ErrNoSlices},
		"large, taken":     {large, nil, true, len(large), nil},
		"large bad, taken": {large, func(p []byte) []byte { return flip(p, len(p)-1) }, true, len(large), ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			bend := tc.bend
			if bend == nil {
				bend = func(p []byte) []byte { return p }
			}
			c := dial(t, serve(tc.data, bend, new([]string)))
			var out bytes.Buffer
			n, err := c.Get(t.Context(), b3.Sum(tc.data), &out, GetOptions{Unproven: tc.unproven})
			if cmp.Or(err, tc.want) != nil && !errors.Is(err, tc.want) || int(n) != tc.written || out.Len() != tc.written {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

func TestProvenGetTooLong(t *testing.T) {
	c := dial(t, serveSlices(pattern(1000), &asked{}))
	for _, most := range []int64{1, 999, 1000} {
		var out bytes.Buffer
		_, err := c.Get(t.Context(), b3.Sum(pattern(1000)), &out, GetOptions{Max: most})
		if errors.Is(err, ErrTooLong) != (most < 1000) || int64(out.Len()) > most {
			t.Errorf("at most %d: %d bytes, %v", most, out.Len(), err)
		}
	}
	if _, err := c.Get(t.Context(), b3.Sum(pattern(1000)), io.Discard, GetOptions{Max: 10, Have: section(pattern(11))}); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long before: %v", err)
	}
}
