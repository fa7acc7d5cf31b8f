// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func expander(t testing.TB) *Expander {
	t.Helper()
	e, err := NewExpander(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func compressor(t testing.TB) *Compressor {
	t.Helper()
	c, err := NewCompressor(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// squeeze compresses as far as it goes; sized says whether the frame announces
// its content's size.
func squeeze(t testing.TB, b []byte, sized bool) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if sized {
		return z.EncodeAll(b, nil)
	}
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Flush(); err != nil { // an unknown size: what was written left already
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// prose is n bytes that compress to between a half and a tenth.
func prose(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"frame ", "stream ", "window ", "tenant ", "address ", "capability "}
	var b []byte
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
		b = append(b, byte('a'+r.IntN(26)))
	}
	return b[:n]
}

func TestCompRoundTrip(t *testing.T) {
	e, c := expander(t), compressor(t)
	for _, n := range []int{200, 4096, 64 << 10, 1 << 20} {
		want := prose(n)
		out, ok := c.Compress([]byte("before"), want)
		if !ok || string(out[:6]) != "before" {
			t.Fatalf("%d bytes of prose were not compressed", n)
		}
		got, err := e.Expand([]byte("kept"), out[6:], n)
		if err != nil || !bytes.Equal(got, append([]byte("kept"), want...)) {
			t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
		}
		if got, err := e.Expand([]byte("kept"), out[6:], n-1); err != error(errExpands) || string(got) != "kept" {
			t.Errorf("one byte over the limit: %d bytes, %v", len(got), err)
		}
	}
}

// What would have to be refused is not made.
func TestCompressDeclines(t *testing.T) {
	c := compressor(t)
	random := make([]byte, 4096)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for name, b := range map[string][]byte{"nothing": nil, "random bytes": random, "zeros": make([]byte, 64<<10), "too much": make([]byte, MaxExpandedBytes+1)} {
		if out, ok := c.Compress([]byte("kept"), b); ok || string(out) != "kept" {
			t.Errorf("%s: %v, %d bytes", name, ok, len(out))
		}
	}
}

func TestCompBombs(t *testing.T) {
	e := expander(t)
	sized := func(n int) []byte { return squeeze(t, make([]byte, n), true) }
	unsized := func(n int) []byte { return squeeze(t, make([]byte, n), false) }
	// A thousand small frames that each expand a hundredfold.
	chain := bytes.Repeat(unsized(10_000), 100)
	claims := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0} // announces 4 GiB
	for name, c := range map[string]struct {
		payload []byte
		want    *Error
	}{
		"zeros, size announced":     {sized(1 << 20), errExpands},
		"zeros, size unknown":       {unsized(1 << 20), errExpands},
		"more than 8 MiB":           {squeeze(t, prose(MaxExpandedBytes+1), true), errExpands},
		"more than 8 MiB, unknown":  {squeeze(t, prose(MaxExpandedBytes+1), false), errExpands},
		"many frames":               {chain, errExpands},
		"a size that is not there":  {claims, errExpands},
		"no zstd":                   {[]byte("plain text"), errZstd},
		"nothing":                   {nil, errZstd},
		"the magic number alone":    {claims[:4], errZstd},
		"a broken end":              {sized(64)[:12], errZstd},
		"a window of a gigabyte":    {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 1, 0, 0}, errExpands},
		"a dictionary nobody knows": {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 9, 0, 0, 'x'}, errZstd},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := e.Expand(nil, c.payload, MaxExpandedBytes)
			if err != error(c.want) || len(got) != 0 {
				t.Fatalf("%d bytes, %v; want %v", len(got), err, c.want)
			}
			if most := min(MaxExpandedBytes, MaxExpansion*len(c.payload)); cap(got) > 2*most+64 {
				t.Errorf("%d bytes set aside for %d that came", cap(got), len(c.payload))
			}
		})
	}
}
