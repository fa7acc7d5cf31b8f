// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// acceptorConfig and openerConfig are those of most tests.
func acceptorConfig(handle func(*Stream)) Config {
	return Config{
		Reply:      oap.HelloReply{MaxFrame: oap.MaxFrameBytes, MaxInflight: 64, MaxStreams: 256, Versions: []int{1}},
		ChunkBytes: 64 << 10, HelloTimeout: 5 * time.Second, IdleTimeout: time.Minute, StallTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		Handle: handle,
	}
}

func openerConfig() Config {
	c := acceptorConfig(nil)
	c.Opener, c.UA, c.SetAside = true, "test", true
	return c
}

// duo is two sessions that talk to each other.
type duo struct {
	node, peer       *Session
	nodeErr, peerErr chan error
}

func newDuo(t testing.TB, node, peer Config) *duo {
	t.Helper()
	a, b := net.Pipe()
	return duoOver(t, a, b, node, peer)
}

func duoOver(t testing.TB, a, b Conn, node, peer Config) *duo {
	t.Helper()
	n, err := New(a, node)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(b, peer)
	if err != nil {
		t.Fatal(err)
	}
	d := &duo{n, p, make(chan error, 1), make(chan error, 1)}
	go func() { d.nodeErr <- n.Run(context.Background()) }()
	go func() { d.peerErr <- p.Run(context.Background()) }()
	t.Cleanup(func() {
		n.Close()
		p.Close()
		<-n.Done()
		<-p.Done()
	})
	return d
}

func (d *duo) open(t testing.TB, o Start) *Stream {
	t.Helper()
	st, err := d.peer.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// echo answers with a head and the body that it gets, as it comes.
func echo(st *Stream) {
	head, err := st.Head()
	if err != nil {
		st.Fail(400, nil)
		return
	}
	st.Skip(min(4, len(head)))
	if err := st.WriteHead(200, []byte("HEAD"), nil, false); err != nil {
		return
	}
	buf := make([]byte, 100<<10)
	for {
		n, err := st.Read(buf)
		if n > 0 {
			if _, err := st.Write(buf[:n]); err != nil {
				return
			}
		}
		if err == io.EOF {
			st.CloseWrite()
			return
		}
		if err != nil {
			return
		}
	}
}

func TestEchoOfManyStreams(t *testing.T) {
	d := newDuo(t, acceptorConfig(echo), openerConfig())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			body := make([]byte, rng.IntN(600<<10))
			for i := range body {
				body[i] = byte(rng.Uint32())
			}
			st, err := d.peer.Open(t.Context(), Start{App: 1, Head: []byte("head")})
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			go func() {
				for rest := body; len(rest) > 0; {
					n := min(len(rest), 1+rng.IntN(100<<10))
					if _, err := st.Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				st.CloseWrite()
			}()
			if err := expect(st, body); err != nil {
				t.Error(i, err)
			}
		})
	}
	wg.Wait()
	waitFor(t, func() bool { return d.peer.Streams() == 0 && d.node.Streams() == 0 })
	d.node.mu.Lock()
	defer d.node.mu.Unlock()
	if d.node.buffered != 0 {
		t.Errorf("%d bytes count as buffered", d.node.buffered)
	}
}

// expect reads an answer of echo.
func expect(st *Stream, body []byte) error {
	head, err := st.Head()
	if err != nil {
		return err
	}
	if string(head[:4]) != "HEAD" || st.Code() != 200 {
		return fmt.Errorf("head %q, code %d", head[:4], st.Code())
	}
	st.Skip(4)
	got, err := io.ReadAll(st)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(body))
	}
	return nil
}

func waitFor(t testing.TB, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatal("it did not happen in time")
		}
		<-time.After(time.Millisecond)
	}
}

func TestSmallCall(t *testing.T) {
	d := newDuo(t, acceptorConfig(func(st *Stream) {
		body, err := io.ReadAll(st)
		if err != nil || string(st.Cap()) != "cap" || string(body) != "headbody" || st.Start().App != 7 {
			t.Errorf("got %q %q %v", st.Cap(), body, err)
		}
		st.WriteHead(201, []byte("h"), []byte("answer"), true)
	}), openerConfig())
	st := d.open(t, Start{App: 7, Cap: []byte("cap"), Head: []byte("head"), Body: []byte("body"), End: true})
	got, err := io.ReadAll(st)
	if err != nil || string(got) != "hanswer" || st.Code() != 201 {
		t.Fatalf("%q %v %d", got, err, st.Code())
	}
	if _, err := d.peer.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestChunksThatTheNodeTakes: a node may take smaller frames than its clients
// would send; it says so, and they heed it.
func TestChunksThatTheNodeTakes(t *testing.T) {
	small := acceptorConfig(echo)
	small.ChunkBytes = 1000
	d := newDuo(t, small, openerConfig())
	body := bytes.Repeat([]byte("0123456789"), 2000)
	st := d.open(t, Start{App: 1, Head: []byte("head"), Body: body[:5000]})
	go func() {
		st.Write(body[5000:])
		st.CloseWrite()
	}()
	if err := expect(st, body); err != nil {
		t.Fatal(err)
	}
	if got := d.peer.Peer().ChunkBytes; got != 1000 {
		t.Errorf("HELLO says %d", got)
	}
}

func TestErrorAnswer(t *testing.T) {
	d := newDuo(t, acceptorConfig(func(st *Stream) { st.Fail(404, []byte("{}")) }), openerConfig())
	st := d.open(t, Start{App: 7, Head: []byte("head")})
	_, err := st.Head()
	if e, ok := errors.AsType[*StreamError](err); !ok || e.Code != 404 || string(e.Problem) != "{}" {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte("x")); err == nil {
		t.Error("an answered stream takes more")
	}
	waitFor(t, func() bool { return d.peer.Streams() == 0 && d.node.Streams() == 0 })
}

func TestCancelReachesTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	d := newDuo(t, acceptorConfig(func(st *Stream) {
		<-st.Context().Done()
		ended <- context.Cause(st.Context())
	}), openerConfig())
	st := d.open(t, Start{App: 7, Head: []byte("head"), End: true})
	waitFor(t, func() bool { return d.node.Streams() == 1 })
	st.Cancel()
	if err := <-ended; !errors.Is(err, ErrCanceled) {
		t.Error(err)
	}
	if _, err := st.Head(); !errors.Is(err, ErrCanceled) {
		t.Error(err)
	}
}

func TestGoAwayEndsAfterTheLastStream(t *testing.T) {
	release := make(chan struct{})
	d := newDuo(t, acceptorConfig(func(st *Stream) {
		<-release
		st.WriteHead(200, []byte("h"), nil, true)
	}), openerConfig())
	st := d.open(t, Start{App: 7, Head: []byte("head"), End: true})
	waitFor(t, func() bool { return d.node.Streams() == 1 })
	d.node.GoAway()
	waitFor(t, d.peer.Draining)
	if _, err := d.peer.Open(t.Context(), Start{App: 7, Head: []byte("h")}); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
	close(release)
	if _, err := io.ReadAll(st); err != nil {
		t.Error(err)
	}
	if err := <-d.nodeErr; !errors.Is(err, ErrDraining) || !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
