// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

var limits = Limits{MaxFrameBytes: oap.MaxFrameBytes, MaxInflight: 64, MaxStreams: 256, ChunkBytes: 64 << 10}

// pair is two nodes with a session: what each is asked goes to its handler.
func pair(t *testing.T, near, far func(*mux.Stream)) (a, b *Link) {
	t.Helper()
	x, y := net.Pipe()
	t.Cleanup(func() { x.Close(); y.Close() })
	s, err := mux.New(y, mux.Config{Both: true, ChunkBytes: limits.ChunkBytes, Handle: far,
		Reply:        oap.HelloReply{MaxFrame: limits.MaxFrameBytes, MaxInflight: limits.MaxInflight, MaxStreams: limits.MaxStreams, FlagsSupported: []string{}, Versions: []int{1}, Transports: []string{"tcp+tls"}},
		HelloTimeout: time.Minute, IdleTimeout: time.Minute, StallTimeout: time.Minute, WriteTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	go s.Run(context.WithoutCancel(t.Context()))
	a, err = Dial(t.Context(), x, limits, near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); s.Close() })
	return a, Accepted(s)
}

// echo answers with what it was asked, but for what it is told to refuse.
func echo(st *mux.Stream) {
	first, err := st.Head()
	if err != nil {
		return
	}
	h, n, err := oap.ParseRequestHead(first)
	if err != nil {
		return
	}
	st.Skip(n)
	text, err := io.ReadAll(st)
	if err != nil {
		return
	}
	switch h.Op {
	case "refuse":
		e := &macronode.Error{Kind: macronode.QuotaRate, RetryAfter: 1500 * time.Millisecond}
		doc, _ := json.Marshal(e.Problem("x"))
		st.Fail(429, doc)
	case "hang":
		<-st.Context().Done()
	default:
		head, err := (&oap.AnswerHead{Code: 200, Length: oap.UnknownLength}).Append(nil)
		if err != nil {
			return
		}
		if err := st.WriteHead(200, head, nil, false); err != nil {
			return
		}
		st.Write(text)
		st.CloseWrite()
	}
}

func TestBothSidesCall(t *testing.T) {
	a, b := pair(t, echo, echo)
	for name, l := range map[string]*Link{"who dialled": a, "who accepted": b} {
		for _, n := range []int{0, 1, 1 << 20} {
			text := bytes.Repeat([]byte{7}, n)
			got, err := l.Call(t.Context(), "echo", []macronode.Arg{{Name: "a", Value: "b"}}, text, n)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s, %d bytes: %d bytes, %v", name, n, len(got), err)
			}
		}
		if _, err := l.Call(t.Context(), "echo", nil, []byte("12345"), 4); err == nil {
			t.Errorf("%s: an answer over its limit is taken", name)
		}
		if _, err := l.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, l := range []*Link{a, b} {
		before := l.Heard()
		if before.IsZero() || time.Since(before) > time.Minute {
			t.Errorf("heard at %v", before)
		}
		if _, err := l.Ping(t.Context()); err != nil || l.Heard().Before(before) || l.Heard().Equal(before) {
			t.Errorf("after a ping heard at %v, %v; before at %v", l.Heard(), err, before)
		}
	}
}

func TestRefusalsAndCancels(t *testing.T) {
	a, _ := pair(t, echo, echo)
	_, err := a.Call(t.Context(), "refuse", nil, nil, 10)
	if e, ok := errors.AsType[*macronode.Error](err); !ok || e.Kind != macronode.QuotaRate || e.RetryAfter != 1500*time.Millisecond {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "hang", nil, nil, 10); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if got, err := a.Call(t.Context(), "echo", nil, []byte("x"), 1); err != nil || string(got) != "x" {
		t.Errorf("after a cancelled call: %q %v", got, err)
	}
	a.Close()
	if _, err := a.Call(t.Context(), "echo", nil, nil, 1); !errors.Is(err, mux.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// A refusal is of the kind that its document names, or of some kind of its status;
// nothing of the document is trusted further.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		code    uint16
		problem string
		want    macronode.Kind
		retry   time.Duration
	}{
		{403, `{"code":"policy"}`, macronode.Denied, 0},
		{403, `{"code":"denied"}`, macronode.Denied, 0},
		{404, `{"code":"not_found"}`, macronode.NotFound, 0},
		{503, `{"code":"draining","retry_after_ms":1000}`, macronode.Draining, time.Second},
		{503, `{"code":"nonsense","retry_after_ms":-5}`, macronode.Unavailable, 0},
		{503, ``, macronode.Unavailable, 0},
		{429, `{"code":"quota_inflight","retry_after_ms":99999999999}`, macronode.QuotaInFlight, time.Minute},
		{599, `{"code":"not_found"}`, macronode.Internal, 0},
	} {
		err := kindOf(&mux.StreamError{Code: c.code, Problem: []byte(c.problem)})
		if e, ok := errors.AsType[*macronode.Error](err); !ok || e.Kind.Info().Status != c.want.Info().Status && c.want != macronode.Internal || e.Kind != c.want || e.RetryAfter != c.retry {
			t.Errorf("%d %s: %v", c.code, c.problem, err)
		}
	}
}

// Who accepts and does not greet costs the attempt's time and no more.
func TestNoGreeting(t *testing.T) {
	x, y := net.Pipe()
	defer y.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	go io.Copy(io.Discard, y)
	if _, err := Dial(ctx, x, limits, echo); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := x.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is not closed: %v", err)
	}
}
