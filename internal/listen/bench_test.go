// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkHandshake is full handshakes on loopback, client and server together:
// the node's listener beside bare crypto/tls in the same mode. Compare the two of
// a mode; both pay for dialling, and for the client.
func BenchmarkHandshake(b *testing.B) {
	a := newAuthority(b)
	cert := a.issue(b, "node")
	for _, mode := range []struct {
		name, pq string
		offer    []tls.CurveID
	}{
		{"hybrid", "hybrid", []tls.CurveID{tls.X25519MLKEM768}},
		{"classical", "off", []tls.CurveID{tls.X25519}},
	} {
		client := &tls.Config{RootCAs: a.pool, ServerName: "node", CurvePreferences: mode.offer, SessionTicketsDisabled: true}
		dialAll := func(b *testing.B, addr string) {
			b.ResetTimer()
			begun := spent(b)
			defer func() { b.ReportMetric(float64(spent(b)-begun)/float64(b.N), "cpu-ns/op") }()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c, err := tls.Dial("tcp", addr, client)
					if err != nil {
						b.Error(err)
						return
					}
					c.Close()
				}
			})
		}
		b.Run(mode.name+"/node", func(b *testing.B) {
			s, _ := newSet(b, wide())
			e := tcp("127.0.0.1:0")
			e.TLS = mustTLS(b, TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: mode.pq})
			addr := apply(b, s, e)
			v := s.View()
			defer v.Close()
			go drain(v)
			dialAll(b, addr)
		})
		b.Run(mode.name+"/bare", func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			conf := &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: mode.offer, Certificates: []tls.Certificate{*cert}}
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						tc := tls.Server(c, conf)
						if tc.Handshake() == nil {
							readOut(tc)
						}
						tc.Close()
					}()
				}
			}()
			dialAll(b, ln.Addr().String())
		})
	}
}

// spent is the processor time of this process so far.
func spent(b *testing.B) int64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// drain reads each connection to its end.
func drain(v *View) {
	for {
		c, err := v.Accept()
		if err != nil {
			return
		}
		go func() {
			readOut(c)
			c.Close()
		}()
	}
}

func readOut(c net.Conn) {
	b := make([]byte, 64)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
