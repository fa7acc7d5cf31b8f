// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pack

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

var testID = ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// file is a pack in memory.
type file struct{ b []byte }

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(f.b) {
		f.b = append(f.b, make([]byte, need-len(f.b))...)
	}
	return copy(f.b[off:], p), nil
}

// build returns a pack of objects of these sizes.
func build(sizes ...int) []byte {
	var objects [][]byte
	for i, n := range sizes {
		objects = append(objects, bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	return buildOf(objects...)
}

func buildOf(objects ...[]byte) []byte {
	var f file
	var c Chunks
	c.Reset(&f, 0)
	c.Put(AppendHead(nil, testID))
	c.Zeros(HeadBytes - BlockBytes)
	for _, data := range objects {
		n := len(data)
		var tree bytes.Buffer
		h := b3.NewHasher(&tree)
		_, _ = h.Write(data)
		addr, _ := h.Sum()
		at := c.End()
		c.Put((&Record{Place: Place{testID, at}, Addr: addr, Size: int64(n)}).Append(nil))
		c.Put(data)
		c.Put(tree.Bytes())
		c.Zeros(at + Room(int64(n)) - c.End())
	}
	if err := c.Flush(); err != nil {
		panic(err)
	}
	return f.b
}

func scanAll(t testing.TB, b []byte) (all []Found) {
	t.Helper()
	if err := Scan(bytes.NewReader(b), testID, int64(len(b)), func(f Found) { all = append(all, f) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestScan(t *testing.T) {
	sizes := []int{0, 1, 1000, b3.GroupBytes, b3.GroupBytes + 1, MaxObject, 5}
	b := build(sizes...)
	b = append(b, make([]byte, 300_000)...) // room that was filled ahead
	all := scanAll(t, b)
	if len(all) != len(sizes) {
		t.Fatalf("%d records", len(all))
	}
	at := int64(HeadBytes)
	for i, f := range all {
		if f.Off != at || f.Size != int64(sizes[i]) || f.Dead || f.Bytes != Room(f.Size) {
			t.Errorf("%d: %+v", i, f)
		}
		at += f.Bytes
	}
	f := &file{b}
	if err := MarkDead(f, all[2].Off); err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * StateBytes { // one bit less than dead is alive
		at := all[4].Off + StateAt
		for _, word := range []string{string(make([]byte, StateBytes)), deadWord} {
			copy(b[at:], word)
			b[at+int64(bit/8)] ^= 1 << (bit % 8)
			if scanAll(t, b)[4].Dead {
				t.Errorf("%q is dead", b[at:at+StateBytes])
			}
		}
		clear(b[at : at+StateBytes])
	}
	again := scanAll(t, b)
	if !again[2].Dead || again[1].Dead || again[3].Dead {
		t.Errorf("%+v", again)
	}
	// Garbage where a crash tore the end is one damaged record, which can be
	// marked dead too.
	end := at
	b[end+200] = 7
	again = scanAll(t, b)
	last := again[len(again)-1]
	if len(again) != len(sizes)+1 || last.Off != end || last.Size != -1 || last.Dead {
		t.Errorf("%+v", last)
	}
	if err := MarkDead(f, end); err != nil {
		t.Fatal(err)
	}
	if again = scanAll(t, b); !again[len(again)-1].Dead {
		t.Errorf("%+v", again[len(again)-1])
	}
	failing := io.NewSectionReader(failingReader{}, 0, 1<<20)
	if err := Scan(failing, testID, 1<<20, func(Found) {}); !errors.Is(err, errRead) {
		t.Errorf("an error of the disk: %v", err)
	}
}

// TestForeign: an object whose bytes are records, even ones of its own pack, holds
// none for a scan that lost its way.
func TestForeign(t *testing.T) {
	const begin = HeadBytes + RecordHead // of its bytes; the next aligned place is 32 on
	inner := build(10, 500)[HeadBytes:]
	data := append(make([]byte, 32), inner...) // heads of this pack that say another place
	other := Record{Place: Place{ID{9}, int64(begin + len(data))}, Addr: b3.Sum(nil)}
	data = append(other.Append(data), 0) // one that says this place in another pack
	b := buildOf(data, []byte("next"))
	if r, err := ParseRecord(b[begin+32:], Place{testID, HeadBytes}); err != nil || r.Size != 10 {
		t.Fatalf("nothing is foreign here: %+v, %v", r, err)
	}
	if _, err := ParseRecord(b[other.Off:], other.Place); err != nil {
		t.Fatal(err)
	}
	b[HeadBytes+20]++ // its head is gone
	all := scanAll(t, b)
	if len(all) != 2 || all[0].Off != HeadBytes || all[0].Size != -1 || all[1].Size != 4 {
		t.Errorf("%+v", all)
	}
}

var errRead = errors.New("read")

type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, errRead }

// TestChunks: what is put in pieces of any length arrives, and errors stay.
func TestChunks(t *testing.T) {
	var f, want file
	var c Chunks
	c.Reset(&f, 100)
	at := int64(100)
	for i, n := range []int{1, ChunkBytes - 1, ChunkBytes, 3, 2*ChunkBytes + 5, 0} {
		p := bytes.Repeat([]byte{byte(i + 1)}, n)
		c.Put(p)
		_, _ = want.WriteAt(p, at)
		at += int64(n)
		c.Zeros(int64(n))
		_, _ = want.WriteAt(make([]byte, n), at)
		at += int64(n)
		if c.End() != at {
			t.Fatalf("end %d, want %d", c.End(), at)
		}
	}
	c.Zeros(-5)
	if err := c.Flush(); err != nil || !bytes.Equal(f.b, want.b) {
		t.Errorf("%d bytes, want %d, %v", len(f.b), len(want.b), err)
	}
	for _, w := range []badWriter{{err: errRead}, {n: 1}} {
		c.Reset(w, 0)
		c.Put(make([]byte, 3*ChunkBytes))
		c.Put([]byte("x"))
		c.Zeros(ChunkBytes)
		if err := c.Flush(); !errors.Is(err, errRead) && !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%v", err)
		}
	}
}

type badWriter struct {
	n   int
	err error
}

func (w badWriter) WriteAt([]byte, int64) (int, error) { return w.n, w.err }

func FuzzPlace(f *testing.F) {
	f.Add("p:0102030405060708090a0b0c:00000040")
	f.Add("p:0102030405060708090A0b0c:00000040")
	f.Add("p:../../")
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := ParsePlace(store.Loc(s)); ok && (string(p.Loc()) != s || p.Off < HeadBytes || len(s) > 64) {
			t.Fatalf("%q comes back as %q", s, p.Loc())
		}
		if id, ok := ParseVolume(s); ok && (id.Volume() != s || len(s) > 40) {
			t.Fatalf("%q comes back as %q", s, id.Volume())
		}
		if id, ok := ParseFile(s); ok && id.File() != s {
			t.Fatalf("%q comes back as %q", s, id.File())
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(build(5)[HeadBytes:][:RecordHead], int64(HeadBytes))
	f.Add([]byte(recordMagic), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		r, err := ParseRecord(b, Place{testID, off})
		if err == nil && (r.Off != off || r.ID != testID || r.Size < 0 || r.Size > MaxObject || !bytes.Equal(r.Append(nil)[:StateAt], b[:StateAt])) {
			t.Fatalf("%+v", r)
		}
	})
}

func FuzzBlock(f *testing.F) {
	b := build()
	f.Add(bytes.Clone(b))
	copy(b[HintsAt:], (&Hints{Settled: true, Records: 3, Live: 500, Dead: 7}).Append(nil, testID))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, known, err := ParseBlock(b, testID)
		if known && err == nil && (h.Records < 0 || h.Live < 0 || h.Dead < 0 || !bytes.HasPrefix(h.Append(nil, testID), b[HintsAt:HintsAt+8])) {
			t.Fatalf("%+v", h)
		}
	})
}

// FuzzScan damages a pack: what is found lies in order within it, nothing that is
// found whole is not what was put, and the rest of the records is found.
func FuzzScan(f *testing.F) {
	f.Add(uint32(HeadBytes+10), []byte("x"), uint32(0))
	f.Add(uint32(HeadBytes+300), []byte(recordMagic+"\x01\x00\x00\x00"), uint32(100))
	sizes := []int{10, 300, 20_000, 0, 500}
	good := build(sizes...)
	f.Fuzz(func(t *testing.T, at uint32, with []byte, cut uint32) {
		b := bytes.Clone(good)
		lo := int64(HeadBytes) + int64(at)%int64(len(b)-HeadBytes)
		hi := lo + int64(copy(b[lo:], with))
		b = b[:len(b)-int(cut)%(len(b)-HeadBytes)]
		var found []Found
		end := int64(HeadBytes)
		for _, f := range scanAll(t, b) {
			if f.Off < end || f.Bytes <= 0 || f.Off+f.Bytes > int64(len(b)) {
				t.Fatalf("%+v after %d of %d", f, end, len(b))
			}
			end = f.Off + f.Bytes
			if f.Size >= 0 {
				found = append(found, f)
			}
		}
		place := int64(HeadBytes)
		for _, n := range sizes {
			room := Room(int64(n))
			touched := lo < place+room && hi > place || place+room > int64(len(b))
			there := false
			for _, f := range found {
				there = there || f.Off == place && f.Size == int64(n)
			}
			if !touched && !there {
				t.Fatalf("the record at %d is missing: %+v", place, found)
			}
			place += room
		}
	})
}
