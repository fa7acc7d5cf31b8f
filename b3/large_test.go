// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"lukechampine.com/blake3/guts"
)

// large is an object of which one MiB is there and the rest of its tree made up:
// to whoever verifies that MiB it is like any other of its size.
type large struct {
	size, start int64
	data        []byte // from start
	root        Addr
	parents     map[int64][ParentBytes]byte
}

func newLarge(size, start int64) *large {
	l := &large{size: size, start: start, data: pattern(1 << 20), parents: map[int64][ParentBytes]byte{}}
	c := l.node(0, Groups(size))
	putCV(l.root[:], &c)
	return l
}

func (l *large) node(s, m int64) cv {
	if (s+m)*GroupBytes <= l.start || s*GroupBytes >= l.start+int64(len(l.data)) {
		a := Sum(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(s)), uint64(m)))
		return getCV(a[:])
	}
	if m == 1 {
		at := s*GroupBytes - l.start
		return guts.ChainingValue(groupNode(l.data[at:at+GroupBytes], s))
	}
	half := split(m)
	left, right := l.node(s, half), l.node(s+half, m-half)
	var p [ParentBytes]byte
	putCV(p[:Size], &left)
	putCV(p[Size:], &right)
	l.parents[ParentOffset(s, m)] = p
	return parentCV(&left, &right, m == Groups(l.size))
}

// ReadAt reads the outboard tree.
func (l *large) ReadAt(b []byte, off int64) (int, error) {
	for i := 0; i < len(b); i += ParentBytes {
		p := l.parents[off+int64(i)]
		copy(b[i:], p[:])
	}
	return len(b), nil
}

// largeSource is the same as a source of slices.
type largeSource struct {
	*Verifier
	l *large
}

func (s largeSource) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, s.l.data[off-s.l.start:]), nil
}

func TestLarge(t *testing.T) {
	for _, size := range []int64{5 << 30, 5<<30 + 1, 1 << 50} {
		start := size / 3 &^ (1<<20 - 1)
		l := newLarge(size, start)
		v := NewVerifier(l.root, size, l)
		if err := v.Verify(start/GroupBytes, l.data); err != nil {
			t.Fatal(err)
		}
		src := largeSource{v, l}
		for _, group := range []int{SliceChunks, SliceGroups} {
			text := slice(t, src, group, start+5, 100_000)
			if out, err := unslice(text, l.root, group, start+5, 100_000); err != nil || !bytes.Equal(out, l.data[5:][:100_000]) {
				t.Errorf("%d bytes, group %d: %d bytes, %v", size, group, len(out), err)
			}
		}
		bad := bytes.Clone(l.data)
		bad[77_777] ^= 1
		if err := NewVerifier(l.root, size, l).Verify(start/GroupBytes, bad); err == nil {
			t.Errorf("%d bytes: a changed byte is verified", size)
		}
	}
}

// best runs f and reports the shortest run: what it costs where nobody else uses
// the machine.
func best(b *testing.B, f func()) {
	least := time.Duration(1 << 62)
	for b.Loop() {
		t := time.Now()
		f()
		least = min(least, time.Since(t))
	}
	b.ReportMetric(float64(least.Nanoseconds()), "best-ns/op")
}

// BenchmarkLarge is what verifying 64 KiB of a large object costs beyond reading
// them, and cutting and reading their slice.
func BenchmarkLarge(b *testing.B) {
	const size, piece = 5 << 30, 64 << 10
	l := newLarge(size, 3<<30)
	group := l.start / GroupBytes
	var err error
	check := func(b *testing.B) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("warm", func(b *testing.B) {
		v := NewVerifier(l.root, size, l)
		best(b, func() { err = v.Verify(group+8, l.data[8*GroupBytes:][:piece]) })
		check(b)
	})
	b.Run("cold", func(b *testing.B) {
		best(b, func() { err = NewVerifier(l.root, size, l).Verify(group+8, l.data[8*GroupBytes:][:piece]) })
		check(b)
	})
	for _, g := range []int{SliceChunks, SliceGroups} {
		src := largeSource{NewVerifier(l.root, size, l), l}
		text := slice(b, src, g, l.start+piece, piece)
		b.Run(fmt.Sprintf("write/%d", g), func(b *testing.B) {
			best(b, func() { _, err = WriteSlice(io.Discard, src, g, l.start+piece, piece) })
			check(b)
		})
		b.Run(fmt.Sprintf("read/%d", g), func(b *testing.B) {
			var r bytes.Reader
			sr := &SliceReader{}
			best(b, func() {
				r.Reset(text)
				sr.Reset(&r, l.root, g, l.start+piece, piece)
				_, err = sr.WriteTo(io.Discard)
			})
			check(b)
		})
	}
}
