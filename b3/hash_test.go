// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package b3

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/bao"
	"pgregory.net/rapid"
)

// pattern is the input of the public test vectors.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// lengths are around every border: block, chunk, group, tile and powers of two.
var lengths = []int{
	0, 1, 63, 64, 65, 1023, 1024, 1025, 8192, 16383, 16384, 16385, 31744, 32767, 32768, 32769,
	3 * GroupBytes, 5*GroupBytes - 1, 6 * GroupBytes, 7*GroupBytes + 1, 102400, 1<<20 - 1, 1 << 20, 1<<20 + 1,
	65*GroupBytes + 1, 2<<20 + 17*GroupBytes, 4<<20 + GroupBytes + 5, 5<<20 + 1,
}

func hash(t testing.TB, data []byte, cut func(int) int) (Addr, []byte) {
	t.Helper()
	var tree bytes.Buffer
	h := NewHasher(&tree)
	for p := data; len(p) > 0; {
		n := cut(len(p))
		if m, err := h.Write(p[:n]); m != n || err != nil {
			t.Fatalf("write: %d, %v", m, err)
		}
		p = p[n:]
	}
	a, err := h.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return a, tree.Bytes()
}

func whole(n int) int { return n }

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		var n int
		var want string
		if _, err := fmt.Sscanf(line, "%d %s", &n, &want); err != nil {
			continue
		}
		seen++
		if got := Sum(pattern(n)).String(); got != "b3:"+want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
	if seen < 20 {
		t.Errorf("only %d vectors", seen)
	}
}

// TestTree compares address and tree with the Bao of another implementation,
// which stands in pre-order behind an 8-byte length.
func TestTree(t *testing.T) {
	for _, n := range lengths {
		data := pattern(n)
		a, tree := hash(t, data, whole)
		enc, root := bao.EncodeBuf(data, 4, true)
		if a != root || a != blake3.Sum256(data) || a != Sum(data) {
			t.Errorf("%d bytes: address %v", n, a)
		}
		if int64(len(tree)) != TreeBytes(int64(n)) {
			t.Fatalf("%d bytes: tree of %d, want %d", n, len(tree), TreeBytes(int64(n)))
		}
		enc = enc[8:]
		var walk func(s, m int64)
		walk = func(s, m int64) {
			if m == 1 {
				return
			}
			off := ParentOffset(s, m)
			if !bytes.Equal(enc[:ParentBytes], tree[off:off+ParentBytes]) {
				t.Fatalf("%d bytes: parent above %d groups from %d differs", n, m, s)
			}
			enc = enc[ParentBytes:]
			l := split(m)
			walk(s, l)
			walk(s+l, m-l)
		}
		if walk(0, Groups(int64(n))); n > GroupBytes && len(enc) != 0 {
			t.Errorf("%d bytes: %d of the Bao not compared", n, len(enc))
		}
	}
}

func TestPieces(t *testing.T) {
	data := pattern(3<<20 + 12345)
	rapid.Check(t, func(rt *rapid.T) {
		p := data[:rapid.IntRange(0, len(data)).Draw(rt, "length")]
		most := rapid.SampledFrom([]int{1000, 5000, GroupBytes, 3*GroupBytes + 1, 1 << 20}).Draw(rt, "most")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		a, tree := hash(t, p, func(n int) int { return min(n, 1+r.IntN(most)) })
		b, tree2 := hash(t, p, whole)
		if a != b || a != blake3.Sum256(p) || !bytes.Equal(tree, tree2) {
			rt.Fatalf("pieces of up to %d give another result", most)
		}
	})
}

func TestReset(t *testing.T) {
	var tree bytes.Buffer
	h := NewHasher(nil)
	for _, n := range []int{5 * GroupBytes, 10, 0, 3 * GroupBytes, GroupBytes} {
		tree.Reset()
		h.Reset(&tree)
		if _, err := h.Write(pattern(n)); err != nil {
			t.Fatal(err)
		}
		a, err := h.Sum()
		if err != nil || a != Sum(pattern(n)) || int64(tree.Len()) != TreeBytes(int64(n)) {
			t.Errorf("%d bytes after another: %v, %v", n, a, err)
		}
	}
}

type failing struct{ after int }

var errTree = errors.New("no room")

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errTree
	}
	return len(p), nil
}

func TestTreeError(t *testing.T) {
	for after := range 6 {
		h := NewHasher(&failing{after})
		_, werr := h.Write(pattern(8 * GroupBytes))
		_, err := h.Sum()
		if !errors.Is(err, errTree) || after < 4 && !errors.Is(werr, errTree) {
			t.Errorf("tree failing after %d: %v, %v", after, werr, err)
		}
	}
}

func FuzzSum(f *testing.F) {
	for _, n := range []int{0, 1, 1025, GroupBytes, GroupBytes + 1, 70000} {
		f.Add(pattern(n), uint16(n))
	}
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		a, tree := hash(t, data, func(n int) int { return min(n, int(cut)+1) })
		if a != blake3.Sum256(data) {
			t.Fatal("wrong address")
		}
		v := NewVerifier(a, int64(len(data)), bytes.NewReader(tree))
		if err := v.Verify(0, data); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	for _, n := range []int{1 << 10, 16 << 10, 64 << 10, 1 << 20, 16 << 20} {
		data := pattern(n)
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			h := NewHasher(nil)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				h.Reset(nil)
				_, _ = h.Write(data)
				_, _ = h.Sum()
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{16 << 10, 1 << 20, 64 << 20} {
		data := pattern(n)
		a, tree := hash(b, data, whole)
		b.Run(fmt.Sprintf("all/%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				v := NewVerifier(a, int64(n), bytes.NewReader(tree))
				for g := 0; g*GroupBytes < n; g += 4 {
					if err := v.Verify(int64(g), data[g*GroupBytes:min(n, (g+4)*GroupBytes)]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("random/%dKiB", n>>10), func(b *testing.B) {
			v := NewVerifier(a, int64(n), bytes.NewReader(tree))
			r := rand.New(rand.NewPCG(1, 2))
			b.SetBytes(GroupBytes)
			b.ReportAllocs()
			for b.Loop() {
				g := r.IntN(n / GroupBytes)
				if err := v.Verify(int64(g), data[g*GroupBytes:(g+1)*GroupBytes]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
