// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
)

// overhead is what storage of a payload may need beyond it: room for a frame's
// header and the beginning of the next, and what a connection needs at all.
const overhead = 1 << 20

// serving is a service on a TLS socket.
type serving struct {
	t    testing.TB
	s    *Service
	addr string
	cert *x509.Certificate
}

func serveTLS(t testing.TB, w wall) *serving {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := listen.NewTLS(listen.TLSConfig{Certificate: func() *tls.Certificate { return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key} },
		ClientAuth: "none", PQ: "hybrid"})
	if err != nil {
		t.Fatal(err)
	}
	s, set, _ := newService(t, w, nil)
	e := listen.Endpoint{Name: "oap", Network: "tcp", Addr: "127.0.0.1:0", TLS: conf, HandshakeTimeout: 10 * time.Second, StallTimeout: 10 * time.Second}
	if err := set.Apply([]listen.Endpoint{e}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		set.Close(context.Background())
	})
	return &serving{t, s, set.Addrs()["oap"].String(), cert}
}

func (v *serving) dial() net.Conn {
	v.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(v.cert)
	c, err := tls.Dial("tcp", v.addr, &tls.Config{RootCAs: pool, ServerName: "node"})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

func (v *serving) client() *client {
	v.t.Helper()
	c := v.dial()
	c.SetDeadline(time.Now().Add(time.Minute))
	k := &client{t: v.t, c: c, in: oap.NewReader(c, 0)}
	k.hello()
	return k
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited for %s", what)
		}
	}
}

// TestHostileMemory measures what a connection makes the node hold: at most 8 MiB
// of what it sent, whatever that is, while calls do not read it, and no more of
// answers that it does not take. Others do not notice, and all of it is given back.
func TestHostileMemory(t *testing.T) {
	const conns, pouring, most = 3, 120, 8<<20 + overhead
	shared := make([]byte, 64<<10)
	release := make(chan struct{})
	v := serveTLS(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		switch c.Op {
		case "hold":
			select {
			case <-ctx.Done():
			case <-release:
			}
			return ctx.Err()
		case "pour":
			return send(&macronode.Reply{Stream: flood{shared}, Length: -1})
		}
		return echo(ctx, c, send)
	})
	good := dialed(t, v.dial(), nil)
	defer close(release)
	ask := func() {
		t.Helper()
		if r := call(t, good, oap.RequestHead{Length: 4}, []byte("good")); string(r.body) != "good" {
			t.Fatalf("another client: %+v", r)
		}
	}
	ask()
	hold, large := head(t, oap.RequestHead{Op: "hold", Length: oap.UnknownLength}), make([]byte, 64<<10)
	for _, c := range []struct {
		name   string
		stream func(k *client, corr uint64)
		count  int
	}{
		{"a window of full chunks", func(k *client, corr uint64) {
			k.send(start(corr, 0, hold))
			for range 31 {
				k.send(data(corr, 0, large))
			}
		}, 4},
		{"the least that keeps a block", func(k *client, corr uint64) {
			k.send(start(corr, 0, hold))
			for range 31 {
				k.send(data(corr, 0, large[:16<<10]))
			}
		}, 4},
		{"crumbs", func(k *client, corr uint64) {
			k.send(start(corr, 0, hold))
			for range 31 {
				k.send(data(corr, 0, large[:1]))
			}
		}, 4},
		{"full chunks behind heads", func(k *client, corr uint64) {
			f := start(corr, 0, append(append([]byte(nil), hold...), large...))
			f.Cap = large[:4<<10]
			k.send(f)
		}, 100},
	} {
		before := heap()
		clients := make([]*client, conns)
		for i := range clients {
			clients[i] = v.client()
			go io.Copy(io.Discard, clients[i].c)
			for j := range c.count {
				c.stream(clients[i], uint64(2*j+1))
			}
		}
		poll(t, c.name, func() bool { return count(t, v.s.conf.Metrics.streams) >= float64(conns*min(c.count, 4)) })
		held := heap() - before
		t.Logf("%s: %d KiB a connection", c.name, held/conns>>10)
		if held > conns*most {
			t.Errorf("%s: %d bytes a connection, at most %d are allowed", c.name, held/conns, most)
		}
		ask()
		for _, k := range clients {
			k.c.Close()
		}
		poll(t, "the end of their calls", func() bool { return count(t, v.s.conf.Metrics.streams) == 0 })
		// Pools let go of what they hold with the second collection.
		poll(t, "the memory of "+c.name, func() bool { return heap()-before <= 4<<20 })
	}
	// Answers that nobody takes: of all of them together, a window is held.
	before := heap()
	for range conns {
		k := v.client()
		for j := range pouring {
			k.send(start(uint64(2*j+1), oap.END, head(t, oap.RequestHead{Op: "pour"})))
		}
	}
	poll(t, "answers", func() bool { return count(t, v.s.conf.Metrics.streams) == conns*pouring })
	ask()
	held := heap() - before
	t.Logf("answers that nobody takes: %d KiB a connection", held/conns>>10)
	if held > conns*most {
		t.Errorf("answers that nobody takes: %d bytes a connection, at most %d are allowed", held/conns, most)
	}
	if err := good.Err(); err != nil {
		t.Error(err)
	}
}

// flood is an answer without end, of bytes that it shares with others.
type flood struct{ b []byte }

func (f flood) WriteTo(w io.Writer) (n int64, err error) {
	for err == nil {
		var m int
		m, err = w.Write(f.b)
		n += int64(m)
	}
	return n, err
}
func (flood) Close() error { return nil }
