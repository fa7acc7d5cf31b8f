// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"
)

// overTCP is two sessions over loopback.
func overTCP(b testing.TB, handle func(*Stream)) *duo {
	n, p := tcpPair(b)
	return duoOver(b, gathering{n}, gathering{p}, acceptorConfig(handle), openerConfig())
}

// tcpPair is both ends of a connection over loopback.
func tcpPair(b testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			b.Error(err)
		}
		accepted <- c
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return <-accepted, c
}

// BenchmarkEcho1KiB is calls of 1 KiB both ways in one frame each, 64 at a time
// over one connection.
func BenchmarkEcho1KiB(b *testing.B) {
	head := []byte("head")
	d := overTCP(b, func(st *Stream) {
		body, err := st.Head()
		if err == nil {
			st.WriteHead(200, body[:4], body[4:], true)
			st.Skip(len(body))
		}
	})
	body := make([]byte, 1<<10)
	b.SetBytes(1 << 10)
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			st, err := d.peer.Open(context.Background(), Start{App: 1, Head: head, Body: body, End: true})
			if err != nil {
				b.Error(err)
				return
			}
			got, err := st.Head()
			if err != nil || len(got) != 4+1<<10 {
				b.Error(len(got), err)
				return
			}
			st.Skip(len(got))
			st.Close()
		}
	})
}

// BenchmarkBulk is the node's answer of full frames, read without a copy.
func BenchmarkBulk(b *testing.B) {
	chunk := make([]byte, 64<<10)
	d := overTCP(b, func(st *Stream) {
		if st.WriteHead(200, []byte("head"), nil, false) != nil {
			return
		}
		for {
			if _, err := st.Write(chunk); err != nil {
				return
			}
		}
	})
	st := d.open(b, Start{App: 1, Head: []byte("head"), End: true})
	st.Head()
	st.Skip(4)
	b.SetBytes(64 << 10)
	b.ReportAllocs()
	b.ResetTimer()
	w := &limited{n: int64(b.N) * 64 << 10}
	if _, err := st.WriteTo(w); err != io.EOF {
		b.Error(err)
	}
}

// limited takes n bytes.
type limited struct{ n int64 }

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= int64(len(p)); l.n <= 0 {
		return len(p), io.EOF
	}
	return len(p), nil
}

// BenchmarkIdleSession measures what an acceptor that has served a call holds,
// stacks included, without its connection.
func BenchmarkIdleSession(b *testing.B) {
	const n = 200
	for range b.N {
		var before, after runtime.MemStats
		duos := make([]*duo, 0, n)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range n {
			d := newDuo(b, acceptorConfig(echo), openerConfig())
			st := d.open(b, Start{App: 1, Head: []byte("head"), Body: []byte("body"), End: true})
			if err := expect(st, []byte("body")); err != nil {
				b.Fatal(err)
			}
			st.Close()
			duos = append(duos, d)
		}
		waitFor(b, func() bool {
			for _, d := range duos {
				if d.node.Streams() != 0 {
					return false
				}
			}
			return true
		})
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		// Two sessions a pair, and the pipe between them.
		b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/(2*n), "B/session")
		for _, d := range duos {
			d.node.Close()
			d.peer.Close()
		}
	}
}
