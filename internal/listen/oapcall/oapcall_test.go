// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
)

func TestFill(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	capability := []byte("capability")
	f := oap.Header{App: 7, Tenant: macronode.TenantID{9}, Corr: 3}
	h := oap.RequestHead{
		Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: "x"}}, Length: 77, IdempotencyKey: "k", DeadlineMS: 2500, TraceParent: trace,
		Headers: macronode.Header{"X-Corr-Id": {"mine"}, "X-Ron-Discharge": {"a,b", "c"}, "Range": {"bytes=0-1"}},
	}
	var c macronode.Call
	if err := Fill(&c, &f, capability, &h); err != nil {
		t.Fatal(err)
	}
	clear(capability)
	if c.Wire != macronode.WireOAP || c.Op != "object.get" || c.AppID != 7 || c.Arg("addr") != "x" || c.Length != 77 || c.IdempotencyKey != "k" ||
		c.ClaimedTenant != f.Tenant || c.CorrID != "mine" || c.TraceParent != trace || string(c.Token) != "capability" ||
		!reflect.DeepEqual(c.Discharges, []string{"a", "b", "c"}) || c.Header.Get("Range") != "bytes=0-1" || len(c.Header["X-Ron-Discharge"]) != 0 {
		t.Errorf("%+v", c)
	}
	if c.Received.IsZero() || c.Deadline.Sub(c.Received) != 2500*time.Millisecond {
		t.Errorf("received %s, deadline %s", c.Received, c.Deadline)
	}
	c = macronode.Call{}
	if err := Fill(&c, &f, nil, &oap.RequestHead{Op: "x", Length: oap.UnknownLength, TraceParent: "nonsense"}); err != nil {
		t.Fatal(err)
	}
	if c.Token != nil || c.Length != -1 || !c.Deadline.IsZero() || c.TraceParent != "" || len(c.CorrID) != 32 || c.Header == nil {
		t.Errorf("%+v", c)
	}
}

// What has its place in the frame or the head is not taken from elsewhere too.
func TestFillRefuses(t *testing.T) {
	for _, name := range elsewhere {
		h := oap.RequestHead{Op: "x", Headers: macronode.Header{name: {"1"}}}
		var c macronode.Call
		if err := Fill(&c, &oap.Header{}, nil, &h); err == nil || err.Kind != macronode.Malformed || c.CorrID == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var c macronode.Call
	h := oap.RequestHead{Op: "x", Headers: macronode.Header{"X-Ron-Discharge": {strings.Repeat("x,", 17)}}}
	if err := Fill(&c, &oap.Header{}, nil, &h); err == nil || err.Kind != macronode.Malformed {
		t.Errorf("seventeen discharges: %v", err)
	}
}

// written are a head's fields as the other side reads them.
func written(t *testing.T, h oap.AnswerHead) macronode.Header {
	t.Helper()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := oap.ParseAnswerHead(b)
	if err != nil {
		t.Fatal(err)
	}
	return got.Headers
}

func TestAnswer(t *testing.T) {
	get := macronode.Call{CorrID: "id", Binding: &macronode.Binding{Method: "GET"}}
	head := macronode.Call{CorrID: "id", Binding: &macronode.Binding{Method: "HEAD"}}
	stream := bodyStream{}
	for name, c := range map[string]struct {
		call   *macronode.Call
		reply  macronode.Reply
		code   uint16
		length int64
	}{
		"body":              {&get, macronode.Reply{Body: []byte("abc"), Length: -1}, 200, 3},
		"nothing":           {&get, macronode.Reply{Status: 202, Length: 7}, 202, 0},
		"stream":            {&get, macronode.Reply{Status: 206, Stream: stream, Length: 9}, 206, 9},
		"stream, unknown":   {&get, macronode.Reply{Stream: stream, Length: -1}, 200, -1},
		"no content":        {&get, macronode.Reply{Status: 204}, 204, -1},
		"not modified":      {&get, macronode.Reply{Status: 304, Length: 8}, 304, -1},
		"what a read gives": {&head, macronode.Reply{Length: 12}, 200, 12},
	} {
		h := Answer(c.call, &c.reply)
		if h.Code != c.code || h.Length != c.length || written(t, h).Get("X-Corr-Id") != "id" {
			t.Errorf("%s: %+v", name, h)
		}
	}
	r := macronode.Reply{ContentType: "a/b", Header: macronode.Header{"Etag": {"e"}, "Connection": {"close"}, "Content-Length": {"1"}, "Content-Type": {"c/d"}, "X-Corr-Id": {"other"}}}
	h := Answer(&get, &r)
	want := macronode.Header{"Etag": {"e"}, "Content-Type": {"a/b"}, "X-Corr-Id": {"id"}}
	if got := written(t, h); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(r.Header) != 5 {
		t.Error("the reply's fields were changed; they may be many replies'")
	}
	for code, empty := range map[uint16]bool{200: false, 204: true, 304: true, 206: false} {
		if Empty(&get, code) != empty || !Empty(&head, code) {
			t.Errorf("%d", code)
		}
	}
}

func TestProblem(t *testing.T) {
	e := macronode.Wrap(macronode.NotFound, "no such thing", errors.New("secret"))
	for began, want := range map[bool]uint16{false: 404, true: 502} {
		code, doc := Problem(e, "id", began)
		var p macronode.Problem
		if err := json.Unmarshal(doc, &p); err != nil || code != want || p.Status != int(want) || p.Code != "not_found" || p.CorrID != "id" || strings.Contains(string(doc), "secret") {
			t.Errorf("began %v: %d %s, %v", began, code, doc, err)
		}
	}
	if _, _, err := oap.ParseRequestHead([]byte{0x01}); Refused(err).Kind != macronode.Malformed {
		t.Error("a bad head is malformed")
	}
	if Refused(&oap.Error{Reason: oap.ReasonHeadSize}).Kind != macronode.HeaderTooLarge || Refused(io.ErrUnexpectedEOF).Kind != macronode.Internal {
		t.Error("kinds")
	}
}

type bodyStream struct{ f func(w io.Writer) error }

func (s bodyStream) WriteTo(w io.Writer) (int64, error) { return 0, s.f(w) }
func (bodyStream) Close() error                         { return nil }

// sink keeps what is pushed.
type sink struct {
	heads, pushes, ends int
	body                bytes.Buffer
	fail                error
}

func (s *sink) Push(p []byte, end bool) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	if s.ends > 0 {
		return 0, errors.New("after the end")
	}
	s.pushes++
	if p == nil && !end {
		s.heads++
	}
	if end {
		s.ends++
	}
	return s.body.Write(p)
}

// However a stream writes, its bytes come out in order, with one end.
func TestOutputProperty(t *testing.T) {
	var buffers Buffers
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 100, direct - 1, direct, 100_000}), 0, 12).Draw(t, "sizes")
		how := rapid.SliceOfN(rapid.IntRange(0, 2), len(sizes), len(sizes)).Draw(t, "how")
		finish, known := rapid.Bool().Draw(t, "finish"), rapid.Bool().Draw(t, "known")
		var want bytes.Buffer
		length := int64(-1)
		for i, n := range sizes {
			want.Write(bytes.Repeat([]byte{byte(i + 1)}, n))
		}
		if known {
			length = int64(want.Len())
		}
		var s sink
		var o Output
		err := o.Send(&s, &buffers, length, bodyStream{func(w io.Writer) error {
			for i, n := range sizes {
				p := bytes.Repeat([]byte{byte(i + 1)}, n)
				var err error
				switch {
				case finish && i == len(sizes)-1:
					_, err = w.(macronode.Finisher).Finish(p)
				case how[i] == 0:
					_, err = w.Write(p)
				case how[i] == 1:
					_, err = w.(io.ReaderFrom).ReadFrom(bytes.NewReader(p))
				default:
					if _, err = w.Write(p); err == nil {
						err = w.(macronode.Flusher).Flush()
					}
				}
				if err != nil {
					return err
				}
			}
			return nil
		}})
		if err != nil || s.ends != 1 || !bytes.Equal(s.body.Bytes(), want.Bytes()) {
			t.Fatalf("%d of %d bytes, %d ends, %v", s.body.Len(), want.Len(), s.ends, err)
		}
	})
}

// A stream that fails, and one that is shorter or longer than announced, never
// gets an end.
func TestOutputFails(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		length int64
		write  int
		err    error
		pushes int
	}{
		"before the first byte": {-1, 0, boom, 0}, "after a few": {-1, 10, boom, 0}, "after many": {-1, 100_000, boom, 1},
		"too short": {11, 10, nil, 0}, "too long": {9, 10, nil, 0}, "too long, many": {50_000, 100_000, nil, 0},
	} {
		var s sink
		var o Output
		var buffers Buffers
		err := o.Send(&s, &buffers, c.length, bodyStream{func(w io.Writer) error {
			if _, err := w.Write(make([]byte, c.write)); err != nil && c.err == nil {
				return nil // a stream that does not look
			}
			return c.err
		}})
		if err == nil || s.ends != 0 || s.pushes != c.pushes || (c.err != nil && err != c.err) {
			t.Errorf("%s: %v, %d pushes, %d ends", name, err, s.pushes, s.ends)
		}
	}
	s := sink{fail: boom}
	var o Output
	var buffers Buffers
	if err := o.Send(&s, &buffers, -1, bodyStream{func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }}); err != boom {
		t.Errorf("a sink that fails: %v", err)
	}
}
