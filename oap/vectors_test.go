// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// What stands in testdata/frames.json binds other implementations too: it is
// written anew only where the format itself changes.
var update = flag.Bool("update", false, "write testdata/frames.json anew")

const framesFile = "testdata/frames.json"

// frameVector is a frame in bytes and in words. Byte strings are hex. Of an error
// only hex, reason and code are there.
type frameVector struct {
	Name     string       `json:"name"`
	Hex      string       `json:"hex"`
	Flags    []string     `json:"flags,omitempty"`
	Code     uint16       `json:"code,omitempty"`
	App      uint16       `json:"app_proto_id,omitempty"`
	Tenant   string       `json:"tenant_id,omitempty"`
	Corr     uint64       `json:"corr_id,omitempty"`
	Cap      string       `json:"cap,omitempty"`
	Payload  string       `json:"payload,omitempty"`
	Text     string       `json:"payload_text,omitempty"` // where it is text, the same once more
	Count    *uint64      `json:"count,omitempty"`        // of ACK and GOAWAY
	Expands  string       `json:"expands_to,omitempty"`   // of COMP
	Request  *requestJSON `json:"request_head,omitempty"`
	Answer   *answerJSON  `json:"answer_head,omitempty"`
	HeadSize int          `json:"head_bytes,omitempty"`
	Reason   string       `json:"error_reason,omitempty"`
	Status   uint16       `json:"error_code,omitempty"`
}

type requestJSON struct {
	Op          string              `json:"op"`
	Args        map[string]string   `json:"args"`
	Headers     map[string][]string `json:"headers"`
	Length      *int64              `json:"length,omitempty"`
	Key         string              `json:"idempotency_key,omitempty"`
	DeadlineMS  int64               `json:"deadline_ms,omitempty"`
	TraceParent string              `json:"traceparent,omitempty"`
}

type answerJSON struct {
	Code    uint16              `json:"code"`
	Headers map[string][]string `json:"headers"`
	Length  *int64              `json:"length,omitempty"`
}

func lengthJSON(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func lengthOf(n *int64) int64 {
	if n == nil {
		return UnknownLength
	}
	return *n
}

func (r *requestJSON) head() RequestHead {
	h := RequestHead{Op: macronode.Op(r.Op), Headers: r.Headers, Length: lengthOf(r.Length), IdempotencyKey: r.Key, DeadlineMS: r.DeadlineMS, TraceParent: r.TraceParent}
	for k, v := range r.Args {
		h.Args = append(h.Args, macronode.Arg{Name: k, Value: v})
	}
	return h
}

// describe says in words what the frame is.
func describe(t testing.TB, name string, f Frame) frameVector {
	t.Helper()
	b, err := Append(nil, &f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	v := frameVector{Name: name, Hex: hex.EncodeToString(b), Flags: f.Flags.Names(), Code: f.Code, App: f.App, Tenant: hex.EncodeToString(f.Tenant[:]),
		Corr: f.Corr, Cap: hex.EncodeToString(f.Cap), Payload: hex.EncodeToString(f.Payload)}
	if strings.IndexFunc(string(f.Payload), func(r rune) bool { return r < ' ' || r > '~' }) < 0 {
		v.Text = string(f.Payload)
	}
	switch {
	case f.Flags&EVENT != 0 && len(f.Payload) > 0:
		n, err := Count(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		v.Count = &n
	case f.Flags&COMP != 0:
		out, err := expander(t).Expand(nil, f.Payload, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		v.Expands = hex.EncodeToString(out)
	case f.Flags&START != 0:
		h, n, err := ParseRequestHead(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		v.HeadSize = n
		v.Request = &requestJSON{Op: string(h.Op), Args: map[string]string{}, Headers: h.Headers, Length: lengthJSON(h.Length), Key: h.IdempotencyKey, DeadlineMS: h.DeadlineMS, TraceParent: h.TraceParent}
		for _, a := range h.Args {
			v.Request.Args[a.Name] = a.Value
		}
		if h.Headers == nil {
			v.Request.Headers = map[string][]string{}
		}
	case strings.HasPrefix(name, "answer"):
		h, n, err := ParseAnswerHead(f.Payload)
		if err != nil {
			t.Fatal(err)
		}
		v.HeadSize, v.Answer = n, &answerJSON{Code: h.Code, Headers: h.Headers, Length: lengthJSON(h.Length)}
	}
	return v
}

// compHex is zstd: a raw block of "ab " and 37 times "z". RFC 8878 has no one form,
// so these bytes are the vector and not a compressor's choice.
const compHex = "28b52ffd2028" + "180000616220" + "2b01007a"

// allFrames makes one frame of each kind, and what is none.
func allFrames(t testing.TB) []frameVector {
	t.Helper()
	var list []frameVector
	add := func(name string, f Frame) { list = append(list, describe(t, name, f)) }
	must := func(f Frame, err error) Frame {
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	head := func(h interface {
		Append([]byte) ([]byte, error)
	}, body string) []byte {
		b, err := h.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, body...)
	}
	tenant := macronode.TenantID{0x01, 0x8f, 15: 0xaa}
	object := Header{App: 1, Tenant: tenant, Corr: 7}
	hello := must(NewHello(1, Hello{UA: "vector/1"}))
	add("hello", hello)
	add("hello-reply", must(NewHelloReply(&hello.Header, HelloReply{MaxFrame: 1 << 20, MaxInflight: 32, MaxStreams: 256,
		FlagsSupported: (allFlags).Names(), Versions: []int{1}, Transports: []string{"tcp+tls"}})))
	get := RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: "b3:00"}}, Length: UnknownLength}
	add("start-whole-call", Open(&object, END, []byte("cap"), head(&get, "")))
	add("start-least-head", Open(&Header{App: 10, Corr: 1}, END, nil, head(&RequestHead{Op: "x", Length: UnknownLength}, "")))
	full := RequestHead{
		Op:      "object.put",
		Args:    []macronode.Arg{{Name: "addr", Value: "b3:00"}, {Name: "b", Value: ""}, {Name: "a", Value: "é"}},
		Headers: macronode.Header{"Content-Type": {"text/plain"}, "If-Match": {"*"}, "X-Ron-Discharge": {"one", "two"}},
		Length:  70_000, IdempotencyKey: "key", DeadlineMS: 2500, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	add("start-every-member", Open(&object, ACKREQ, []byte("cap"), head(&full, "first body bytes")))
	add("data", Request(&object, 0, []byte("more body bytes")))
	add("data-end", Request(&object, END, []byte("the last")))
	add("end", Request(&object, END, nil))
	add("data-app-e2e", Request(&object, APPE2E|ACKREQ, []byte{0, 1, 2, 0xff}))
	comp, err := hex.DecodeString(compHex)
	if err != nil {
		t.Fatal(err)
	}
	add("data-comp", Request(&object, COMP, comp))
	add("cancel", Cancel(&object))
	add("answer-whole", Answer(&object, 201, END, head(&AnswerHead{Code: 201, Headers: macronode.Header{"Location": {"/o/b3:00"}}, Length: 2}, "{}")))
	add("answer-head", Answer(&object, 206, 0, head(&AnswerHead{Code: 206, Headers: macronode.Header{"Content-Range": {"bytes 0-9/10"}}, Length: 10}, "")))
	add("answer-no-length", Answer(&object, 204, END, head(&AnswerHead{Code: 204, Headers: macronode.Header{"X-Corr-Id": {"c"}}, Length: UnknownLength}, "")))
	add("reply-data", Answer(&object, 206, 0, []byte("0123456789")))
	add("reply-end", Answer(&object, 206, END, nil))
	add("error", Refusal(&object, 404, []byte(`{"code":"not_found"}`)))
	add("error-behind-the-head", Refusal(&object, 502, []byte(`{"code":"integrity"}`)))
	add("error-of-the-connection", Refusal(&Header{}, 400, []byte(`{"code":"malformed"}`)))
	add("ping", Ping())
	add("ack-of-a-stream", Ack(7, 12))
	add("ack-of-the-connection", Ack(0, 1<<40))
	add("goaway", GoAway(7))
	bad := func(name string, e *Error, edit func(b []byte) []byte) {
		b, err := hex.DecodeString(list[2].Hex)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, frameVector{Name: "bad-" + name, Hex: hex.EncodeToString(edit(b)), Reason: e.Reason, Status: e.Code()})
	}
	at := func(i int, v byte) func([]byte) []byte { return func(b []byte) []byte { b[i] = v; return b } }
	length := func(n uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
			return b
		}
	}
	bad("len-0", errShort, length(0))
	bad("len-1", errShort, length(1))
	bad("len-37", errShort, length(37))
	bad("len-over-1-mib", errTooLarge, length(1<<20+1))
	bad("len-over-4-gib", errTooLarge, length(1<<32-1))
	bad("version-0", errVersion, at(5, 0))
	bad("version-2", errVersion, at(5, 2))
	bad("reserved-flag", errFlagBits, at(6, 1))
	bad("req-and-resp", errFlagKind, at(7, byte(REQ|RESP|START|END)))
	bad("no-kind", errFlagKind, at(7, byte(START|END)))
	bad("cap-without-start", errCapWithoutStart, at(7, byte(REQ|END)))
	bad("cap-beyond-the-frame", errCapLen, at(28, 0xff))
	bad("head-breaks-off", errHeadShort, func(b []byte) []byte { b = b[:len(b)-1]; return length(uint32(len(b)))(b) })
	bad("head-no-map", errHeadMap, at(41, 0x83))
	bad("head-unknown-key", errHeadKey, func(b []byte) []byte {
		b[41]++
		b = append(b, 8, 0)
		return length(uint32(len(b)))(b)
	})
	bad("head-keys-out-of-order", errHeadOrder, at(42, 2))
	bad("head-long-form", errHeadForm, func(b []byte) []byte {
		b = slices.Insert(b, 42, 0x18)
		return length(uint32(len(b)))(b)
	})
	return list
}

func TestFrameVectors(t *testing.T) {
	made := allFrames(t)
	text, err := json.MarshalIndent(made, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(framesFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(framesFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, text) {
		t.Errorf("%s is not what the constructors make", framesFile)
	}
	var list []frameVector
	if err := json.Unmarshal(kept, &list); err != nil || len(list) < 35 {
		t.Fatalf("%d vectors, %v", len(list), err)
	}
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) { v.check(t) })
	}
}

// check reads the bytes and compares the words, then writes the words and compares
// the bytes.
func (v *frameVector) check(t *testing.T) {
	b := unhex(t, v.Hex)
	f, err := Decode(b, 0)
	if v.Reason != "" {
		if err == nil {
			_, _, err = ParseRequestHead(f.Payload)
		}
		var e *Error
		if !errors.As(err, &e) || e.Reason != v.Reason || e.Code() != v.Status {
			t.Errorf("%v, want %s %d", err, v.Reason, v.Status)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var flags Flags
	for _, name := range v.Flags {
		bit, ok := ParseFlag(name)
		if !ok {
			t.Fatalf("no flag %s", name)
		}
		flags |= bit
	}
	w := Frame{Header: Header{Flags: flags, Code: v.Code, App: v.App, Tenant: macronode.TenantID(unhex(t, v.Tenant)), Corr: v.Corr}, Cap: unhex(t, v.Cap), Payload: unhex(t, v.Payload)}
	if v.Text != "" && v.Text != string(w.Payload) {
		t.Errorf("payload %q, text %q", w.Payload, v.Text)
	}
	if f.Flags != w.Flags || f.Code != w.Code || f.App != w.App || f.Tenant != w.Tenant || f.Corr != w.Corr || !bytes.Equal(f.Cap, w.Cap) || !bytes.Equal(f.Payload, w.Payload) {
		t.Errorf("%+v, want %+v", f.Header, w.Header)
	}
	body := w.Payload[v.HeadSize:]
	switch {
	case v.Request != nil:
		h := v.Request.head()
		if w.Payload, err = h.Append(nil); err != nil {
			t.Fatal(err)
		}
		got, n, err := ParseRequestHead(f.Payload)
		if err != nil || n != v.HeadSize || got.Op != h.Op || got.Length != h.Length || got.IdempotencyKey != h.IdempotencyKey ||
			got.DeadlineMS != h.DeadlineMS || got.TraceParent != h.TraceParent || len(got.Args) != len(v.Request.Args) || !sameHeaders(got.Headers, h.Headers) {
			t.Errorf("%+v, %d, %v; want %+v", got, n, err, h)
		}
		for _, a := range got.Args {
			if v.Request.Args[a.Name] != a.Value {
				t.Errorf("%s=%q", a.Name, a.Value)
			}
		}
		w.Payload = append(w.Payload, body...)
	case v.Answer != nil:
		h := AnswerHead{Code: v.Answer.Code, Headers: v.Answer.Headers, Length: lengthOf(v.Answer.Length)}
		if w.Payload, err = h.Append(nil); err != nil {
			t.Fatal(err)
		}
		if got, n, err := ParseAnswerHead(f.Payload); err != nil || n != v.HeadSize || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v, %d, %v; want %+v", got, n, err, h)
		}
		w.Payload = append(w.Payload, body...)
	case v.Count != nil:
		if n, err := Count(f.Payload); err != nil || n != *v.Count {
			t.Errorf("%d, %v; want %d", n, err, *v.Count)
		}
	case v.Expands != "":
		if out, err := expander(t).Expand(nil, f.Payload, 1<<20); err != nil || hex.EncodeToString(out) != v.Expands {
			t.Errorf("expands to %q, %v", out, err)
		}
	}
	again, err := Append(nil, &w)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("the words make %d bytes, %v; want %d", len(again), err, len(b))
	}
}

func sameHeaders(a, b macronode.Header) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// The kinds are told apart by those who count and route them.
func TestFrameKinds(t *testing.T) {
	counted := map[string]bool{"start-whole-call": true, "start-least-head": true, "start-every-member": true, "data": true, "data-end": true, "data-app-e2e": true,
		"data-comp": true, "answer-whole": true, "answer-head": true, "answer-no-length": true, "reply-data": true}
	for _, v := range allFrames(t) {
		if v.Reason != "" || strings.HasPrefix(v.Name, "hello") {
			continue
		}
		f, err := Decode(unhex(t, v.Hex), 0)
		if err != nil {
			t.Fatal(err)
		}
		if f.Counted() != counted[v.Name] || f.IsCancel() != (v.Name == "cancel") || f.IsRefusal() != strings.HasPrefix(v.Name, "error") || f.IsHello() {
			t.Errorf("%s: counted %v, cancel %v, refusal %v, hello %v", v.Name, f.Counted(), f.IsCancel(), f.IsRefusal(), f.IsHello())
		}
	}
	// What is appended without a Frame is the same.
	for name, pair := range map[string][2][]byte{
		"ping": {AppendPing(nil), mustAppend(t, Ping())}, "ack": {AppendAck(nil, 7, 12), mustAppend(t, Ack(7, 12))}, "goaway": {AppendGoAway(nil, 7), mustAppend(t, GoAway(7))},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %x, want %x", name, pair[0], pair[1])
		}
	}
}

func mustAppend(t testing.TB, f Frame) []byte {
	t.Helper()
	b, err := Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
