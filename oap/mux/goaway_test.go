// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// acceptor plays the other side of an opener by hand, up to HELLO.
func acceptor(t *testing.T) (*Session, net.Conn, *oap.Reader) {
	t.Helper()
	a, b := net.Pipe()
	s, err := New(b, openerConfig())
	if err != nil {
		t.Fatal(err)
	}
	go s.Run(context.Background())
	t.Cleanup(func() {
		a.Close()
		<-s.Done()
	})
	in := oap.NewReader(a, oap.MaxFrameBytes)
	f, err := in.Next()
	if err != nil || !f.IsHello() {
		t.Fatal(f.Header, err)
	}
	reply := oap.Answer(&f.Header, 200, 0, []byte(`{"max_frame":1048576,"max_inflight":32,"max_streams":100,"versions":[1]}`))
	say(t, a, reply)
	return s, a, in
}

func say(t *testing.T, c net.Conn, f oap.Frame) {
	t.Helper()
	b, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestBehindGoAway: the connection ends after GOAWAY. What was accepted may have
// been done; what was not can be made again elsewhere.
func TestBehindGoAway(t *testing.T) {
	s, conn, in := acceptor(t)
	var streams []*Stream
	for range 2 {
		st, err := s.Open(t.Context(), Start{App: 1, Head: []byte("head"), End: true})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, st)
		if f, err := in.Next(); err != nil || f.Flags&oap.START == 0 {
			t.Fatal(f.Header, err)
		}
	}
	say(t, conn, oap.GoAway(1))
	conn.Close()
	if _, err := streams[0].Head(); !errors.Is(err, ErrClosed) {
		t.Errorf("accepted: %v", err)
	}
	if _, err := streams[1].Head(); !errors.Is(err, ErrDraining) || errors.Is(err, ErrClosed) {
		t.Errorf("behind GOAWAY: %v", err)
	}
}

// TestStartThatDidNotLeave: a stream whose first frame was never written did
// nothing, whatever ended the connection.
func TestStartThatDidNotLeave(t *testing.T) {
	s, conn, _ := acceptor(t)
	open := func() *Stream {
		st, err := s.Open(t.Context(), Start{App: 1, Head: []byte("head"), End: true})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	first := open() // nobody reads, so that its frame is stuck on its way
	waitFor(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return first.line.ID != 0
	})
	second := open()
	conn.Close()
	if _, err := first.Head(); !errors.Is(err, ErrClosed) {
		t.Errorf("on its way: %v", err)
	}
	if _, err := second.Head(); !errors.Is(err, ErrDraining) || errors.Is(err, ErrClosed) {
		t.Errorf("not on its way: %v", err)
	}
}

// TestGoAwayComesFirst: the refusal of a stream behind GOAWAY does not overtake
// it, so that the other side knows what the refusal means.
func TestGoAwayComesFirst(t *testing.T) {
	a, b := net.Pipe()
	s, err := New(a, acceptorConfig(func(st *Stream) { st.Fail(500, nil) }))
	if err != nil {
		t.Fatal(err)
	}
	go s.Run(context.Background())
	t.Cleanup(func() {
		b.Close()
		<-s.Done()
	})
	in := oap.NewReader(b, oap.MaxFrameBytes)
	hello, err := oap.NewHello(1, oap.Hello{UA: "test"})
	if err != nil {
		t.Fatal(err)
	}
	say(t, b, hello)
	if _, err := in.Next(); err != nil {
		t.Fatal(err)
	}
	// The writer is busy with a PONG that nobody reads while both come up.
	say(t, b, oap.Ping())
	s.GoAway()
	b.SetWriteDeadline(time.Now().Add(10 * time.Second))
	say(t, b, oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.START | oap.END, App: 1, Corr: 1}, Payload: []byte("head")})
	var order []string
	for len(order) < 2 {
		f, err := in.Next()
		if err != nil {
			t.Fatal(order, err)
		}
		switch {
		case f.Flags&oap.EVENT != 0 && f.Code == 503:
			order = append(order, "goaway")
		case f.Flags&oap.RESP != 0:
			order = append(order, "refusal")
		}
	}
	if order[0] != "goaway" {
		t.Errorf("%v", order)
	}
}
