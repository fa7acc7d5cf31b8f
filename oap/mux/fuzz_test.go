// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// script is a connection whose other side says what is written down, in pieces,
// hears nothing, and leaves.
type script struct {
	mu    sync.Mutex
	rest  []byte
	piece int
	wrote int
}

func (c *script) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.rest[:min(len(c.rest), c.piece)])
	c.rest = c.rest[n:]
	return n, nil
}

func (c *script) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrote += len(p)
	return len(p), nil
}
func (*script) Close() error                     { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// validSession is what an opener says: calls small and large, a cancel, PINGs
// and ACKs.
func validSession() []byte {
	var b []byte
	add := func(h oap.Header, capability, payload string) {
		var err error
		if b, err = oap.Append(b, &oap.Frame{Header: h, Cap: []byte(capability), Payload: []byte(payload)}); err != nil {
			panic(err)
		}
	}
	ack := func(corr, n uint64) { f := oap.Ack(corr, n); add(f.Header, "", string(f.Payload)) }
	add(oap.Header{Flags: oap.REQ, Corr: 9}, "", `{"ua":"x"}`)
	add(oap.Header{Flags: oap.REQ | oap.START | oap.END, App: 1, Corr: 1}, "cap", "head")
	add(oap.Header{Flags: oap.REQ | oap.START, App: 1, Corr: 3}, "cap", "head and body")
	add(oap.Header{Flags: oap.REQ, App: 1, Corr: 3}, "", string(make([]byte, 300)))
	add(oap.Header{Flags: oap.EVENT | oap.ACKREQ}, "", "")
	add(oap.Header{Flags: oap.REQ | oap.ACKREQ, App: 1, Corr: 3}, "", string(make([]byte, 20<<10)))
	add(oap.Header{Flags: oap.REQ | oap.START, App: 2, Corr: 5}, "", "head")
	ack(0, 0)
	ack(5, 0)
	add(oap.Header{Flags: oap.REQ | oap.END, Code: 499, App: 2, Corr: 5}, "", "")
	add(oap.Header{Flags: oap.REQ | oap.END, App: 1, Corr: 3}, "", "")
	add(oap.Header{Flags: oap.EVENT, Code: 503}, "", "12345678")
	return b
}

// feed runs an acceptor over what its other side says, and checks that all it
// held is given back.
func feed(t testing.TB, said []byte, piece int) error {
	var handlers atomic.Int64
	cfg := acceptorConfig(nil)
	cfg.Handle = func(st *Stream) {
		handlers.Add(1)
		defer handlers.Add(-1)
		echo(st)
		st.Close()
	}
	s, err := New(&script{rest: said, piece: max(1, piece)}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(context.Background())
	if err == nil || !errors.Is(err, ErrClosed) {
		t.Errorf("the session ended with %v", err)
	}
	s.mu.Lock()
	if s.buffered < 0 || s.buffered > maxBuffered || s.t.MineNow != 0 {
		t.Errorf("%d bytes are held, %d streams of its own", s.buffered, s.t.MineNow)
	}
	s.mu.Unlock()
	for handlers.Load() > 0 {
		runtime.Gosched()
	}
	return err
}

func FuzzAcceptor(f *testing.F) {
	f.Add(validSession(), 7)
	f.Add([]byte(nil), 1)
	f.Add(header(38), 1000)
	f.Fuzz(func(t *testing.T, said []byte, piece int) { feed(t, said, piece) })
}

func TestSessionCutAtEveryByte(t *testing.T) {
	whole := validSession()
	if err := feed(t, whole, 1<<20); !errors.Is(err, io.EOF) {
		t.Fatalf("the valid session ended with %v", err)
	}
	for n := range whole {
		if n > 800 && n < len(whole)-800 {
			continue // in the middle of a payload
		}
		err := feed(t, whole[:n], 1<<20)
		if _, refused := errors.AsType[*Fault](err); refused {
			t.Fatalf("%d bytes of a valid session are refused: %v", n, err)
		}
	}
}

func TestMutatedSessions(t *testing.T) {
	whole := validSession()
	rng := rand.New(rand.NewPCG(1, 2))
	before := runtime.NumGoroutine()
	refused := 0
	for range 20_000 {
		b := append([]byte(nil), whole...)
		for range 1 + rng.IntN(4) {
			at := rng.IntN(min(len(b), 700))
			switch rng.IntN(4) {
			case 0:
				b[at] = byte(rng.Uint32())
			case 1:
				b[at] ^= 1 << rng.IntN(8)
			case 2:
				b = append(b[:at], b[at+rng.IntN(len(b)-at):]...)
				b = append(b, 0)
			default: // frames of before, again
				b = append(b[:at:at], whole...)
			}
		}
		if _, ok := errors.AsType[*Fault](feed(t, b, 1+rng.IntN(2000))); ok {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("only %d of the sessions were refused", refused)
	}
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before+2 })
}
