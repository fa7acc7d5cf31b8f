// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
)

// validSession is what a client sends that makes calls of every kind, frame by frame.
func validSession(t testing.TB) [][]byte {
	t.Helper()
	z, err := oap.NewCompressor(1)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	hello, err := oap.NewHello(1, oap.Hello{UA: "mutant"})
	if err != nil {
		t.Fatal(err)
	}
	whole := start(1, oap.END|oap.ACKREQ, append(head(t, oap.RequestHead{Length: 2, Headers: macronode.Header{"X-Corr-Id": {"a"}}}), "hi"...))
	whole.Cap = []byte("capability")
	packed, ok := z.Compress(nil, append(head(t, oap.RequestHead{Length: oap.UnknownLength}), bytes.Repeat([]byte("squeeze me "), 40)...))
	if !ok {
		t.Fatal("not compressed")
	}
	var list [][]byte
	for _, f := range []oap.Frame{
		hello, whole, oap.Ping(),
		start(3, 0, head(t, oap.RequestHead{Length: oap.UnknownLength, Args: []macronode.Arg{{Name: "a", Value: "b"}}})),
		data(3, 0, []byte("some bytes of a body")), data(3, oap.ACKREQ, []byte("and some more")), data(3, oap.END, nil),
		start(5, oap.END|oap.COMP, packed), start(7, 0, head(t, oap.RequestHead{Op: "thing.hold", Length: oap.UnknownLength})),
		oap.Ack(0, 1), oap.Cancel(&oap.Header{Corr: 7, App: 1}), start(9, oap.END, head(t, oap.RequestHead{})), oap.GoAway(0),
	} {
		list = append(list, frameBytes(t, f))
	}
	return list
}

// mutate changes a session in one to four places, as the seed says.
func mutate(frames [][]byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0x6f6170))
	if r.IntN(4) == 0 { // frames change places, or come twice
		frames = slices.Clone(frames)
		i, j := r.IntN(len(frames)), r.IntN(len(frames))
		if r.IntN(2) == 0 {
			frames[i], frames[j] = frames[j], frames[i]
		} else {
			frames = slices.Insert(frames, i, frames[j])
		}
	}
	b := slices.Concat(frames...)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b))
		if r.IntN(3) == 0 { // in a header
			at = r.IntN(oap.HeaderBytes)
			for _, f := range frames[:r.IntN(len(frames))] {
				at += len(f)
			}
			at = min(at, len(b)-1)
		}
		end := min(len(b), at+1+r.IntN(40))
		switch r.IntN(6) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = byte(r.Uint32())
		case 2:
			b = slices.Delete(b, at, end)
		case 3:
			b = slices.Insert(b, at, b[at:end]...)
		case 4:
			b = b[:at]
		case 5:
			for i := range b[at:end] {
				b[at+i] = byte(r.Uint32())
			}
		}
		if len(b) == 0 {
			break
		}
	}
	return b
}

// play sends b as all that a client says, and reads what the node says to it.
func (w *wild) play(b []byte) error {
	c, err := net.Dial("unix", w.unix)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(b); err == nil { // else the node has closed already
		c.(*net.UnixConn).CloseWrite()
	}
	in := oap.NewReader(c, 0)
	for {
		_, err := in.Next()
		if bad, ok := errors.AsType[*oap.Error](err); ok {
			return fmt.Errorf("the node sent what is no frame: %w", bad)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.New("the connection is left open")
		}
		if err != nil {
			return nil
		}
	}
}

// TestMutatedSessions: whatever becomes of a session on its way, the node answers in
// frames or closes; nobody else notices, and nothing of it stays.
func TestMutatedSessions(t *testing.T) {
	seeds := uint64(100_000)
	if testing.Short() {
		seeds = 5_000
	}
	w := newWild(t, nil)
	frames := validSession(t)
	if err := w.play(slices.Concat(frames...)); err != nil {
		t.Fatal(err)
	}
	// run plays seeds while the session beside makes calls.
	run := func(from, to uint64) {
		t.Helper()
		var next atomic.Uint64
		next.Store(from)
		const players = 8
		ended := make(chan error, players)
		for range players {
			go func() {
				for seed := next.Add(1) - 1; seed < to; seed = next.Add(1) - 1 {
					if err := w.play(mutate(frames, seed)); err != nil {
						ended <- fmt.Errorf("seed %d: %w", seed, err)
						return
					}
				}
				ended <- nil
			}()
		}
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for left := players; left > 0; {
			select {
			case err := <-ended:
				if left--; err != nil {
					t.Error(err)
				}
			case <-tick.C:
				w.undisturbed()
			}
		}
		w.settles(1)
	}
	level := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	run(seeds, seeds+500)
	goroutines, heap := level()
	run(0, seeds)
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		g, h := level()
		if g <= goroutines && h < heap+4<<20 {
			t.Logf("%d sessions, %d calls beside them; goroutines %d, before %d; heap %d KiB, before %d", seeds, w.calls, g, goroutines, h>>10, heap>>10)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, there were %d; %d KiB of heap, there were %d", g, goroutines, h>>10, heap>>10)
		}
	}
}
