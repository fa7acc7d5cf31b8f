// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

type vector struct {
	Name  string `json:"name"`
	Hex   string `json:"hex"`
	Error string `json:"error"`
	Frame *struct {
		Ver     int      `json:"ver"`
		Flags   []string `json:"flags"`
		Code    uint16   `json:"code"`
		App     uint16   `json:"app_proto_id"`
		Tenant  string   `json:"tenant_id"`
		Corr    uint64   `json:"corr_id"`
		Cap     string   `json:"cap"`
		Payload string   `json:"payload_text"`
	} `json:"frame"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/oap1.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil || len(vs) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	return vs
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			b := unhex(t, v.Hex)
			if v.Frame == nil {
				h, err := ParseHeader(b, MaxFrameBytes)
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("got %+v, %v; want: %s", h, err, v.Error)
				}
				if want := map[string]uint16{"oversize": 413, "cap-on-non-start": 400}[v.Name]; e.Code() != want {
					t.Errorf("code %d, want %d", e.Code(), want)
				}
				return
			}
			f, err := Decode(b, MaxFrameBytes)
			if err != nil {
				t.Fatal(err)
			}
			tenant, ok := new(big.Int).SetString(v.Frame.Tenant, 0)
			if !ok || !bytes.Equal(f.Tenant[:], tenant.FillBytes(make([]byte, 16))) {
				t.Errorf("tenant %x, want %s", f.Tenant[:], v.Frame.Tenant)
			}
			if !slices.Equal(f.Flags.Names(), v.Frame.Flags) || f.Code != v.Frame.Code || f.App != v.Frame.App ||
				f.Corr != v.Frame.Corr || string(f.Cap) != v.Frame.Cap || string(f.Payload) != v.Frame.Payload {
				t.Errorf("got %+v, want %+v", f, *v.Frame)
			}
			again, err := Append(nil, &f)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("encoded %x, %v; want %x", again, err, b)
			}
		})
	}
}

func TestHeaderRefusals(t *testing.T) {
	good := Header{Len: HeaderBytes + 3, Flags: REQ | START, CapLen: 3}
	raw := func(change func(b []byte)) []byte {
		b := make([]byte, HeaderBytes)
		good.put(b)
		change(b)
		return b
	}
	cases := []struct {
		name   string
		b      []byte
		max    int
		reason string
	}{
		{"truncated", make([]byte, HeaderBytes-1), 0, ReasonLength},
		{"len below header", raw(func(b []byte) { b[3] = HeaderBytes - 1 }), 0, ReasonLength},
		{"len zero", raw(func(b []byte) { b[3] = 0 }), 0, ReasonLength},
		{"one over the format's maximum", raw(func(b []byte) { copy(b, []byte{0, 0x10, 0, 1}) }), 0, ReasonOversize},
		{"config cannot raise the maximum", raw(func(b []byte) { copy(b, []byte{0, 0x10, 0, 1}) }), 2 << 20, ReasonOversize},
		{"over a lowered maximum", raw(func(b []byte) { copy(b, []byte{0, 0, 1, 1}) }), 256, ReasonOversize},
		{"oversize wins over version", raw(func(b []byte) { b[0], b[5] = 1, 9 }), 0, ReasonOversize},
		{"version 0", raw(func(b []byte) { b[5] = 0 }), 0, ReasonVersion},
		{"version 256", raw(func(b []byte) { b[4], b[5] = 1, 0 }), 0, ReasonVersion},
		{"unknown flag", raw(func(b []byte) { b[6] = 1 }), 0, ReasonFlags},
		{"top flag", raw(func(b []byte) { b[6] = 0x80 }), 0, ReasonFlags},
		{"no kind", raw(func(b []byte) { b[7] = byte(START) }), 0, ReasonFlags},
		{"REQ and RESP", raw(func(b []byte) { b[7] = byte(START | REQ | RESP) }), 0, ReasonFlags},
		{"REQ and EVENT", raw(func(b []byte) { b[7] = byte(START | REQ | EVENT) }), 0, ReasonFlags},
		{"all kinds", raw(func(b []byte) { b[7] = byte(START | REQ | RESP | EVENT) }), 0, ReasonFlags},
		{"cap without START", raw(func(b []byte) { b[7] = byte(REQ) }), 0, ReasonCap},
		{"cap beyond the frame", raw(func(b []byte) { b[29] = 4 }), 0, ReasonLength},
		{"largest cap beyond the frame", raw(func(b []byte) { b[28], b[29] = 0xff, 0xff }), 0, ReasonLength},
	}
	if _, err := ParseHeader(raw(func([]byte) {}), 0); err != nil {
		t.Fatalf("the unchanged header: %v", err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseHeader(c.b, c.max)
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.reason {
				t.Fatalf("got %v, want reason %s", err, c.reason)
			}
			if (e.Code() == 413) != (c.reason == ReasonOversize) {
				t.Errorf("code %d", e.Code())
			}
		})
	}
}

func TestDecodeWantsOneFrame(t *testing.T) {
	b, err := Append(nil, &Frame{Header: Header{Flags: REQ}, Payload: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{b[:len(b)-1], append(slices.Clone(b), 0), nil} {
		if _, err := Decode(bad, 0); err == nil {
			t.Errorf("%d bytes were taken for a frame of %d", len(bad), len(b))
		}
	}
}

func TestAppendRefusesWhatDecodeRefuses(t *testing.T) {
	for name, f := range map[string]Frame{
		"no kind":   {},
		"cap":       {Header: Header{Flags: REQ}, Cap: []byte("c")},
		"long cap":  {Header: Header{Flags: REQ | START}, Cap: make([]byte, 1<<16)},
		"oversize":  {Header: Header{Flags: REQ}, Payload: make([]byte, MaxFrameBytes-HeaderBytes+1)},
		"flag bits": {Header: Header{Flags: REQ | 1<<8}},
	} {
		if b, err := Append([]byte("kept"), &f); err == nil || string(b) != "kept" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	full := Frame{Header: Header{Flags: REQ}, Payload: make([]byte, MaxFrameBytes-HeaderBytes)}
	b, err := Append(nil, &full)
	if err != nil || len(b) != MaxFrameBytes {
		t.Fatalf("a frame of the full size: %d bytes, %v", len(b), err)
	}
	if err := PutHeader(make([]byte, HeaderBytes), Header{Len: MaxFrameBytes + 1, Flags: REQ}); err == nil {
		t.Error("PutHeader took an oversize header")
	}
}

// Any sequence of frames, cut anywhere, comes out of a Reader as it went in.
func TestReaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		frames := rapid.SliceOfN(rapid.Custom(anyFrame), 0, 8).Draw(t, "frames")
		for i := range frames {
			var err error
			if wire, err = Append(wire, &frames[i]); err != nil {
				t.Fatal(err)
			}
		}
		var r io.Reader = bytes.NewReader(wire)
		switch rapid.IntRange(0, 2).Draw(t, "cut") {
		case 0:
			r = iotest.OneByteReader(r)
		case 1:
			r = iotest.HalfReader(r)
		}
		if rapid.Bool().Draw(t, "eof with data") {
			r = iotest.DataErrReader(r)
		}
		rd := NewReader(r, MaxFrameBytes)
		for i := range frames {
			f, err := rd.Next()
			if err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			w := &frames[i]
			if f.Flags != w.Flags || f.Code != w.Code || f.App != w.App || f.Tenant != w.Tenant || f.Corr != w.Corr ||
				!bytes.Equal(f.Cap, w.Cap) || !bytes.Equal(f.Payload, w.Payload) {
				t.Fatalf("frame %d: got %+v, want %+v", i, f.Header, w.Header)
			}
		}
		if _, err := rd.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func anyFrame(t *rapid.T) Frame {
	f := Frame{Header: Header{
		Flags: rapid.SampledFrom([]Flags{REQ, RESP, EVENT}).Draw(t, "kind") | Flags(rapid.IntRange(0, 31).Draw(t, "rest"))<<3,
		Code:  rapid.Uint16().Draw(t, "code"), App: rapid.Uint16().Draw(t, "app"), Corr: rapid.Uint64().Draw(t, "corr"),
	}}
	copy(f.Tenant[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "tenant"))
	if f.Flags&START != 0 {
		f.Cap = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "cap")
	}
	f.Payload = make([]byte, rapid.SampledFrom([]int{0, 1, 100, 4096, 70_000}).Draw(t, "payload"))
	return f
}

func TestReaderEnds(t *testing.T) {
	b, _ := Append(nil, &Frame{Header: Header{Flags: REQ, Corr: 7}, Payload: []byte("abc")})
	for n := 1; n < len(b); n++ {
		if _, err := NewReader(bytes.NewReader(b[:n]), 0).Next(); err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	f, err := NewReader(bytes.NewReader(b), 40).Next()
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonOversize || f.Corr != 7 {
		t.Errorf("over the limit: %+v, %v", f.Header, err)
	}
	if _, err := NewReader(stuck{}, 0).Next(); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	boom := errors.New("boom")
	if _, err := NewReader(iotest.ErrReader(boom), 0).Next(); err != boom {
		t.Errorf("the reader's own error: %v", err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// A header that announces the maximum and then stops costs what arrived, not
// what it announced.
func TestReaderBelievesOnlyWhatArrived(t *testing.T) {
	b := make([]byte, HeaderBytes)
	h := Header{Len: MaxFrameBytes, Flags: REQ}
	h.put(b)
	r := NewReader(bytes.NewReader(append(b, make([]byte, 10_000)...)), 0)
	if _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if len(r.buf) > 4*(HeaderBytes+10_000) {
		t.Errorf("%d bytes set aside for 10038 that came", len(r.buf))
	}
}

func TestReaderGivesBackLargeBuffers(t *testing.T) {
	big, _ := Append(nil, &Frame{Header: Header{Flags: REQ}, Payload: make([]byte, MaxFrameBytes-HeaderBytes)})
	r := NewReader(io.MultiReader(bytes.NewReader(big), bytes.NewReader(big[:1])), 0)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == nil || len(r.buf) > keepBytes {
		t.Errorf("%d bytes kept, %v", len(r.buf), err)
	}
}

func TestHello(t *testing.T) {
	f, err := NewHello(42, Hello{UA: "sdk/0.1"})
	if err != nil || !f.IsHello() {
		t.Fatalf("%+v, %v", f, err)
	}
	f.Tenant[15] = 0xaa
	b, err := Append(nil, &f)
	if err != nil || hex.EncodeToString(b) != vectors(t)[0].Hex {
		t.Errorf("%x, %v: not the vector", b, err)
	}
	for payload, ok := range map[string]bool{
		`{"ua":"x"}`: true, ` {"ua":"x","more":[1]}`: true, `{}`: true,
		``: false, `null`: false, `[]`: false, `"ua"`: false, `{"ua":1}`: false, `{"ua":"x"`: false, `{} {}`: false,
		`{"ua":"` + strings.Repeat("x", maxHelloBytes) + `"}`: false,
	} {
		if _, err := ParseHello([]byte(payload)); (err == nil) != ok {
			t.Errorf("%.40q: %v", payload, err)
		}
	}
	for _, h := range []Header{{Flags: REQ, App: 1}, {Flags: EVENT}, {Flags: REQ | START}, {Flags: REQ, Code: 499}} {
		if h.IsHello() {
			t.Errorf("%+v was taken for a HELLO", h)
		}
	}
	want := HelloReply{MaxFrame: 1, MaxInflight: 2, MaxStreams: 3, FlagsSupported: []string{"REQ"}, Versions: []int{1}, Transports: []string{"tcp"}}
	j, _ := json.Marshal(want)
	got, err := ParseHelloReply(j)
	if err != nil || got.MaxStreams != 3 || got.Transports[0] != "tcp" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestControlFrames(t *testing.T) {
	for name, f := range map[string]Frame{"ping": Ping(), "ack": Ack(9, 1<<40), "goaway": GoAway(77), "answer": Answer(&Header{Corr: 3, App: 2}, 501, END, nil)} {
		if _, err := Append(nil, &f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := Count(Ack(9, 1<<40).Payload); n != 1<<40 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Count(make([]byte, 7)); err == nil {
		t.Error("seven bytes were taken for a u64")
	}
	if f, ok := ParseFlag("ACK_REQ"); !ok || f != ACKREQ {
		t.Errorf("%v, %v", f, ok)
	}
	if _, ok := ParseFlag("ack_req"); ok {
		t.Error("flag names are upper case")
	}
}

func TestHeaderPathDoesNotAllocate(t *testing.T) {
	b := make([]byte, HeaderBytes)
	h := Header{Len: HeaderBytes, Flags: REQ, Corr: 5}
	bad := slices.Clone(b)
	if n := testing.AllocsPerRun(100, func() {
		if err := PutHeader(b, h); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHeader(b, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHeader(bad, 0); err == nil {
			t.Fatal("a header of zeros")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecode: never a panic; what decodes encodes to the same bytes; what a
// Reader cuts is what Decode sees.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Hex))
	}
	two, _ := Append(nil, &Frame{Header: Header{Flags: REQ | START | END, Corr: 1}, Cap: []byte("cap"), Payload: []byte("p")})
	two, _ = Append(two, &Frame{Header: Header{Flags: EVENT | ACKREQ}})
	f.Add(two)
	f.Fuzz(func(t *testing.T, b []byte) {
		if fr, err := Decode(b, 0); err == nil {
			again, err := Append(nil, &fr)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x encodes to %x, %v", b, again, err)
			}
		}
		r := NewReader(bytes.NewReader(b), 0)
		var wire []byte
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			if wire, err = Append(wire, &fr); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(b, wire) {
			t.Fatalf("%x was read as %x", b, wire)
		}
		if len(r.buf) > 2*len(b)+firstRead {
			t.Fatalf("%d bytes set aside for %d", len(r.buf), len(b))
		}
	})
}

// FuzzHello: never a panic, and a bound on what is accepted.
func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"ua":"sdk/0.1"}`))
	f.Add([]byte(`{"ua":{"ua":[[[[]]]]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err == nil && len(h.UA) > 3*maxHelloBytes {
			t.Fatal("a name larger than its document")
		}
		if _, err := ParseHelloReply(b); err == nil && len(b) > maxHelloBytes {
			t.Fatal("an oversize document was read")
		}
	})
}

func BenchmarkParseHeader(b *testing.B) {
	raw := make([]byte, HeaderBytes)
	h := Header{Len: HeaderBytes + 64<<10, Flags: RESP, Corr: 1}
	h.put(raw)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(raw, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend64KiB(b *testing.B) {
	f := Frame{Header: Header{Flags: RESP, Corr: 1}, Payload: make([]byte, 64<<10)}
	buf := make([]byte, 0, 128<<10)
	b.SetBytes(int64(len(f.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Append(buf, &f); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats one buffer.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.b[e.at:])
	e.at = (e.at + n) % len(e.b)
	return n, nil
}

func BenchmarkReader64KiB(b *testing.B) {
	wire, _ := Append(nil, &Frame{Header: Header{Flags: REQ, Corr: 1}, Payload: make([]byte, 64<<10)})
	r := NewReader(&endless{b: wire}, 0)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
