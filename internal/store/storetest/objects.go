// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

// Objects runs the conformance suite of store.Objects. open returns an empty
// store, which the suite closes.
func Objects(t *testing.T, open func(t *testing.T) store.Objects) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, s store.Objects)
	}{
		{"sizes", objSizes},
		{"ranges", objRanges},
		{"identity", objIdentity},
		{"abort", objAbort},
		{"wrong", objWrong},
		{"remove", objRemove},
		{"walk", objWalk},
		{"volumes", objVolumes},
		{"many", objMany},
		{"small", objSmall},
		{"parent", objParent},
		{"writer-error", objWriterError},
		{"concurrent", objConcurrent},
		{"closed", objClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.f(t, s)
		})
	}
}

// Bytes returns n bytes that depend on seed.
func Bytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1})
	_, _ = c.Read(b)
	return b
}

// Stored is an object that was put.
type Stored struct {
	Loc  store.Loc
	Addr b3.Addr
	Size int64
}

// Put stores data in pieces and returns the error of the step that failed, after
// an Abort.
func Put(ctx context.Context, s store.Objects, data []byte, piece int) (Stored, error) {
	w, err := s.Create(ctx, int64(len(data)))
	if err != nil {
		return Stored{}, err
	}
	defer w.Abort()
	for p := data; len(p) > 0; {
		n := min(piece, len(p))
		if m, err := w.Write(p[:n]); err != nil {
			return Stored{}, err
		} else if m != n {
			return Stored{}, io.ErrShortWrite
		}
		p = p[n:]
	}
	var o Stored
	o.Loc, o.Addr, o.Size, err = w.Commit()
	if err == nil && (o.Addr != b3.Sum(data) || o.Size != int64(len(data))) {
		err = fmt.Errorf("stored %d bytes as %v, %d", len(data), o.Addr, o.Size)
	}
	return o, err
}

// ReadAll returns an object's bytes.
func ReadAll(ctx context.Context, s store.Objects, o Stored) ([]byte, error) {
	r, err := s.Open(ctx, o.Loc, o.Addr, o.Size)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	n, err := r.WriteRange(&b, 0, o.Size)
	if err == nil && (n != o.Size || int64(b.Len()) != n) {
		err = fmt.Errorf("%d of %d bytes without an error", n, o.Size)
	}
	return b.Bytes(), errors.Join(err, r.Close())
}

func put(t testing.TB, s store.Objects, data []byte) Stored {
	t.Helper()
	o, err := Put(t.Context(), s, data, 50_000)
	must(t, err)
	if len(o.Loc) == 0 || len(o.Loc) > 64 {
		t.Fatalf("loc of %d bytes", len(o.Loc))
	}
	return o
}

func open(t testing.TB, s store.Objects, o Stored) store.Object {
	t.Helper()
	r, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size)
	must(t, err)
	return r
}

var objectSizes = []int{
	0, 1, 100, 1023, 1024, 1025, b3.GroupBytes - 1, b3.GroupBytes, b3.GroupBytes + 1, 2*b3.GroupBytes - 1, 3 * b3.GroupBytes,
	64<<10 - 1, 64 << 10, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1<<20 + 17, 3<<20 - 1,
}

func objSizes(t *testing.T, s store.Objects) {
	for i, n := range objectSizes {
		data := Bytes(n, uint64(i))
		for _, piece := range []int{7777, 1 << 20} {
			o, err := Put(t.Context(), s, data, piece)
			must(t, err)
			got, err := ReadAll(t.Context(), s, o)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes by %d: %d back, %v", n, piece, len(got), err)
			}
			if r := open(t, s, o); r.Size() != int64(n) {
				t.Errorf("size %d, want %d", r.Size(), n)
			} else {
				must(t, r.Close())
			}
		}
	}
}

func objRanges(t *testing.T, s store.Objects) {
	for _, n := range []int{300_000, 100_000, 9_000} {
		objRangesOf(t, s, Bytes(n, 1))
	}
}

func objRangesOf(t *testing.T, s store.Objects, data []byte) {
	r := open(t, s, put(t, s, data))
	defer func() { must(t, r.Close()) }()
	size := int64(len(data))
	rapid.Check(t, func(rt *rapid.T) {
		edge := rapid.SampledFrom([]int64{0, 1, b3.GroupBytes, 8 * b3.GroupBytes, 9 * b3.GroupBytes, size - 1, size})
		off := max(0, edge.Draw(rt, "edge")+rapid.Int64Range(-3, 3).Draw(rt, "off"))
		n := max(0, rapid.OneOf(edge, rapid.Int64Range(0, 70_000)).Draw(rt, "n"))
		p := make([]byte, n)
		m, err := r.ReadAt(p, off)
		want := data[min(off, size):min(off+n, size)]
		if !bytes.Equal(p[:m], want) || (int64(m) < n) != errors.Is(err, io.EOF) || int64(m) == n && err != nil && !errors.Is(err, io.EOF) {
			rt.Fatalf("read %d from %d: %d, %v", n, off, m, err)
		}
		var b bytes.Buffer
		w, err := r.WriteRange(&b, off, n)
		if off+n <= size {
			if err != nil || w != n || !bytes.Equal(b.Bytes(), want) {
				rt.Fatalf("write %d from %d: %d, %v", n, off, w, err)
			}
		} else if !errors.Is(err, store.ErrRange) || w != 0 || b.Len() != 0 {
			rt.Fatalf("write %d from %d outside: %d, %v", n, off, w, err)
		}
	})
	for _, c := range [][2]int64{{-1, 1}, {0, -1}, {size + 1, 0}, {1, 1<<63 - 1}} {
		if n, err := r.WriteRange(io.Discard, c[0], c[1]); n != 0 || !errors.Is(err, store.ErrRange) {
			t.Errorf("range %v: %d, %v", c, n, err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 1), -1); n != 0 || !errors.Is(err, store.ErrRange) {
		t.Errorf("read before the start: %d, %v", n, err)
	}
}

// objIdentity: the same bytes twice are two objects.
func objIdentity(t *testing.T, s store.Objects) {
	data := Bytes(40_000, 3)
	a, b := put(t, s, data), put(t, s, data)
	if a.Loc == b.Loc || a.Addr != b.Addr {
		t.Errorf("%v and %v", a, b)
	}
	must(t, s.Remove(t.Context(), a.Loc))
	if got, err := ReadAll(t.Context(), s, b); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the other one: %v", err)
	}
}

func objAbort(t *testing.T, s store.Objects) {
	for _, n := range []int{0, 10, 500_000} {
		w, err := s.Create(t.Context(), -1)
		must(t, err)
		_, err = w.Write(Bytes(n, 1))
		must(t, err)
		w.Abort()
		w.Abort()
		if _, err := w.Write([]byte("x")); !errors.Is(err, store.ErrClosed) {
			t.Errorf("write after abort: %v", err)
		}
		if _, _, _, err := w.Commit(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("commit after abort: %v", err)
		}
	}
	w, err := s.Create(t.Context(), 4)
	must(t, err)
	_, err = w.Write([]byte("kept"))
	must(t, err)
	loc, addr, size, err := w.Commit()
	must(t, err)
	w.Abort()
	if _, _, _, err := w.Commit(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("second commit: %v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("write after commit: %v", err)
	}
	if got, err := ReadAll(t.Context(), s, Stored{loc, addr, size}); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d objects", n)
	}
}

func count(t testing.TB, s store.Objects) (n int) {
	t.Helper()
	must(t, store.Walk(t.Context(), s, func(store.Loc, b3.Addr, int64) bool { n++; return true }))
	return n
}

func objWrong(t *testing.T, s store.Objects) {
	for _, n := range []int{100, 20_000, 200_000} {
		objWrongOf(t, s, Bytes(n, 1))
	}
}

func objWrongOf(t *testing.T, s store.Objects, data []byte) {
	o := put(t, s, data)
	other := o.Addr
	other[5]++
	for range 2 { // the second time it may be open already
		if _, err := s.Open(t.Context(), o.Loc, other, o.Size); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("another address: %v", err)
		}
		if _, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size+200_000); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("a much larger size: %v", err)
		}
		if _, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size+1); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("another size: %v", err)
		}
		must(t, open(t, s, o).Close())
	}
	for _, loc := range []store.Loc{"", "x", o.Loc + "0", o.Loc[:len(o.Loc)-1], "../../etc/passwd", o.Loc[:2] + "../.." + o.Loc[7:], o.Loc[:2]} {
		if _, err := s.Open(t.Context(), loc, o.Addr, o.Size); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v", loc, err)
		}
		must(t, s.Remove(t.Context(), loc))
	}
}

func objRemove(t *testing.T, s store.Objects) {
	for _, n := range []int{0, 1000, 50_000, 200_000} {
		objRemoveOne(t, s, Bytes(n, 1))
	}
}

func objRemoveOne(t *testing.T, s store.Objects, data []byte) {
	o := put(t, s, data)
	r := open(t, s, o)
	must(t, s.Remove(t.Context(), o.Loc))
	must(t, s.Remove(t.Context(), o.Loc))
	if _, err := s.Open(t.Context(), o.Loc, o.Addr, o.Size); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
	got := make([]byte, len(data))
	if n, err := r.ReadAt(got, 0); n != len(data) || !bytes.Equal(got, data) {
		t.Errorf("open before the removal: %d, %v", n, err)
	}
	must(t, r.Close())
	must(t, r.Close())
	if _, err := r.ReadAt(got, 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if _, err := r.WriteRange(io.Discard, 0, 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if n := count(t, s); n != 0 {
		t.Errorf("%d objects", n)
	}
}

func objWalk(t *testing.T, s store.Objects) {
	want := map[store.Loc]Stored{}
	for i := range 30 {
		o := put(t, s, Bytes(i*1000, uint64(i)))
		want[o.Loc] = o
	}
	w, err := s.Create(t.Context(), -1) // not committed, so not there
	must(t, err)
	_, err = w.Write(Bytes(200_000, 1))
	must(t, err)
	defer w.Abort()
	must(t, store.Walk(t.Context(), s, func(loc store.Loc, addr b3.Addr, size int64) bool {
		if want[loc] != (Stored{loc, addr, size}) {
			t.Errorf("found %v, want %v", Stored{loc, addr, size}, want[loc])
		}
		delete(want, loc)
		return true
	}))
	if len(want) != 0 {
		t.Errorf("missed %d", len(want))
	}
	n := 0
	must(t, store.Walk(t.Context(), s, func(store.Loc, b3.Addr, int64) bool { n++; return n < 3 }))
	if n != 3 {
		t.Errorf("%d calls after false", n)
	}
	// Removing while walking is what a collector does.
	must(t, store.Walk(t.Context(), s, func(loc store.Loc, _ b3.Addr, _ int64) bool {
		must(t, s.Remove(t.Context(), loc))
		return true
	}))
	if n := count(t, s); n != 0 {
		t.Errorf("%d objects", n)
	}
}

type shortWriter struct {
	left int
	err  error
}

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		n := w.left
		w.left = 0
		return n, w.err
	}
	w.left -= len(p)
	return len(p), nil
}

func objWriterError(t *testing.T, s store.Objects) {
	r := open(t, s, put(t, s, Bytes(400_000, 1)))
	defer func() { must(t, r.Close()) }()
	gone := errors.New("gone")
	for _, left := range []int{0, 10, 150_000, 399_999} {
		if n, err := r.WriteRange(&shortWriter{left, gone}, 0, 400_000); !errors.Is(err, gone) || n != int64(left) {
			t.Errorf("writer that fails after %d: %d, %v", left, n, err)
		}
		if n, err := r.WriteRange(&shortWriter{left, nil}, 0, 400_000); !errors.Is(err, io.ErrShortWrite) || n != int64(left) {
			t.Errorf("writer that stops after %d: %d, %v", left, n, err)
		}
	}
}

func objConcurrent(t *testing.T, s store.Objects) {
	big := Bytes(700_000, 99)
	shared := open(t, s, put(t, s, big))
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 12 {
				data := Bytes(r.IntN(150_000), uint64(w*100+i))
				o, err := Put(t.Context(), s, data, 1+r.IntN(60_000))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := ReadAll(t.Context(), s, o); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes: %v", len(data), err)
				}
				off := r.IntN(len(big))
				p := make([]byte, r.IntN(len(big)-off))
				if _, err := shared.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, big[off:off+len(p)]) {
					t.Errorf("shared: %v", err)
				}
				if i%2 == 0 {
					if err := s.Remove(t.Context(), o.Loc); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	must(t, shared.Close())
	if n := count(t, s); n != 6*6+1 {
		t.Errorf("%d objects", n)
	}
}

func objClosed(t *testing.T, s store.Objects) {
	data := Bytes(100_000, 1)
	o := put(t, s, data)
	r := open(t, s, o)
	w, err := s.Create(t.Context(), -1)
	must(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Create(gone, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("context: %v", err)
	}
	must(t, s.Check(t.Context()))
	must(t, s.Close())
	_, _, _, e0 := w.Commit()
	_, e1 := s.Create(t.Context(), -1)
	_, e2 := s.Open(t.Context(), o.Loc, o.Addr, o.Size)
	for i, err := range []error{
		e0, e1, e2, s.Remove(t.Context(), o.Loc), s.Check(t.Context()),
		store.Walk(t.Context(), s, func(store.Loc, b3.Addr, int64) bool { return true }),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed, use %d: %v", i, err)
		}
	}
	w.Abort()
	got := make([]byte, len(data))
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("open before the close: %v", err)
	}
	must(t, r.Close())
}
