// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/rustyonions/macronode"
)

// stream64 is a buffer of whole DATA frames of 64 KiB.
func stream64(t testing.TB, n int) []byte {
	t.Helper()
	f := Request(&Header{App: 1, Corr: 1}, 0, make([]byte, 64<<10))
	return bytes.Repeat(mustAppend(t, f), n)
}

// What every frame goes through allocates nothing.
func TestFramePathDoesNotAllocate(t *testing.T) {
	wire := stream64(t, 4)
	out := make([]byte, 0, 128<<10)
	payload := make([]byte, 64<<10)
	data := Request(&Header{App: 1, Corr: 1}, 0, payload)
	r := NewReader(&endless{b: wire}, 0)
	if _, err := r.Next(); err != nil { // the reader's own buffer
		t.Fatal(err)
	}
	for name, f := range map[string]func(){
		"cut": func() {
			for b := wire; len(b) > 0; {
				f, n, err := Cut(b, 0)
				if err != nil || n == 0 || &f.Payload[0] != &b[HeaderBytes] {
					t.Fatal("not cut in place")
				}
				b = b[n:]
			}
		},
		"cut, not whole": func() {
			if _, n, err := Cut(wire[:1000], 0); n != 0 || err != nil {
				t.Fatal("cut")
			}
		},
		"reader": func() {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		},
		"append": func() {
			if _, err := Append(out, &data); err != nil {
				t.Fatal(err)
			}
		},
		"append header": func() {
			if _, err := AppendHeader(out, data.Header, 0, len(payload)); err != nil {
				t.Fatal(err)
			}
		},
		"control": func() { _ = AppendGoAway(AppendAck(AppendPing(out), 1, 2), 3) },
		"kinds":   func() { _ = data.Counted() || data.IsCancel() || data.IsRefusal() || data.IsHello() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A head costs its text, its arguments and its headers; writing one nothing.
func TestHeadAllocations(t *testing.T) {
	get := RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: "b3:00"}}, Length: UnknownLength}
	answer := AnswerHead{Code: 200, Headers: macronode.Header{"Content-Type": {"text/plain"}, "Etag": {`"x"`}, "Accept-Ranges": {"bytes"}}, Length: 1024}
	b, err := get.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 0, 1024)
	for name, c := range map[string]struct {
		most float64
		f    func()
	}{
		"read":         {2, func() { ParseRequestHead(b) }},
		"write":        {0, func() { get.Append(out) }},
		"write answer": {0, func() { answer.Append(out) }},
		"refuse":       {0, func() { ParseRequestHead(b[:10]) }},
	} {
		if n := testing.AllocsPerRun(100, c.f); n > c.most {
			t.Errorf("%s: %v allocations, want %v", name, n, c.most)
		}
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// headCost is a bound on what a head of n bytes may cost to read: its text, and a
// fixed number of bytes for each item it really has.
func headCost(n int) uint64 { return uint64(4096 + 128*n) }

// What a head announces costs nothing: the worst of them, full of the smallest
// items, stays under the bound that the fuzz tests hold too.
func TestHeadBelievesOnlyWhatArrived(t *testing.T) {
	var args []byte
	for i := range maxArgs {
		args = append(args, 0x61, byte('!'+i), 0x60)
	}
	head := append(append([]byte("\xa3\x01\x61x\x02\xb8\x20"), args...), "\x03\xa0"...)
	for name, b := range map[string][]byte{
		"small items": head, "a map of 2^32": []byte("\xba\xff\xff\xff\xff"), "text of 2^62": []byte("\xa3\x01\x7b\x40\x00\x00\x00\x00\x00\x00\x00"),
		"many values": append([]byte("\xa3\x01\x61x\x02\xa0\x03\xa1\x61a\x98\x40"), bytes.Repeat([]byte{0x60}, maxHeaderValues)...),
	} {
		if n := allocated(func() { ParseRequestHead(b) }); n > headCost(len(b)) {
			t.Errorf("%s: %d bytes for %d that came", name, n, len(b))
		}
	}
}

// FuzzRequestHead: never a panic; a head that is read and written is the same but
// for the case of header names, and costs no more than what arrived.
func FuzzRequestHead(f *testing.F) {
	for _, v := range allFrames(f) {
		if fr, err := Decode(unhex(f, v.Hex), 0); err == nil {
			f.Add(fr.Payload)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseRequestHead(b)
		if err != nil {
			if n != 0 || h.Op != "" || h.Args != nil {
				t.Fatalf("a head beside an error: %d bytes", n)
			}
			return
		}
		if n > len(b) || n > MaxHeadBytes {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		again, err := h.Append(nil)
		if err != nil || len(again) != n {
			t.Fatalf("%d bytes become %d, %v", n, len(again), err)
		}
		if !bytes.Equal(again, b[:n]) {
			same, _, err := ParseRequestHead(again)
			if err != nil || !bytes.EqualFold(sorted(again), sorted(b[:n])) || len(same.Headers) != len(h.Headers) || len(h.Headers) == 0 {
				t.Fatalf("not the same when written again: %v", err)
			}
		}
		if cost := allocated(func() { ParseRequestHead(b) }); cost > headCost(n)+64<<10 { // other goroutines allocate too
			t.Fatalf("%d bytes for a head of %d", cost, n)
		}
	})
}

// sorted counts the bytes of b: headers whose case changed may have changed places.
func sorted(b []byte) []byte {
	var n [256]int
	for _, c := range bytes.ToLower(b) {
		n[c]++
	}
	out := make([]byte, 0, len(b))
	for c, k := range n {
		out = append(out, bytes.Repeat([]byte{byte(c)}, k)...)
	}
	return out
}

// FuzzAnswerHead is FuzzRequestHead for answers.
func FuzzAnswerHead(f *testing.F) {
	for _, v := range allFrames(f) {
		if fr, err := Decode(unhex(f, v.Hex), 0); err == nil {
			f.Add(fr.Payload)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseAnswerHead(b)
		if err != nil {
			return
		}
		again, err := h.Append(nil)
		if err != nil || n > len(b) || !bytes.Equal(sorted(again), sorted(b[:n])) {
			t.Fatalf("%d bytes become %d, %v", n, len(again), err)
		}
	})
}

// FuzzExpand: never a panic, never more than the limits, never more memory set
// aside than they allow.
func FuzzExpand(f *testing.F) {
	f.Add(unhex(f, compHex), 100)
	f.Add(zeros(f), 1<<20)
	f.Add([]byte("plain"), 1)
	e, err := NewExpander(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		out, err := e.Expand(nil, b, limit)
		most := min(max(limit, 0), MaxExpansion*len(b), MaxExpandedBytes)
		if len(out) > most || (err != nil && len(out) > 0) {
			t.Fatalf("%d bytes out of %d, limit %d, %v", len(out), len(b), limit, err)
		}
		if cap(out) > 2*most+64 {
			t.Fatalf("%d bytes set aside, %d allowed", cap(out), most)
		}
	})
}

func zeros(t testing.TB) []byte { return squeeze(t, make([]byte, 1<<20), false) }

func BenchmarkCut64KiB(b *testing.B) {
	wire := stream64(b, 4)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	rest := wire
	for b.Loop() {
		_, n, err := Cut(rest, 0)
		if err != nil {
			b.Fatal(err)
		}
		if rest = rest[n:]; len(rest) == 0 {
			rest = wire
		}
	}
}

func BenchmarkParseRequestHead(b *testing.B) {
	h := RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: "b3:0000000000000000000000000000000000000000000000000000000000000000"}}, Length: UnknownLength}
	raw, err := h.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseRequestHead(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAnswerHead(b *testing.B) {
	h := AnswerHead{Code: 200, Headers: macronode.Header{"Content-Type": {"application/octet-stream"}, "Etag": {`"b3:00"`}, "Accept-Ranges": {"bytes"}}, Length: 1024}
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Append(out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExpand64KiB(b *testing.B) {
	e, c := expander(b), compressor(b)
	raw, ok := c.Compress(nil, prose(64<<10))
	if !ok {
		b.Fatal("not compressed")
	}
	out := make([]byte, 0, 64<<10)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Expand(out, raw, 64<<10); err != nil {
			b.Fatal(err)
		}
	}
}
