// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package block

import (
	"encoding/binary"
	"testing"

	"lukechampine.com/blake3"
	"lukechampine.com/blake3/guts"
	"pgregory.net/rapid"
)

func bytesOf(w Words) (b [32]byte) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	return b
}

// TestSumIsBLAKE3: of every length, with and without a key.
func TestSumIsBLAKE3(t *testing.T) {
	var key [32]byte
	var words Words
	for i := range words {
		words[i] = uint32(i) * 0x9e3779b9
		binary.LittleEndian.PutUint32(key[4*i:], words[i])
	}
	msg := make([]byte, MaxBytes)
	for i := range msg {
		msg[i] = byte(i * 7)
	}
	for n := range MaxBytes + 1 {
		if bytesOf(Sum(&guts.IV, 0, msg[:n])) != blake3.Sum256(msg[:n]) {
			t.Fatalf("%d bytes have another hash", n)
		}
		h := blake3.New(32, key[:])
		_, _ = h.Write(msg[:n])
		if bytesOf(Sum(&words, guts.FlagKeyedHash, string(msg[:n]))) != [32]byte(h.Sum(nil)) {
			t.Fatalf("%d bytes have another keyed hash", n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { words = Sum(&words, 0, msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("two chunks are hashed as one")
		}
	}()
	Sum(&words, 0, make([]byte, MaxBytes+1))
}

// TestCompressIsOne: the processor's way and the plain one are the same.
func TestCompressIsOne(t *testing.T) {
	if !hasFast {
		t.Skip("this processor has one way")
	}
	rapid.Check(t, func(t *rapid.T) {
		var cv, fast, plain Words
		var block [64]byte
		copy(block[:], rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "block"))
		for i := range cv {
			cv[i] = rapid.Uint32().Draw(t, "cv")
		}
		n, flags := rapid.Uint32Range(0, 64).Draw(t, "length"), rapid.Uint32().Draw(t, "flags")
		compressFast(&fast, &cv, &block, n, flags)
		compressPlain(&plain, &cv, &block, n, flags)
		if fast != plain {
			t.Fatal("they differ")
		}
		compressFast(&cv, &cv, &block, n, flags) // in place
		if cv != plain {
			t.Fatal("in place they differ")
		}
	})
}

func BenchmarkSum(b *testing.B) {
	msg := make([]byte, MaxBytes)
	b.SetBytes(MaxBytes)
	for b.Loop() {
		Sum(&guts.IV, 0, msg)
	}
}
