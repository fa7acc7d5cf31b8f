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
	"runtime"
	"sync"
	"testing"
)

// gathering is a connection to which several parts are written at once.
type gathering struct{ net.Conn }

func (g gathering) WriteParts(parts [][]byte) error {
	b := net.Buffers(parts)
	_, err := b.WriteTo(g.Conn)
	return err
}

// pattern fills p with what stands at off of stream k.
func pattern(p []byte, k, off int) {
	for i := range p {
		p[i] = byte((off+i)*31 + (off+i)>>8 + k)
	}
}

// What Write was given is its caller's again when it returns, and what was read is
// not written over while somebody looks at it, whether or not frames are copied on
// the way, and however many streams take turns.
func TestBytesAreNotTakenTwice(t *testing.T) {
	const size = 3<<20 + 777
	for name, conns := range map[string]func() (Conn, Conn){
		"joined":   func() (Conn, Conn) { a, b := tcpPair(t); return a, b },
		"gathered": func() (Conn, Conn) { a, b := tcpPair(t); return gathering{a}, gathering{b} },
	} {
		t.Run(name, func(t *testing.T) {
			serve := func(st *Stream) {
				head, err := st.Head()
				if err != nil || st.WriteHead(200, []byte("head"), nil, false) != nil {
					return
				}
				k := int(head[0])
				st.Skip(len(head))
				sizes := rand.New(rand.NewPCG(1, uint64(k)))
				buf := make([]byte, 300<<10)
				for off := 0; off < size; {
					p := buf[:min(1+sizes.IntN(len(buf)), size-off)]
					pattern(p, k, off)
					if _, err := st.Write(p); err != nil {
						return
					}
					off += len(p)
					clear(p)
				}
				st.CloseWrite()
			}
			a, b := conns()
			d := duoOver(t, a, b, acceptorConfig(serve), openerConfig())
			var wg sync.WaitGroup
			for k := range 6 {
				wg.Go(func() {
					st, err := d.peer.Open(t.Context(), Start{App: 1, Head: []byte{byte(k)}, End: true})
					if err != nil {
						t.Error(err)
						return
					}
					defer st.Close()
					if _, err := st.Head(); err != nil {
						t.Error(err)
						return
					}
					st.Skip(4)
					if n, err := st.WriteTo(&checking{k: k}); n != size || err != nil {
						t.Errorf("stream %d: %d bytes, %v", k, n, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// checking holds what it is given against the pattern, twice.
type checking struct{ k, off int }

func (c *checking) Write(p []byte) (int, error) {
	want := make([]byte, len(p))
	pattern(want, c.k, c.off)
	for range 2 {
		if !bytes.Equal(p, want) {
			return 0, fmt.Errorf("other bytes behind %d", c.off)
		}
		for range 3 {
			runtime.Gosched() // others go on meanwhile
		}
	}
	c.off += len(p)
	return len(p), nil
}

// A Write whose bytes nobody takes ends with the stream or the session, and what it
// was given is its own then.
func TestWriteThatNobodyTakes(t *testing.T) {
	for name, end := range map[string]func(*Session, *Stream){
		"session": func(s *Session, _ *Stream) { s.Close() },
		"failed":  func(_ *Session, st *Stream) { st.Fail(500, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			type result struct {
				n    int
				err  error
				lent int
			}
			started, done := make(chan *Stream, 1), make(chan result, 1)
			conf := acceptorConfig(func(st *Stream) {
				if st.WriteHead(200, []byte("head"), nil, false) != nil {
					return
				}
				started <- st
				n, err := st.Write(make([]byte, 64<<20))
				st.s.mu.Lock()
				lent := st.lent
				st.s.mu.Unlock()
				done <- result{n, err, lent}
			})
			d := newDuo(t, conf, openerConfig())
			st := d.open(t, Start{App: 1, Head: []byte("head"), End: true})
			if _, err := st.Head(); err != nil {
				t.Fatal(err)
			}
			own := <-started
			waitFor(t, func() bool { // the window is full
				d.node.mu.Lock()
				defer d.node.mu.Unlock()
				return len(d.node.blocked) == 1
			})
			end(d.node, own)
			if r := <-done; r.err == nil || r.n == 64<<20 || r.lent != 0 {
				t.Errorf("%d bytes, %d lent, %v", r.n, r.lent, r.err)
			}
		})
	}
}

// A connection on which a write fails takes all who write with it.
func TestFailingWrite(t *testing.T) {
	a, b := net.Pipe()
	broken := errors.New("broken")
	c := &failing{Conn: a, err: broken, after: 300 << 10}
	var writers sync.WaitGroup
	writers.Add(3)
	conf := acceptorConfig(func(st *Stream) {
		defer writers.Done()
		st.WriteHead(200, []byte("head"), nil, false)
		for {
			if _, err := st.Write(make([]byte, 100<<10)); err != nil {
				return
			}
		}
	})
	d := duoOver(t, c, b, conf, openerConfig())
	for range 3 {
		st := d.open(t, Start{App: 1, Head: []byte("head"), End: true})
		go io.Copy(io.Discard, st)
	}
	if err := <-d.nodeErr; !errors.Is(err, broken) && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	writers.Wait()
}

type failing struct {
	net.Conn
	after int
	err   error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, f.err
	}
	return f.Conn.Write(p)
}
