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
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
)

func TestGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
		k := pipe(t, s, loopback)
		k.hello()
		k.send(start(9, ""))
		k.next()
		synctest.Wait()
		s.SetLameDuck(true)
		f := k.next()
		if f.Flags != oap.EVENT || f.Corr != 0 || f.Code != 503 || binary.BigEndian.Uint64(f.Payload) != 9 {
			t.Errorf("%+v %x", f.Header, f.Payload)
		}
		if _, err := k.in.Next(); err != io.EOF {
			t.Errorf("after GOAWAY: %v", err)
		}
		<-k.done
		// A newcomer may still introduce itself.
		late := pipe(t, s, loopback)
		late.hello()
		if f := late.next(); f.Code != 503 {
			t.Errorf("%+v", f.Header)
		}
		<-late.done
		s.SetLameDuck(false)
		again := pipe(t, s, loopback)
		again.hello()
		again.send(oap.Ping())
		again.next()
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		if f := again.next(); f.Code != 503 {
			t.Errorf("%+v", f.Header)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, set := newService(t, testLimits())
		s.view = set.View()
		k := pipe(t, s, loopback)
		k.hello()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// The client never reads its GOAWAY.
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-k.done
	})
}

// On real sockets: served, crashed, served again, shut down.
func TestServe(t *testing.T) {
	s, set := newService(t, testLimits())
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
		return &client{t: t, s: s, c: c, in: oap.NewReader(c, 0)}
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
		bad := dial()
		go bad.raw(slices.Concat([]byte{0, 0x10, 0, 1}, make([]byte, 2<<20)))
		if f := bad.next(); f.Code != 413 {
			t.Errorf("%+v", f.Header)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := k.in.Next(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
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
