// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
)

// GOAWAY: what runs finishes, what comes is refused, the connection ends after its
// last stream, and new ones are served.
func TestGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		s, _, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			if c.Op == "slow" {
				<-held
			}
			return echo(ctx, c, send)
		}, nil)
		k := pipe(t, s, loopback)
		defer k.end() // a test that fails leaves nothing that runs on
		defer release()
		k.c.SetDeadline(time.Now().Add(time.Minute))
		k.hello()
		k.send(start(9, oap.END, append(head(t, oap.RequestHead{Op: "slow", Length: 4}), "last"...)))
		synctest.Wait()
		s.GoAway()
		f := k.next()
		for f.Code != 503 {
			f = k.next()
		}
		if f.Flags != oap.EVENT || f.Corr != 0 || binary.BigEndian.Uint64(f.Payload) != 9 {
			t.Errorf("%+v %x", f.Header, f.Payload)
		}
		k.send(start(11, oap.END, head(t, oap.RequestHead{})))
		p := k.refused(k.answer(), 11, 503, "draining")
		if !p.Retryable || p.RetryAfterMS == 0 {
			t.Errorf("%+v", p)
		}
		// Others are served meanwhile, also by a node that is about to leave: what
		// it still does is the wall's to say.
		late := session(t, s, loopback, nil)
		if r := call(t, late, oap.RequestHead{Length: 2}, []byte("ok")); string(r.body) != "ok" {
			t.Errorf("%+v", r)
		}
		release()
		if f := k.answer(); f.Corr != 9 || f.Code != 200 {
			t.Errorf("%+v", f.Header)
		}
		for {
			if _, err := k.in.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		<-k.done
	})
}

// Shutdown waits for what runs, ends those who never spoke at once, and cuts off
// what does not end in time.
func TestShutdown(t *testing.T) {
	for _, cut := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			s, set, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
				select {
				case <-release:
					return echo(ctx, c, send)
				case <-ctx.Done():
					return ctx.Err()
				}
			}, nil)
			s.view = set.View()
			silent := pipe(t, s, loopback)
			m := session(t, s, loopback, nil)
			st := open(t, m, oap.RequestHead{Length: 4}, []byte("last"), true)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Shutdown(ctx) }()
			synctest.Wait()
			if _, err := silent.in.Next(); err != io.EOF {
				t.Errorf("a client that never spoke: %v", err)
			}
			if !cut {
				close(release)
				if r := answerOf(st); string(r.body) != "last" {
					t.Errorf("%+v", r)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			} else {
				if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if r := answerOf(st); r.err == nil {
					t.Errorf("%+v", r)
				}
			}
			if s.add(context.Background(), &conn{}) {
				t.Error("a connection was taken after the end")
			}
			<-m.Done()
		})
	}
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name  string
		greet bool
		send  int // bytes of a PING
		d     time.Duration
	}{{"idle", true, 0, time.Minute}, {"stall", true, 10, 10 * time.Second}, {"silence", false, 0, HelloTimeout}, {"half a HELLO", false, 3, HelloTimeout}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _, _ := newService(t, echo, nil)
				k := pipe(t, s, loopback)
				began := time.Now()
				if c.greet {
					k.hello()
				}
				ping := oap.Ping()
				b, err := oap.Append(nil, &ping)
				if err != nil {
					t.Fatal(err)
				}
				k.raw(b[:c.send])
				go io.Copy(io.Discard, k.c)
				if <-k.done; time.Since(began) != c.d {
					t.Errorf("after %v, not %v", time.Since(began), c.d)
				}
			})
		})
	}
}

// A call that runs keeps its connection from being idle, and a client that does
// not read loses its stream alone.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken error
		s, _, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			switch c.Op {
			case "wait":
				select {
				case <-time.After(3 * time.Minute):
				case <-ctx.Done():
				}
			case "pour":
				broken = send(&macronode.Reply{Stream: &pour{total: 64 << 20, step: 64 << 10}, Length: 64 << 20})
				return broken
			}
			return echo(ctx, c, send)
		}, nil)
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		k.send(start(1, oap.END, head(t, oap.RequestHead{Op: "pour"})))
		// It reads what comes, and acknowledges nothing.
		got := 0
		for {
			f := k.answer()
			if f.Code == 408 {
				k.refused(f, 1, 408, "timeout")
				break
			}
			if got++; got > 32 {
				t.Fatalf("%d frames without an ACK", got)
			}
		}
		synctest.Wait()
		if macronode.KindOf(broken) != macronode.ClientGone {
			t.Errorf("the handler was told %v", broken)
		}
		began := time.Now()
		k.send(start(3, oap.END, head(t, oap.RequestHead{Op: "wait"})))
		if f := k.answer(); f.Code != 200 || time.Since(began) != 3*time.Minute {
			t.Errorf("%+v after %v", f.Header, time.Since(began))
		}
	})
}

// Limits that change hold for connections made after it.
func TestLimitsHoldForNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newService(t, echo, nil)
		old := session(t, s, loopback, nil)
		<-old.Ready()
		l := testLimits()
		l.MaxStreams, l.ChunkBytes, l.MaxFrameBytes = 7, 1<<10, 16<<10
		if err := s.SetLimits(l); err != nil {
			t.Fatal(err)
		}
		now := session(t, s, loopback, nil)
		<-now.Ready()
		if p := old.Peer(); p.MaxStreams != 256 || p.MaxFrame != 1<<20 {
			t.Errorf("what was said changed: %+v", p)
		}
		if p := now.Peer(); p.MaxStreams != 7 || p.MaxFrame != 16<<10 {
			t.Errorf("%+v", p)
		}
		body := make([]byte, 64<<10)
		if r := call(t, old, oap.RequestHead{Length: int64(len(body))}, body); len(r.body) != len(body) {
			t.Errorf("%d bytes, %v", len(r.body), r.err)
		}
		// A chunk is checked too.
		k := pipe(t, s, loopback)
		k.hello()
		k.send(start(1, 0, head(t, oap.RequestHead{Length: 5000})))
		large := data(1, 0, make([]byte, 1025))
		b, err := oap.Append(nil, &large)
		if err != nil {
			t.Fatal(err)
		}
		go k.c.Write(b) // it is refused from its header
		if f := k.answer(); f.Code != 400 {
			t.Errorf("%+v", f.Header)
		}
		k.end()
	})
}

// On real sockets: served, crashed, served again, shut down.
func TestServe(t *testing.T) {
	s, set, _ := newService(t, echo, nil)
	if err := set.Apply([]listen.Endpoint{{Name: "oap", Network: "tcp", Addr: "127.0.0.1:0", StallTimeout: time.Second}}); err != nil {
		t.Fatal(err)
	}
	addr := set.Addrs()["oap"].String()
	dial := func() *client {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { c.Close() })
		return &client{t: t, c: c, in: oap.NewReader(c, 0)}
	}
	if s.Ready(context.Background()) == nil {
		t.Error("ready before Serve")
	}
	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		k := dial() // waits where nobody accepts yet
		go func() { done <- s.Serve(ctx) }()
		k.hello()
		if err := s.Ready(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Serve(context.Background()); err == nil {
			t.Error("Serve ran twice at a time")
		}
		k.send(start(1, oap.END, append(head(t, oap.RequestHead{Length: 2}), "hi"...)))
		if f := k.answer(); f.Code != 200 {
			t.Errorf("%+v", f.Header)
		}
		// The error frame is read even by who is still sending.
		bad := dial()
		go bad.c.Write(slices.Concat([]byte{0, 0x10, 0, 1}, make([]byte, 2<<20)))
		if f := bad.next(); f.Code != 413 {
			t.Errorf("%+v", f.Header)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		err := error(nil)
		for err == nil {
			_, err = k.in.Next() // ACKs may be under way
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("left open: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	k := dial()
	k.hello()
	set.Close(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if f := k.next(); f.Code != 503 {
		t.Errorf("%+v", f.Header)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
