// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"lukechampine.com/blake3/bao"
	"pgregory.net/rapid"
)

// source is an object in memory with its verified tree.
type source struct {
	*bytes.Reader
	*Verifier
}

func (s source) Size() int64 { return s.Verifier.Size() }

func newSource(t testing.TB, data []byte) (source, Addr) {
	t.Helper()
	a, tree := hash(t, data, whole)
	return source{bytes.NewReader(data), NewVerifier(a, int64(len(data)), bytes.NewReader(tree))}, a
}

func slice(t testing.TB, src SliceSource, group int, off, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	wrote, err := WriteSlice(&b, src, group, off, n)
	if err != nil || wrote != int64(b.Len()) {
		t.Fatalf("slice of %d from %d: wrote %d, said %d, %v", n, off, b.Len(), wrote, err)
	}
	if want := SliceBytes(src.Size(), group, off, n); want != wrote {
		t.Fatalf("slice of %d from %d of %d: %d bytes, foretold %d", n, off, src.Size(), wrote, want)
	}
	return b.Bytes()
}

// cut is what a range of data holds.
func cut(data []byte, off, n int64) []byte {
	off = min(off, int64(len(data)))
	return data[off:][:min(n, int64(len(data))-off)]
}

func unslice(text []byte, a Addr, group int, off, n int64) ([]byte, error) {
	return io.ReadAll(NewSliceReader(bytes.NewReader(text), a, group, off, n))
}

// counted32 is the input of Bao's test vectors.
func counted32(n int) []byte {
	var b []byte
	for i := uint32(1); len(b) < n; i++ {
		b = binary.LittleEndian.AppendUint32(b, i)
	}
	return b[:n]
}

func TestSliceVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/slices.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		var size int
		var off, n, length int64
		var addr, sum, corrupt string
		if _, err := fmt.Sscanf(line, "%d %s %d %d %d %s %s", &size, &addr, &off, &n, &length, &sum, &corrupt); err != nil {
			continue
		}
		seen++
		data := counted32(size)
		src, a := newSource(t, data)
		if a.String() != "b3:"+addr {
			t.Fatalf("%d bytes: %v", size, a)
		}
		got := slice(t, src, SliceChunks, off, n)
		if int64(len(got)) != length || Sum(got).String() != "b3:"+sum {
			t.Errorf("slice of %d from %d of %d: %d bytes, %v", n, off, size, len(got), Sum(got))
		}
		if out, err := unslice(got, a, SliceChunks, off, n); err != nil || !bytes.Equal(out, cut(data, off, n)) {
			t.Errorf("slice of %d from %d of %d: %d bytes, %v", n, off, size, len(out), err)
		}
		for s := range strings.SplitSeq(corrupt, ",") {
			at, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(got)
			bad[at] ^= 1
			if out, err := unslice(bad, a, SliceChunks, off, n); err == nil || !bytes.HasPrefix(cut(data, off, n), out) {
				t.Errorf("slice of %d from %d of %d, byte %d changed: %d bytes, %v", n, off, size, at, len(out), err)
			}
		}
	}
	if seen < 200 {
		t.Errorf("only %d vectors", seen)
	}
}

// ranges are unaligned, at borders, empty, whole and past the end.
func ranges(size int64) [][2]int64 {
	r := [][2]int64{{0, 0}, {0, 1}, {0, size}, {0, math.MaxInt64}, {size, 0}, {size, 1}, {size + 5, 100}, {math.MaxInt64, math.MaxInt64}}
	for _, at := range []int64{1, 1000, 1023, 1024, 1025, 16383, 16384, 16385, 65535, 1 << 20, size / 2, size/2 + 7, size - 16385, size - 1025, size - 1} {
		for _, n := range []int64{0, 1, 2, 1024, 16384, 16385, 40000, size / 3, math.MaxInt64} {
			if at >= 0 {
				r = append(r, [2]int64{at, n})
			}
		}
	}
	return r
}

// TestSlices compares with the slices of another implementation, both ways.
func TestSlices(t *testing.T) {
	for _, size := range lengths {
		data := pattern(size)
		src, a := newSource(t, data)
		for _, group := range []int{SliceChunks, SliceGroups} {
			enc, _ := bao.EncodeBuf(data, group, false)
			if all := slice(t, src, group, 0, int64(size)); !bytes.Equal(all, enc) {
				t.Fatalf("%d bytes, group %d: the slice of all is not the encoding", size, group)
			}
			for i, r := range ranges(int64(size)) {
				off, n := r[0], r[1]
				if size > 200_000 && (i+size)%4 > 0 || size > 1<<20+1 && n > 40000 && off != 1025 {
					continue // others of the sizes have it
				}
				got := slice(t, src, group, off, n)
				out, err := unslice(got, a, group, off, n)
				if err != nil || !bytes.Equal(out, cut(data, off, n)) {
					t.Fatalf("%d bytes, group %d, %d from %d: %d bytes, %v", size, group, n, off, len(out), err)
				}
				if n == 0 || off >= int64(size) {
					continue // the other refuses these or has its own idea
				}
				n = min(n, int64(size)-off)
				var want bytes.Buffer
				if err := bao.ExtractSlice(&want, bytes.NewReader(enc), nil, group, uint64(off), uint64(n)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want.Bytes()) {
					t.Fatalf("%d bytes, group %d, %d from %d: another slice", size, group, n, off)
				}
				if out, ok := bao.VerifySlice(got, group, uint64(off), uint64(n), a); !ok || !bytes.Equal(out, cut(data, off, n)) {
					t.Fatalf("%d bytes, group %d, %d from %d: refused by another", size, group, n, off)
				}
			}
		}
	}
}

func TestSliceProperties(t *testing.T) {
	data := pattern(1<<20 + 54321)
	rapid.Check(t, func(rt *rapid.T) {
		p := data[:rapid.IntRange(0, len(data)).Draw(rt, "size")]
		group := rapid.SampledFrom([]int{SliceChunks, SliceGroups}).Draw(rt, "group")
		off := rapid.Int64Range(0, int64(len(p))+2000).Draw(rt, "off")
		n := rapid.Int64Range(0, 100_000).Draw(rt, "n")
		src, a := newSource(t, p)
		text := slice(t, src, group, off, n)
		var r io.Reader = bytes.NewReader(text)
		if rapid.Bool().Draw(rt, "crumbs") {
			r = iotest.HalfReader(iotest.DataErrReader(r))
		}
		sr := NewSliceReader(r, a, group, off, n)
		out, err := io.ReadAll(sr)
		if err != nil || !bytes.Equal(out, cut(p, off, n)) {
			rt.Fatalf("%d bytes, %v", len(out), err)
		}
		toEnd := off+n >= int64(len(p))
		if size, proven := sr.Size(); size != int64(len(p)) || (toEnd && !proven) {
			rt.Fatalf("size %d, proven %v", size, proven)
		}
		short := rapid.IntRange(0, len(text)-1).Draw(rt, "short")
		if out, err := unslice(text[:short], a, group, off, n); !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(cut(p, off, n), out) {
			rt.Fatalf("cut at %d of %d: %d bytes, %v", short, len(text), len(out), err)
		}
		if _, err := unslice(append(text, 0), a, group, off, n); !errors.Is(err, ErrMismatch) {
			rt.Fatalf("a byte behind the slice: %v", err)
		}
		if _, err := unslice(text, Sum(append(bytes.Clone(p), 1)), group, off, n); !errors.Is(err, ErrMismatch) {
			rt.Fatalf("another address: %v", err)
		}
	})
}

// TestSliceFlips changes every byte of slices, one at a time. Behind the length
// each change is refused as a mismatch before a byte of its leaf comes out. A
// wrong length is refused, or else the bytes are the right ones and it is not
// taken for proven.
func TestSliceFlips(t *testing.T) {
	for _, tc := range []struct {
		size, group int
		off, n      int64
	}{
		{0, SliceChunks, 0, 0}, {0, SliceGroups, 0, 10}, {1, SliceChunks, 0, 1}, {1024, SliceGroups, 0, 1024}, {1025, SliceChunks, 0, 2000},
		{5000, SliceChunks, 1500, 2000}, {5000, SliceChunks, 9000, 1}, {5000, SliceGroups, 100, 4900}, {16385, SliceGroups, 16384, 1},
		{16385, SliceChunks, 16000, 300}, {3*GroupBytes + 77, SliceGroups, GroupBytes + 1, 3}, {3*GroupBytes + 77, SliceGroups, 3 * GroupBytes, 500},
		{GroupBytes + 5, SliceGroups, 0, math.MaxInt64}, {40 * GroupBytes, SliceChunks, 20*GroupBytes + 1000, 3000},
	} {
		data := pattern(tc.size)
		src, a := newSource(t, data)
		text := slice(t, src, tc.group, tc.off, tc.n)
		want := cut(data, tc.off, tc.n)
		leaf := int64(1024) << tc.group
		sr := &SliceReader{}
		for at := range text {
			text[at] ^= 1 << (at % 8)
			sr.Reset(bytes.NewReader(text), a, tc.group, tc.off, tc.n)
			out, err := io.ReadAll(sr)
			text[at] ^= 1 << (at % 8)
			if !bytes.HasPrefix(want, out) {
				t.Fatalf("%+v, byte %d: wrong bytes came out", tc, at)
			}
			size, proven := sr.Size()
			switch {
			case at < sliceHeader:
				if proven && size != int64(tc.size) || err == nil && (proven || !bytes.Equal(out, want)) {
					t.Fatalf("%+v, byte %d of the length: %d bytes, size %d %v, %v", tc, at, len(out), size, proven, err)
				}
			case !errors.Is(err, ErrMismatch):
				t.Fatalf("%+v, byte %d: %d bytes, %v", tc, at, len(out), err)
			case (tc.off+int64(len(out)))%leaf != 0 && len(out) > 0:
				t.Fatalf("%+v, byte %d: a part of a leaf came out, %d bytes", tc, at, len(out))
			}
		}
	}
}

// TestSliceLies are slices of one who knows the format and lies about the length.
func TestSliceLies(t *testing.T) {
	data := pattern(5*GroupBytes + 100)
	src, a := newSource(t, data)
	sizes := []int64{0, 1, 100, GroupBytes, int64(len(data)) - 1, int64(len(data)) + 1, 6 * GroupBytes, 8 * GroupBytes, 9 * GroupBytes, 1 << 40, math.MaxInt64, -1}
	for _, r := range [][2]int64{{0, 10}, {0, math.MaxInt64}, {4*GroupBytes + 1, 20}, {5 * GroupBytes, 100}, {int64(len(data)), 0}, {int64(len(data)) + 3, 7}} {
		for _, group := range []int{SliceChunks, SliceGroups} {
			text := slice(t, src, group, r[0], r[1])
			want := cut(data, r[0], r[1])
			for _, size := range sizes {
				binary.LittleEndian.PutUint64(text, uint64(size))
				sr := NewSliceReader(bytes.NewReader(text), a, group, r[0], r[1])
				out, err := io.ReadAll(sr)
				if _, proven := sr.Size(); proven || !bytes.HasPrefix(want, out) || err == nil && len(out) < len(want) {
					t.Errorf("%v, group %d, said to be %d: %d bytes, %v", r, group, size, len(out), err)
				}
				if touchesEnd := r[0] >= 5*GroupBytes || r[1] == math.MaxInt64; touchesEnd && err == nil {
					t.Errorf("%v, group %d, said to be %d: believed", r, group, size)
				}
			}
		}
	}
	// The empty object claimed for another address.
	if _, err := unslice(make([]byte, 8), a, SliceGroups, 0, 10); !errors.Is(err, ErrMismatch) {
		t.Errorf("an empty slice: %v", err)
	}
}

func TestSliceArguments(t *testing.T) {
	src, a := newSource(t, pattern(10))
	for _, c := range []struct {
		size   int64
		group  int
		off, n int64
	}{{10, 1, 0, 1}, {10, 5, 0, 1}, {10, -1, 0, 1}, {10, 64, 0, 1}, {10, 0, -1, 1}, {10, 4, 0, -1}, {-1, 4, 0, 1}} {
		if got := SliceBytes(c.size, c.group, c.off, c.n); got != -1 {
			t.Errorf("%+v: %d bytes", c, got)
		}
		if c.size < 0 {
			continue
		}
		var b bytes.Buffer
		if _, err := WriteSlice(&b, src, c.group, c.off, c.n); !errors.Is(err, ErrSlice) || b.Len() > 0 {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := unslice(make([]byte, 100), a, c.group, c.off, c.n); !errors.Is(err, ErrSlice) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if got := SliceBytes(math.MaxInt64, SliceChunks, 0, math.MaxInt64); got != -1 {
		t.Errorf("a slice longer than there are numbers: %d", got)
	}
	if got, want := SliceBytes(1<<62, SliceChunks, 1<<61, 1), int64(8+52*64+1024); got != want {
		t.Errorf("one byte of 2^62: %d, want %d", got, want)
	}
}

// faulty is a source that fails at a place.
type faulty struct {
	source
	at     int64
	parent bool
}

func (f faulty) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return 0, ErrMismatch
	}
	return f.source.ReadAt(p, off)
}

func (f faulty) Parent(s, m int64) ([ParentBytes]byte, error) {
	if f.parent && s == 0 {
		return [ParentBytes]byte{}, errTree
	}
	return f.source.Parent(s, m)
}

func TestSliceSourceFails(t *testing.T) {
	src, a := newSource(t, pattern(20*GroupBytes))
	for _, group := range []int{SliceChunks, SliceGroups} {
		var b bytes.Buffer
		if n, err := WriteSlice(&b, faulty{src, 5, false}, group, 0, 20*GroupBytes); !errors.Is(err, ErrMismatch) || n != 0 || b.Len() != 0 {
			t.Errorf("damaged in the first group: wrote %d, %d, %v", n, b.Len(), err)
		}
		n, err := WriteSlice(&b, faulty{src, 15*GroupBytes + 1, false}, group, 0, 20*GroupBytes)
		if !errors.Is(err, ErrMismatch) || n != int64(b.Len()) || n == 0 {
			t.Errorf("damaged later: wrote %d, %d, %v", n, b.Len(), err)
		}
		out, err := unslice(b.Bytes(), a, group, 0, 20*GroupBytes)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(pattern(20*GroupBytes), out) || len(out) > 15*GroupBytes {
			t.Errorf("what was written: %d bytes, %v", len(out), err)
		}
		b.Reset()
		if _, err := WriteSlice(&b, faulty{src, -1, true}, group, 0, 1); !errors.Is(err, errTree) || b.Len() != 0 {
			t.Errorf("no tree: %v", err)
		}
		if _, err := WriteSlice(&failing{1}, src, group, 0, 20*GroupBytes); !errors.Is(err, errTree) {
			t.Errorf("a writer that fails: %v", err)
		}
	}
}

func TestSliceReaderFails(t *testing.T) {
	src, a := newSource(t, pattern(5*GroupBytes))
	text := slice(t, src, SliceGroups, 0, 5*GroupBytes)
	r := io.MultiReader(bytes.NewReader(text[:3*GroupBytes]), iotest.ErrReader(errTree))
	out, err := io.ReadAll(NewSliceReader(r, a, SliceGroups, 0, 5*GroupBytes))
	if !errors.Is(err, errTree) || len(out) != 2*GroupBytes {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	// The writer's fault is the writer's, and what it took is not given twice.
	sr := NewSliceReader(bytes.NewReader(text), a, SliceGroups, 0, 5*GroupBytes)
	if n, err := sr.WriteTo(&failing{2}); !errors.Is(err, errTree) || n != 2*GroupBytes {
		t.Errorf("%d, %v", n, err)
	}
	middle := slice(t, src, SliceGroups, 7, 3*GroupBytes)
	if err := iotest.TestReader(NewSliceReader(bytes.NewReader(middle), a, SliceGroups, 7, 3*GroupBytes), pattern(5 * GroupBytes)[7:][:3*GroupBytes]); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if n, err := NewSliceReader(bytes.NewReader(text), a, SliceGroups, 0, math.MaxInt64).WriteTo(&b); err != nil || n != 5*GroupBytes || !bytes.Equal(b.Bytes(), pattern(5*GroupBytes)) {
		t.Errorf("%d, %v", n, err)
	}
}

func TestSliceAllocates(t *testing.T) {
	src, a := newSource(t, pattern(1<<20))
	text := slice(t, src, SliceGroups, 0, 1<<20)
	sr := NewSliceReader(nil, a, SliceGroups, 0, 0)
	r := bytes.NewReader(nil)
	if n := testing.AllocsPerRun(10, func() {
		r.Reset(text)
		sr.Reset(r, a, SliceGroups, 0, 1<<20)
		if n, err := sr.WriteTo(io.Discard); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations to read a slice", n)
	}
}

// TestSubtrees: what a slice says of the bytes before its range is what they are.
func TestSubtrees(t *testing.T) {
	data := pattern(11*GroupBytes + 5)
	src, a := newSource(t, data)
	for g := range int64(12) {
		sr := NewSliceReader(bytes.NewReader(slice(t, src, SliceGroups, g*GroupBytes, 1)), a, SliceGroups, g*GroupBytes, 1)
		if _, err := io.ReadAll(sr); err != nil {
			t.Fatal(err)
		}
		var at int64
		for _, s := range sr.Before() {
			sum, err := SubtreeSum(bytes.NewReader(data[s.Off:]), s.Off, s.Len)
			if err != nil || sum != s.CV || s.Off != at {
				t.Errorf("before group %d: %d from %d: %v", g, s.Len, s.Off, err)
			}
			at += s.Len
			bad := bytes.Clone(data[s.Off : s.Off+s.Len])
			bad[len(bad)-1] ^= 1
			if sum, err := SubtreeSum(bytes.NewReader(bad), s.Off, s.Len); err != nil || sum == s.CV {
				t.Errorf("before group %d: a changed byte: %v", g, err)
			}
		}
		if at != g*GroupBytes {
			t.Errorf("before group %d: %d bytes", g, at)
		}
	}
	for _, c := range [][2]int64{{0, 0}, {0, 1}, {0, 3 * GroupBytes}, {GroupBytes, 2 * GroupBytes}, {-GroupBytes, GroupBytes}, {0, -GroupBytes}, {5, GroupBytes}} {
		if _, err := SubtreeSum(bytes.NewReader(data), c[0], c[1]); err == nil {
			t.Errorf("a node above %d from %d", c[1], c[0])
		}
	}
	if _, err := SubtreeSum(bytes.NewReader(data[:GroupBytes]), 0, 2*GroupBytes); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too few bytes: %v", err)
	}
}

// TestSliceDamage: an error says where, to the leaf.
func TestSliceDamage(t *testing.T) {
	src, a := newSource(t, pattern(11*GroupBytes+5))
	text := slice(t, src, SliceGroups, 0, math.MaxInt64)
	for _, c := range []struct {
		at   int
		want DamageError
	}{
		{len(text) - 1, DamageError{11 * GroupBytes, 5, false}},
		{len(text) - 6, DamageError{10 * GroupBytes, GroupBytes, false}},
		{20, DamageError{0, GroupBytes, true}},
		{sliceHeader + 4*ParentBytes, DamageError{0, GroupBytes, false}},
	} {
		bad := bytes.Clone(text)
		bad[c.at] ^= 4
		out, err := unslice(bad, a, SliceGroups, 0, math.MaxInt64)
		var d *DamageError
		if !errors.As(err, &d) || *d != c.want || int64(len(out)) != d.Off {
			t.Errorf("byte %d: %d bytes, %v", c.at, len(out), err)
		}
	}
}

func FuzzSliceReader(f *testing.F) {
	data := pattern(3*GroupBytes + 9)
	src, a := newSource(f, data)
	for _, r := range [][2]int64{{0, 10}, {0, math.MaxInt64}, {GroupBytes + 5, 3}, {1 << 40, 1}} {
		for _, group := range []int{SliceChunks, SliceGroups} {
			f.Add(slice(f, src, group, r[0], r[1]), group, r[0], r[1])
		}
	}
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 127}, 0, int64(0), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, text []byte, group int, off, n int64) {
		sr := NewSliceReader(bytes.NewReader(text), a, group, off, n)
		out, err := io.ReadAll(sr)
		if len(out) > 0 && !bytes.HasPrefix(cut(data, off, n), out) {
			t.Fatal("foreign bytes")
		}
		if err == nil && !bytes.Equal(out, cut(data, off, n)) {
			t.Fatal("an end where there is none")
		}
		if size, proven := sr.Size(); proven && size != int64(len(data)) {
			t.Fatalf("proved %d bytes", size)
		}
	})
}
