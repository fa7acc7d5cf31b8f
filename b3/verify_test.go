// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// counted counts reads, so that a test can hold the verifier to O(log n).
type counted struct {
	io.ReaderAt
	mu           sync.Mutex
	reads, bytes int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	c.reads++
	c.bytes += len(p)
	c.mu.Unlock()
	return c.ReaderAt.ReadAt(p, off)
}

func TestVerifyRanges(t *testing.T) {
	for _, n := range lengths {
		data := pattern(n)
		a, tree := hash(t, data, whole)
		v := NewVerifier(a, int64(n), bytes.NewReader(tree))
		if err := errors.Join(v.VerifyTop(), v.Verify(0, data)); err != nil {
			t.Fatalf("%d bytes, all: %v", n, err)
		}
		groups := int(Groups(int64(n)))
		for g := range groups {
			c := &counted{ReaderAt: bytes.NewReader(tree)}
			one := NewVerifier(a, int64(n), c)
			if err := one.Verify(int64(g), data[g*GroupBytes:min(n, (g+1)*GroupBytes)]); err != nil {
				t.Fatalf("%d bytes, group %d: %v", n, g, err)
			}
			if most := 2 + bits.Len(uint(groups)); c.reads > most || c.bytes > (most+tileGroups)*ParentBytes {
				t.Errorf("%d bytes, group %d: %d reads of %d bytes", n, g, c.reads, c.bytes)
			}
		}
	}
}

func TestVerifyShape(t *testing.T) {
	data := pattern(3*GroupBytes + 7)
	a, tree := hash(t, data, whole)
	v := NewVerifier(a, int64(len(data)), bytes.NewReader(tree))
	for _, c := range []struct {
		group, from, to int
		ok              bool
	}{
		{0, 0, 2 * GroupBytes, true},
		{1, GroupBytes, len(data), true},
		{3, 3 * GroupBytes, len(data), true},
		{0, 0, 0, true}, // nothing asked, nothing wrong
		{0, 0, GroupBytes - 1, false},
		{0, 0, GroupBytes + 1, false},
		{0, GroupBytes, 2 * GroupBytes, false},
		{3, 3 * GroupBytes, len(data) - 1, false},
		{3, 0, GroupBytes, false},
		{4, 0, 0, false},
		{-1, 0, GroupBytes, false},
	} {
		err := v.Verify(int64(c.group), data[c.from:c.to])
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrMismatch) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, wrong := range []int64{int64(len(data)) - 1, int64(len(data)) + 1, GroupBytes, 2 * GroupBytes, 100 * GroupBytes} {
		v := NewVerifier(a, wrong, bytes.NewReader(tree))
		if err := v.Verify(0, data[:GroupBytes]); wrong/GroupBytes != 3 && !errors.Is(err, ErrMismatch) {
			t.Errorf("size %d: %v", wrong, err)
		}
	}
}

// TestFlip: whatever byte of data or tree is changed, exactly the groups that
// hang on it are refused.
func TestFlip(t *testing.T) {
	data := pattern(2<<20 + 5*GroupBytes + 100)
	a, tree := hash(t, data, whole)
	n := int64(len(data))
	groups := int(Groups(n))
	group := func(data []byte, g int) []byte { return data[g*GroupBytes : min(len(data), (g+1)*GroupBytes)] }
	rapid.Check(t, func(rt *rapid.T) {
		mask := byte(rapid.IntRange(1, 255).Draw(rt, "mask"))
		bad := bytes.Clone(data)
		at := rapid.IntRange(0, len(bad)-1).Draw(rt, "data")
		bad[at] ^= mask
		v := NewVerifier(a, n, bytes.NewReader(tree))
		for g := range groups {
			if err := v.Verify(int64(g), group(bad, g)); (err != nil) != (g == at/GroupBytes) {
				rt.Fatalf("byte %d changed: group %d: %v", at, g, err)
			}
		}
		badTree := bytes.Clone(tree)
		at = rapid.IntRange(0, len(tree)-1).Draw(rt, "tree")
		badTree[at] ^= mask
		v = NewVerifier(a, n, bytes.NewReader(badTree))
		refused := 0
		for g := range groups {
			err := v.Verify(int64(g), group(data, g))
			if err != nil {
				if refused++; !errors.Is(err, ErrMismatch) {
					rt.Fatal(err)
				}
			}
			if err := v.Verify(int64(g), group(bad, g)); err == nil && !bytes.Equal(group(data, g), group(bad, g)) {
				rt.Fatal("wrong bytes pass with a wrong tree")
			}
		}
		if refused == 0 {
			rt.Fatalf("byte %d of the tree changed and nobody noticed", at)
		}
	})
}

func TestShortTree(t *testing.T) {
	data := pattern(100 * GroupBytes)
	a, tree := hash(t, data, whole)
	for _, n := range []int{0, 1, 63, 64, len(tree) / 2, len(tree) - 1} {
		v := NewVerifier(a, int64(len(data)), bytes.NewReader(tree[:n]))
		if err := v.Verify(99, data[99*GroupBytes:]); !errors.Is(err, ErrMismatch) {
			t.Errorf("tree of %d bytes: %v", n, err)
		}
	}
	v := NewVerifier(a, int64(len(data)), broken{})
	if err := v.Verify(0, data); !errors.Is(err, errTree) || errors.Is(err, ErrMismatch) {
		t.Errorf("unreadable tree: %v", err)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errTree }

func TestParent(t *testing.T) {
	data := pattern(77 * GroupBytes)
	a, tree := hash(t, data, whole)
	v := NewVerifier(a, int64(len(data)), bytes.NewReader(tree))
	for _, n := range [][2]int64{{0, 77}, {0, 64}, {64, 13}, {64, 8}, {72, 5}, {76, 1}, {2, 2}} {
		if n[1] < 2 {
			continue
		}
		p, err := v.Parent(n[0], n[1])
		off := ParentOffset(n[0], n[1])
		if err != nil || !bytes.Equal(p[:], tree[off:off+ParentBytes]) {
			t.Errorf("above %d from %d: %v", n[1], n[0], err)
		}
	}
	for _, n := range [][2]int64{{1, 2}, {0, 78}, {0, 3}, {64, 14}, {-2, 2}, {80, 2}, {0, 0}, {0, -5},
		{0, 1}, {77, 2}, {63, 2}, {3, 2}, {64, 64}, {72, 8}, {68, 8}, {1, 64}} {
		if _, err := v.Parent(n[0], n[1]); err == nil {
			t.Errorf("a parent above %d from %d", n[1], n[0])
		}
	}
}

// TestConcurrent goes through far more parents and tiles than are remembered.
func TestConcurrent(t *testing.T) {
	const size = 40 << 20
	var tree bytes.Buffer
	h := NewHasher(&tree)
	mib := make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = h.Write(mib)
	}
	a, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(a, size, bytes.NewReader(tree.Bytes()))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range int64(size >> 20) {
				g := (i*7 + int64(w)*11) % (size >> 20) * tileGroups
				if err := v.Verify(g, mib); err != nil {
					t.Errorf("group %d: %v", g, err)
				}
			}
		})
	}
	wg.Wait()
	if len(v.parents) > keepParents {
		t.Errorf("%d parents kept", len(v.parents))
	}
}

func FuzzVerify(f *testing.F) {
	data := pattern(5*GroupBytes + 9)
	a, tree := hash(f, data, whole)
	f.Add(int64(len(data)), tree, data, int64(0))
	f.Add(int64(7), []byte{}, data[:7], int64(0))
	f.Add(int64(1)<<62, tree, data[:GroupBytes], int64(1)<<40)
	f.Fuzz(func(t *testing.T, size int64, tree, p []byte, group int64) {
		if size < 0 {
			return
		}
		v := NewVerifier(a, size, bytes.NewReader(tree))
		err := v.Verify(group, p)
		if err == nil && len(p) > 0 && (group < 0 || group*GroupBytes+int64(len(p)) > int64(len(data)) ||
			!bytes.Equal(p, data[group*GroupBytes:][:len(p)])) {
			t.Fatal("foreign bytes verified")
		}
		if _, err := v.Parent(group, size>>14); err == nil && size != int64(len(data)) && Groups(size) != 6 {
			t.Fatal("foreign parent")
		}
	})
}
