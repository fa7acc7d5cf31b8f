// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

// fullRequest has every member.
func fullRequest() RequestHead {
	return RequestHead{
		Op:      "object.get",
		Args:    []macronode.Arg{{Name: "q", Value: ""}, {Name: "addr", Value: "b3:00"}, {Name: "limit", Value: "10"}},
		Headers: macronode.Header{"Range": {"bytes=0-9"}, "X-Ron-Discharge": {"a", "b"}},
		Length:  1 << 33, IdempotencyKey: "key-1", DeadlineMS: 1500, TraceParent: "00-01-02-03",
	}
}

func text(s string) string { return string(appendText(nil, s)) }

func TestRequestHeadRoundTrip(t *testing.T) {
	h := fullRequest()
	b, err := h.Append([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("body bytes")
	got, n, err := ParseRequestHead(append(b[6:], body...))
	if err != nil || n != len(b)-6 {
		t.Fatalf("%d bytes, %v; want %d", n, err, len(b)-6)
	}
	h.Args = []macronode.Arg{h.Args[0], h.Args[1], h.Args[2]}
	slices.SortFunc(h.Args, func(a, b macronode.Arg) int { return compare(a.Name, b.Name) })
	if !reflect.DeepEqual(got, h) {
		t.Errorf("got %+v, want %+v", got, h)
	}
	least := RequestHead{Op: "x", Length: UnknownLength}
	b, err = least.Append(nil)
	if err != nil || string(b) != "\xa3\x01\x61x\x02\xa0\x03\xa0" {
		t.Fatalf("%x, %v", b, err)
	}
	if got, _, err = ParseRequestHead(b); err != nil || !reflect.DeepEqual(got, least) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnswerHeadRoundTrip(t *testing.T) {
	for _, h := range []AnswerHead{
		{Code: 206, Headers: macronode.Header{"Content-Type": {"text/plain"}, "Etag": {`"b3:…"`}}, Length: 1 << 40},
		{Code: 204, Length: UnknownLength}, {Code: 100}, {Code: 599, Length: 23},
	} {
		b, err := h.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, n, err := ParseAnswerHead(append(b, 0xff))
		if err != nil || n != len(b) || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, %d, %v; want %+v, %d", got, n, err, h, len(b))
		}
	}
}

// Whatever a head holds, what is written is read, and written again it is the
// same.
func TestHeadProperty(t *testing.T) {
	word := rapid.StringMatching(`[!-~]{1,20}`)
	value := rapid.StringMatching(`([!-~é][ -~é]{0,30}[!-~é])?`)
	name := rapid.Map(rapid.StringMatching(`[A-Za-z][A-Za-z0-9-]{0,15}`), textproto.CanonicalMIMEHeaderKey)
	rapid.Check(t, func(t *rapid.T) {
		h := RequestHead{
			Op: macronode.Op(word.Draw(t, "op")), Length: rapid.Int64Min(-1).Draw(t, "length"),
			IdempotencyKey: rapid.OneOf(word, rapid.Just("")).Draw(t, "key"), DeadlineMS: rapid.Int64Range(0, maxDeadlineMS).Draw(t, "deadline"),
			TraceParent: rapid.OneOf(word, rapid.Just("")).Draw(t, "trace"),
		}
		args := rapid.MapOfN(word, rapid.String(), 0, 8).Draw(t, "args")
		for k, v := range args {
			h.Args = append(h.Args, macronode.Arg{Name: k, Value: strings.ToValidUTF8(v, "?")})
		}
		for k, v := range rapid.MapOfN(name, rapid.SliceOfN(value, 1, 3), 0, 8).Draw(t, "headers") {
			if h.Headers == nil {
				h.Headers = macronode.Header{}
			}
			h.Headers[k] = v
		}
		b, err := h.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, n, err := ParseRequestHead(b)
		if err != nil || n != len(b) {
			t.Fatalf("%d of %d, %v", n, len(b), err)
		}
		if got.Op != h.Op || got.Length != h.Length || got.DeadlineMS != h.DeadlineMS || len(got.Args) != len(h.Args) ||
			!maps.EqualFunc(got.Headers, h.Headers, slices.Equal) {
			t.Fatalf("got %+v, want %+v", got, h)
		}
		if again, err := got.Append(nil); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x, %v; want %x", again, err, b)
		}
	})
}

func TestHeadRefusals(t *testing.T) {
	const op, args, headers = "\x01\x61x", "\x02\xa0", "\x03\xa0"
	many := func(n int, item func(i int) string) string {
		var s strings.Builder
		for i := range n {
			s.WriteString(item(i))
		}
		return s.String()
	}
	pair := func(i int) string { return fmt.Sprintf("\x63%03d\x60", i) }
	cases := []struct {
		name, head string
		want       *Error
	}{
		{"nothing", "", errHeadShort},
		{"no map", "\x83\x01\x02\x03", errHeadMap},
		{"a number", "\x01", errHeadMap},
		{"empty map", "\xa0", errHeadMissing},
		{"no op", "\xa2" + args + headers, errHeadMissing},
		{"no args", "\xa2" + op + headers, errHeadMissing},
		{"no headers", "\xa2" + op + args, errHeadMissing},
		{"keys out of order", "\xa3" + op + headers + args, errHeadOrder},
		{"a key twice", "\xa4" + op + op + args + headers, errHeadOrder},
		{"key 0", "\xa4\x00\x00" + op + args + headers, errHeadKey},
		{"key 8", "\xa4" + op + args + headers + "\x08\x00", errHeadKey},
		{"a text key", "\xa4" + op + args + headers + "\x61a\x00", errHeadKey},
		{"a negative key", "\xa4" + op + args + headers + "\x20\x00", errHeadType},
		{"members beyond the seven", "\xa8" + op + args + headers + "\x04\x00\x05\x61k\x06\x01\x07\x61t\x08\x00", errHeadMany},
		{"indefinite map", "\xbf" + op + args + headers + "\xff", errHeadForm},
		{"long key", "\xa3\x18\x01\x61x" + args + headers, errHeadForm},
		{"long number", "\xa4" + op + args + headers + "\x04\x19\x00\xff", errHeadForm},
		{"long count", "\xb8\x03" + op + args + headers, errHeadForm},
		{"long text", "\xa3\x01\x78\x01x" + args + headers, errHeadForm},
		{"reserved width", "\xa3\x01\x7cx" + args + headers, errHeadForm},
		{"bytes", "\xa3\x01\x41x" + args + headers, errHeadType},
		{"a tag", "\xa3\x01\xc1\x61x" + args + headers, errHeadType},
		{"null", "\xa3\x01\xf6" + args + headers, errHeadType},
		{"op empty", "\xa3\x01\x60" + args + headers, errHeadOp},
		{"op with a space", "\xa3\x01\x63a b" + args + headers, errHeadOp},
		{"op a number", "\xa3\x01\x01" + args + headers, errHeadOp},
		{"op too long", "\xa3\x01" + text(strings.Repeat("x", maxOpBytes+1)) + args + headers, errHeadLarge},
		{"args no map", "\xa3" + op + "\x02\x80" + headers, errHeadArg},
		{"arg name empty", "\xa3" + op + "\x02\xa1\x60\x60" + headers, errHeadArg},
		{"arg value a number", "\xa3" + op + "\x02\xa1\x61a\x01" + headers, errHeadArg},
		{"arg not UTF-8", "\xa3" + op + "\x02\xa1\x61a\x61\xff" + headers, errHeadArg},
		{"arg twice", "\xa3" + op + "\x02\xa2\x61a\x60\x61a\x60" + headers, errHeadOrder},
		{"args not sorted", "\xa3" + op + "\x02\xa2\x61b\x60\x61a\x60" + headers, errHeadOrder},
		{"longer arg first", "\xa3" + op + "\x02\xa2\x62aa\x60\x61b\x60" + headers, errHeadOrder},
		{"too many args", "\xa3" + op + "\x02\xb8\x21" + many(maxArgs+1, pair) + headers, errHeadMany},
		{"headers no map", "\xa3" + op + args + "\x03\x60", errHeadHeader},
		{"header name with a space", "\xa3" + op + args + "\x03\xa1\x63a b\x60", errHeadHeader},
		{"header value with a line", "\xa3" + op + args + "\x03\xa1\x61a\x63x\r\n", errHeadHeader},
		{"header value with space around", "\xa3" + op + args + "\x03\xa1\x61a\x62 x", errHeadHeader},
		{"header value not UTF-8", "\xa3" + op + args + "\x03\xa1\x61a\x61\xff", errHeadHeader},
		{"header twice, in two cases", "\xa3" + op + args + "\x03\xa2\x61A\x60\x61a\x60", errHeadOrder},
		{"one value in an array", "\xa3" + op + args + "\x03\xa1\x61a\x81\x60", errHeadForm},
		{"no value in an array", "\xa3" + op + args + "\x03\xa1\x61a\x80", errHeadForm},
		{"an array in an array", "\xa3" + op + args + "\x03\xa1\x61a\x82\x60\x80", errHeadHeader},
		{"too many headers", "\xa3" + op + args + "\x03\xb8\x41" + many(maxHeaders+1, pair), errHeadMany},
		{"too many values", "\xa3" + op + args + "\x03\xa1\x61a\x98\x41" + many(maxHeaderValues+1, func(int) string { return "\x60" }), errHeadMany},
		{"length a text", "\xa4" + op + args + headers + "\x04\x60", errHeadLength},
		{"length over 63 bits", "\xa4" + op + args + headers + "\x04\x1b\x80\x00\x00\x00\x00\x00\x00\x00", errHeadLength},
		{"key empty", "\xa4" + op + args + headers + "\x05\x60", errHeadIdem},
		{"key with a space", "\xa4" + op + args + headers + "\x05\x61 ", errHeadIdem},
		{"key too long", "\xa4" + op + args + headers + "\x05" + text(strings.Repeat("k", 129)), errHeadLarge},
		{"deadline 0", "\xa4" + op + args + headers + "\x06\x00", errHeadDeadline},
		{"deadline beyond durations", "\xa4" + op + args + headers + "\x06\x1b\x7f\xff\xff\xff\xff\xff\xff\xff", errHeadDeadline},
		{"traceparent empty", "\xa4" + op + args + headers + "\x07\x60", errHeadTrace},
		{"text beyond the payload", "\xa3\x01\x65x", errHeadShort},
		{"text of 2^63", "\xa3\x01\x7b\x80\x00\x00\x00\x00\x00\x00\x00x", errHeadShort},
		{"a map of 2^63", "\xbb\x80\x00\x00\x00\x00\x00\x00\x00", errHeadMany},
		{"over 8 KiB", "\xa3" + op + "\x02\xa1\x61a" + text(strings.Repeat("v", MaxHeadBytes)) + headers, errHeadLarge},
		{"nested without end", strings.Repeat("\x81", MaxHeadBytes), errHeadMany},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, n, err := ParseRequestHead([]byte(c.head)); err != error(c.want) || n != 0 {
				t.Errorf("%d bytes, %v; want %v", n, err, c.want)
			}
		})
	}
	answers := map[string]*Error{
		"\xa2\x01\x18\xc8\x02\xa0": nil, "\xa1\x01\x18\xc8": errHeadMissing, "\xa1\x02\xa0": errHeadMissing,
		"\xa2\x01\x18\x63\x02\xa0": errHeadCode, "\xa2\x01\x19\x02\x58\x02\xa0": errHeadCode, "\xa3\x01\x18\xc8\x02\xa0\x04\x00": errHeadKey,
		"\xa2\x02\xa0\x01\x18\xc8": errHeadOrder, "\xa3\x01\x18\xc8\x02\xa0\x03\x60": errHeadLength,
	}
	for head, want := range answers {
		if _, _, err := ParseAnswerHead([]byte(head)); (want == nil) != (err == nil) || (want != nil && err != error(want)) {
			t.Errorf("%x: %v, want %v", head, err, want)
		}
	}
}

// A head that breaks off at any byte is refused as such.
func TestHeadBreaksOff(t *testing.T) {
	h := fullRequest()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, _, err := ParseRequestHead(b[:n]); err != error(errHeadShort) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestHeadAppendRefuses(t *testing.T) {
	change := map[string]func(h *RequestHead){
		"no op":            func(h *RequestHead) { h.Op = "" },
		"op":               func(h *RequestHead) { h.Op = "a b" },
		"length":           func(h *RequestHead) { h.Length = -2 },
		"key":              func(h *RequestHead) { h.IdempotencyKey = "é" },
		"deadline":         func(h *RequestHead) { h.DeadlineMS = -1 },
		"traceparent":      func(h *RequestHead) { h.TraceParent = strings.Repeat("x", maxTraceBytes+1) },
		"arg twice":        func(h *RequestHead) { h.Args = append(h.Args, h.Args[0]) },
		"arg name":         func(h *RequestHead) { h.Args[0].Name = "" },
		"arg value":        func(h *RequestHead) { h.Args[0].Value = "\xff" },
		"args":             func(h *RequestHead) { h.Args = make([]macronode.Arg, maxArgs+1) },
		"header not canon": func(h *RequestHead) { h.Headers["range-x"] = []string{"1"} },
		"header name":      func(h *RequestHead) { h.Headers["A b"] = []string{"1"} },
		"header value":     func(h *RequestHead) { h.Headers["A"] = []string{"1\n2"} },
		"header values":    func(h *RequestHead) { h.Headers["A"] = make([]string, maxHeaderValues+1) },
		"size":             func(h *RequestHead) { h.Headers["A"] = []string{strings.Repeat("v", MaxHeadBytes)} },
	}
	for name, f := range change {
		h := fullRequest()
		f(&h)
		if b, err := h.Append([]byte("kept")); err == nil || string(b) != "kept" {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	for _, h := range []AnswerHead{{}, {Code: 600}, {Code: 200, Length: -2}, {Code: 200, Headers: macronode.Header{"": {"x"}}}} {
		if b, err := h.Append([]byte("kept")); err == nil || string(b) != "kept" {
			t.Errorf("%+v: %d bytes, %v", h, len(b), err)
		}
	}
}

// What is written beside the map is a header like those in it.
func TestMoreHeaders(t *testing.T) {
	apart := AnswerHead{Code: 200, Headers: macronode.Header{"Etag": {"e"}, "X-Zz": {"z"}}, More: []Field{{"X-Corr-Id", "id"}, {"Vary", "Accept"}}}
	whole := AnswerHead{Code: 200, Headers: macronode.Header{"Etag": {"e"}, "Vary": {"Accept"}, "X-Corr-Id": {"id"}, "X-Zz": {"z"}}}
	got, err1 := apart.Append(nil)
	want, err2 := whole.Append(nil)
	if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v; want %q, %v", got, err1, want, err2)
	}
	for name, more := range map[string][]Field{
		"stands in the map": {{"Etag", "f"}}, "twice": {{"A", "x"}, {"A", "y"}}, "in no form": {{"a", "x"}}, "two lines": {{"A", "x\ny"}},
		"too many": make([]Field, maxHeaders),
	} {
		h := AnswerHead{Code: 200, Headers: apart.Headers, More: more}
		if b, err := h.Append([]byte("kept")); err == nil || string(b) != "kept" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// Of the form of names, this package and net/textproto are of one mind.
func TestCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.RuneFrom([]rune("aZ-1_ :\x00é")), 0, 6, -1).Draw(t, "name")
		if rapid.Bool().Draw(t, "made so") {
			s = textproto.CanonicalMIMEHeaderKey(s)
		}
		if got, want := canonical(s), s != "" && token(s) && textproto.CanonicalMIMEHeaderKey(s) == s; got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}

// Names of headers count without regard to case, as on the other wire.
func TestHeadersInLowerCase(t *testing.T) {
	h, _, err := ParseRequestHead([]byte("\xa3\x01\x61x\x02\xa0\x03\xa1" + text("content-type") + text("a/b")))
	if err != nil || h.Headers.Get("Content-Type") != "a/b" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestErrorKinds(t *testing.T) {
	for reason, code := range map[string]uint16{ReasonOversize: 413, ReasonComp: 413, ReasonHeadSize: 431, ReasonHead: 400, ReasonPayload: 400} {
		if got := (&Error{Reason: reason}).Code(); got != code {
			t.Errorf("%s: %d, want %d", reason, got, code)
		}
	}
}

// No frame is made of a part of one, and all of a buffer's frames are cut from
// it where they lie.
func TestCut(t *testing.T) {
	var wire []byte
	for i := range 3 {
		f := Frame{Header: Header{Flags: REQ | START, Corr: uint64(i)}, Cap: []byte("cap"), Payload: bytes.Repeat([]byte{byte(i)}, i)}
		var err error
		if wire, err = Append(wire, &f); err != nil {
			t.Fatal(err)
		}
	}
	one := HeaderBytes + 3
	for n := range one {
		f, used, err := Cut(wire[:n], 0)
		if used != 0 || err != nil || (f.Len != 0) != (n >= HeaderBytes) {
			t.Fatalf("cut at %d: %+v, %d, %v", n, f.Header, used, err)
		}
	}
	rest := wire
	for i := range 3 {
		f, n, err := Cut(rest, 0)
		if err != nil || f.Corr != uint64(i) || len(f.Payload) != i || n != one+i || &f.Cap[0] != &rest[HeaderBytes] {
			t.Fatalf("frame %d: %+v, %d, %v", i, f, n, err)
		}
		if cap(f.Cap) != len(f.Cap) || cap(f.Payload) != len(f.Payload) {
			t.Fatal("appending to a part would overwrite what follows it")
		}
		rest = rest[n:]
	}
	if _, n, err := Cut(rest, 0); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	var e *Error
	if _, _, err := Cut(wire, one-1); !errors.As(err, &e) || e.Reason != ReasonOversize {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := NewReader(iotest.HalfReader(bytes.NewReader(wire)), 0).Next(); err != nil {
		t.Error(err)
	}
}
