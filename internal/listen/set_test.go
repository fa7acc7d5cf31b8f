// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestEndpointsAreChecked(t *testing.T) {
	a := newAuthority(t)
	conf := mustTLS(t, TLSConfig{Certificate: newAuthority(t).certificate, ClientAuth: "require", ClientCAs: a.pool, PQ: "off"})
	s, _ := newSet(t, wide())
	for name, e := range map[string]Endpoint{
		"nothing":             {},
		"no address":          {Name: "bind", Network: "tcp", StallTimeout: 1},
		"no stall timeout":    {Name: "bind", Network: "tcp", Addr: "127.0.0.1:0"},
		"udp":                 {Name: "bind", Network: "udp", Addr: "127.0.0.1:0", StallTimeout: 1},
		"nobody on unix":      {Name: "uds", Network: "unix", Addr: t.TempDir() + "/s", StallTimeout: 1},
		"TLS on unix":         {Name: "uds", Network: "unix", Addr: t.TempDir() + "/s", AllowUIDs: []uint32{0}, TLS: conf, HandshakeTimeout: 1, StallTimeout: 1},
		"uids on tcp":         {Name: "bind", Network: "tcp", Addr: "127.0.0.1:0", AllowUIDs: []uint32{0}, StallTimeout: 1},
		"an endless hello":    {Name: "bind", Network: "tcp", Addr: "127.0.0.1:0", TLS: conf, StallTimeout: 1},
		"an impossible place": {Name: "bind", Network: "tcp", Addr: "192.0.2.1:1", StallTimeout: 1},
	} {
		if err := s.Apply([]Endpoint{e}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	e := tcp("127.0.0.1:0")
	if err := s.Apply([]Endpoint{e, e}); err == nil {
		t.Error("one endpoint twice was taken")
	}
	if _, err := NewSet(SetConfig{}); err == nil {
		t.Error("an empty config was taken")
	}
	if len(s.Addrs()) != 0 {
		t.Errorf("it listens: %v", s.Addrs())
	}
}

func TestViewsComeAndGo(t *testing.T) {
	s, _ := newSet(t, wide())
	addr := apply(t, s, tcp("127.0.0.1:0"))
	v := s.View()
	blocked := make(chan error, 1)
	go func() { _, err := v.Accept(); blocked <- err }()
	v.Close()
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := v.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("again: %v", err)
	}
	c := dial(t, addr) // while nobody accepts
	io.WriteString(c, "x")
	next := s.View()
	defer next.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(accept(t, next), b); err != nil || b[0] != 'x' {
		t.Errorf("%q, %v", b, err)
	}
}

// All or nothing: a change that cannot be made changes nothing.
func TestApplyIsWhole(t *testing.T) {
	s, _ := newSet(t, wide())
	addr := apply(t, s, tcp("127.0.0.1:0"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	fresh := tcp("localhost:0")
	busy := tcp(taken.Addr().String())
	busy.Name = "admin_bind"
	if err := s.Apply([]Endpoint{fresh, busy}); err == nil {
		t.Fatal("a port was bound twice")
	}
	if got := s.Addrs(); len(got) != 1 || got["bind"].String() != addr {
		t.Errorf("%v", got)
	}
	v := s.View()
	defer v.Close()
	dial(t, addr)
	accept(t, v)
	ch, err := s.Prepare([]Endpoint{tcp("127.0.0.1:0"), {Name: "second", Network: "tcp", Addr: "localhost:0", StallTimeout: 1}})
	if err != nil {
		t.Fatal(err)
	}
	ch.Abort()
	if len(s.Addrs()) != 1 {
		t.Error("Prepare alone changed something")
	}
}

// The same port on another address: the old listener must go first.
func TestRebindSamePort(t *testing.T) {
	s, _ := newSet(t, wide())
	addr := apply(t, s, tcp("127.0.0.1:0"))
	_, port, _ := net.SplitHostPort(addr)
	v := s.View()
	defer v.Close()
	held := dial(t, addr)
	server := accept(t, v)
	apply(t, s, tcp("0.0.0.0:"+port))
	dial(t, addr)
	accept(t, v)
	io.WriteString(held, "x")
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	apply(t, s, tcp("127.0.0.1:"+port))
	dial(t, addr)
	accept(t, v)
	apply(t, s, Endpoint{Name: "elsewhere", Network: "tcp", Addr: "127.0.0.1:0", StallTimeout: 1})
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the old address still answers")
	}
}

func TestCloseHandsOutWhatWasAccepted(t *testing.T) {
	s, _ := newSet(t, wide())
	addr := apply(t, s, tcp("127.0.0.1:0"))
	c := dial(t, addr)
	io.WriteString(c, "x")
	eventually(t, "accepting", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting) == 1
	})
	closed := make(chan struct{})
	go func() { s.Close(context.Background()); close(closed) }()
	v := s.View()
	nc := accept(t, v)
	<-closed
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, err := v.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Apply(nil); !errors.Is(err, ErrSetClosed) {
		t.Errorf("%v", err)
	}
	s.Close(context.Background())

	// Without anyone to take it, it is closed when the time is up.
	s, _ = newSet(t, wide())
	c = dial(t, apply(t, s, tcp("127.0.0.1:0")))
	closeNow(s)
	ended(t, c)
}

// A successor process goes on with the sockets of the one before it.
func TestInheritedListeners(t *testing.T) {
	before, _ := newSet(t, wide())
	path := t.TempDir() + "/s"
	e := []Endpoint{tcp("127.0.0.1:0"), {Name: "uds", Network: "unix", Addr: path, AllowUIDs: []uint32{uint32(os.Getuid())}, StallTimeout: patience}}
	addr := apply(t, before, e...)
	files, err := before.Files()
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	closeNow(before)
	waiting := dial(t, addr) // in the backlog of a socket nobody accepts from
	io.WriteString(waiting, "x")

	caps, _ := NewCaps(wide())
	after, err := NewSet(SetConfig{Wire: "http", Caps: caps, Metrics: before.conf.Metrics, Inherit: func(network, a string) net.Listener {
		f := files[network+" "+a]
		if f == nil {
			return nil
		}
		defer f.Close()
		ln, err := net.FileListener(f)
		if err != nil {
			t.Error(err)
		}
		return ln
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(after)
	if got := apply(t, after, e...); got != addr {
		t.Errorf("%s, want %s", got, addr)
	}
	v := after.View()
	defer v.Close()
	if _, err := io.ReadFull(accept(t, v), make([]byte, 1)); err != nil {
		t.Error(err)
	}
	c, err := DialUnix(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accept(t, v)
}

func TestConnStall(t *testing.T) {
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.StallTimeout = 150 * time.Millisecond
	c := dial(t, apply(t, s, e))
	v := s.View()
	defer v.Close()
	nc := accept(t, v)
	big := make([]byte, 64<<20)
	if n, err := nc.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("nobody read, yet: %d, %v", n, err)
	}
	go io.Copy(io.Discard, c)
	if n, err := nc.Write(big); err != nil || n != len(big) {
		t.Errorf("with a reader: %d, %v", n, err)
	}
	nc.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := nc.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	nc.SetWriteDeadline(time.Time{})
	if _, err := nc.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestLingerAndAbort(t *testing.T) {
	s, _ := newSet(t, wide())
	addr := apply(t, s, tcp("127.0.0.1:0"))
	v := s.View()
	defer v.Close()
	c := dial(t, addr)
	nc := accept(t, v)
	c.Write(bytes.Repeat([]byte("x"), 1000))
	io.WriteString(nc, "answer")
	ConnOf(nc).Linger()
	go nc.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "answer" {
		t.Errorf("unread bytes cost the answer: %q, %v", b, err)
	}
	c = dial(t, addr)
	nc = accept(t, v)
	io.WriteString(nc, "part")
	ConnOf(nc).Abort()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("an aborted connection ended cleanly")
	}
	if ConnOf(c) != nil {
		t.Error("a stranger's connection")
	}
}

func TestClientBehindProxies(t *testing.T) {
	caps, err := NewCaps(Rules{MaxConns: 1, MaxConnsPerIP: 1, TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}})
	if err != nil {
		t.Fatal(err)
	}
	proxy := netip.MustParseAddr("10.0.0.1")
	many := ""
	for range 100 {
		many += "10.0.0.5,"
	}
	for _, c := range []struct {
		xff, fwd []string
		want     string // "": contradiction
	}{
		{nil, nil, "10.0.0.1"},
		{[]string{"203.0.113.7"}, nil, "203.0.113.7"},
		{[]string{"6.6.6.6, 203.0.113.7"}, nil, "203.0.113.7"}, // the client made up the left
		{[]string{"6.6.6.6", "203.0.113.7"}, nil, "203.0.113.7"},
		{[]string{"6.6.6.6, 203.0.113.7, 10.9.9.9, 10.8.8.8"}, nil, "203.0.113.7"},
		{[]string{"10.9.9.9, 10.8.8.8"}, nil, "10.9.9.9"},       // trusted all along
		{[]string{"203.0.113.7, unknown"}, nil, "10.0.0.1"},     // hidden by the nearest proxy
		{[]string{"6.6.6.6, bogus, 10.2.2.2"}, nil, "10.2.2.2"}, // hidden further off
		{[]string{""}, nil, "10.0.0.1"},
		{[]string{" , ,"}, nil, "10.0.0.1"},
		{[]string{"203.0.113.7:4711"}, nil, "203.0.113.7"},
		{[]string{"[2001:db8::1]:80"}, nil, "2001:db8::1"},
		{[]string{"[2001:db8::1]"}, nil, "2001:db8::1"},
		{[]string{"::ffff:203.0.113.7"}, nil, "203.0.113.7"},
		{[]string{"::ffff:10.1.1.1"}, nil, "10.1.1.1"}, // trusted in its mapped form too
		{[]string{"6.6.6.6," + many}, nil, "10.0.0.5"}, // no endless search
		{nil, []string{`for=192.0.2.60;proto=http;by=203.0.113.43`}, "192.0.2.60"},
		{nil, []string{`For="[2001:db8:cafe::17]:4711"`}, "2001:db8:cafe::17"},
		{nil, []string{`for=6.6.6.6, for=192.0.2.43, for=10.3.3.3`}, "192.0.2.43"},
		{nil, []string{`for=_hidden`}, "10.0.0.1"},
		{nil, []string{`proto=https`}, "10.0.0.1"},
		{[]string{"192.0.2.43"}, []string{"for=192.0.2.43"}, "192.0.2.43"},
		{[]string{"192.0.2.43"}, []string{"for=6.6.6.6"}, ""},
	} {
		got, err := caps.Client(proxy, c.xff, c.fwd)
		if c.want == "" {
			if !errors.Is(err, ErrForwarded) {
				t.Errorf("%q %q: %v, %v", c.xff, c.fwd, got, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%q %q: %v, %v, want %s", c.xff, c.fwd, got, err, c.want)
		}
	}
}

func TestRedactAddr(t *testing.T) {
	for in, want := range map[string]string{"203.0.113.77": "203.0.113.0/24", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "::ffff:203.0.113.77": "203.0.113.0/24", "fe80::1%eth0": "fe80::/64"} {
		if got := RedactAddr(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if got := RedactAddr(netip.Addr{}); got != "unknown" {
		t.Error(got)
	}
}

// FuzzForwarded: never a panic, and never an address that is not there.
func FuzzForwarded(f *testing.F) {
	f.Add("6.6.6.6, 203.0.113.7", `for="[2001:db8::1]:80";by=x`)
	f.Add(",,,", ";;=,for")
	caps, err := NewCaps(Rules{MaxConns: 1, MaxConnsPerIP: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, xff, fwd string) {
		a, err := caps.Client(netip.MustParseAddr("10.0.0.1"), []string{xff}, []string{fwd})
		if err == nil && !a.IsValid() {
			t.Errorf("%q %q: no address", xff, fwd)
		}
	})
}

// What nobody will take is not waited for.
func TestCloseWithoutViews(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "node")
	for _, lastLeaves := range []bool{false, true} {
		s, _ := newSet(t, wide())
		e := tcp("127.0.0.1:0")
		e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: "off"})
		addr := apply(t, s, e)
		v := s.View()
		if !lastLeaves {
			v.Close()
		}
		waiting, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node"})
		if err != nil {
			t.Fatal(err)
		}
		silent := dial(t, addr) // in its handshake
		eventually(t, "accepted", func() bool { return value(t, s.conf.Metrics.open.WithLabelValues("http")) == 2 })
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { done <- s.Close(ctx) }()
		if lastLeaves {
			eventually(t, "closing", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.closed })
			v.Close()
		}
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Close waits for a View that will not come")
		}
		cancel()
		ended(t, silent)
		waiting.SetDeadline(time.Now().Add(patience))
		ended(t, waiting)
	}
}
